"""A trace of an event loop's turns: how long each takes, and on whose callbacks.

    with asyncio.Runner(loop_factory=TracedLoop) as runner: ...; print(runner.get_loop().told())

For asyncio's own loop, whose turn is a method. Processor time counts, so that a busy machine makes no difference.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

_SHOWN = 8
"""Callbacks that are named."""


class Turn(Struct):
    """One turn: its processor seconds, and calls and seconds by callback."""

    seconds: float
    calls: Counter[str]
    spent: defaultdict[str, float]


class TracedLoop(asyncio.SelectorEventLoop):
    """Keeps its turns for as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []
        self.keeps = False
        """Whether turns are kept."""
        self._turn = Turn(0.0, Counter(), defaultdict(float))
        self._woken = 0.0
        select = self._selector.select  # type: ignore[attr-defined]  # asyncio's own, as all below

        def selected(timeout: float | None = None) -> Any:
            found = select(timeout)
            self._woken = time.thread_time()
            return found

        self._selector.select = selected  # type: ignore[attr-defined]
        handles: Any = asyncio.Handle
        run = handles._run  # noqa: SLF001

        def counted(handle: Any) -> None:
            name = getattr(handle._callback, "__qualname__", None) or type(handle._callback).__name__  # noqa: SLF001
            begun = time.thread_time()
            run(handle)
            self._turn.calls[name] += 1
            self._turn.spent[name] += time.thread_time() - begun

        handles._run = counted  # noqa: SLF001

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self._turn.seconds = time.thread_time() - self._woken
        if self.keeps:
            self.turns.append(self._turn)
        self._turn = Turn(0.0, Counter(), defaultdict(float))

    def told(self) -> str:
        """How long the turns are, and what all of them, and the longest one of a hundred, consist of."""
        turns = sorted(self.turns, key=lambda turn: turn.seconds)
        if not turns:
            return "no turns"
        at = [f"{share:g} % {turns[int(len(turns) * share / 100)].seconds * 1e3:.2f} ms" for share in (50, 90, 99)]
        lines = [f"{len(turns)} turns: {', '.join(at)}, longest {turns[-1].seconds * 1e3:.2f} ms"]
        return "\n".join([*lines, _told("all", turns), _told("longest 1 %", turns[len(turns) * 99 // 100 :])])


def _told(title: str, turns: Sequence[Turn]) -> str:
    calls: Counter[str] = Counter()
    spent: defaultdict[str, float] = defaultdict(float)
    for turn in turns:
        calls.update(turn.calls)
        for name, seconds in turn.spent.items():
            spent[name] += seconds
    each = 1e6 / len(turns)
    lines = [f"  {title}, each {sum(turn.seconds for turn in turns) * each:.0f} us:"]
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1])[:_SHOWN]:
        lines.append(f"    {seconds * each:6.0f} us  {calls[name] / len(turns):5.1f} x {name}")
    return "\n".join(lines)
