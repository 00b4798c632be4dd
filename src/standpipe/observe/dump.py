"""A dump: what goes on inside right now, as lines of the log, for an operator who wonders why nothing moves (SIGUSR1).

Tasks by where they wait, with clients as hashes; no prompt, no answer, no address.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from standpipe.observe.about import OperatorStatus

Line = tuple[str, dict[str, Any]]
"""What is told of, and its fields."""
PLACES = 50
"""Kinds of tasks that are told, the most frequent first."""
_DEEPEST = 20
_CLIENTS = 20


def lines(status: OperatorStatus, engines: Iterable[Struct], edge: Struct | None) -> Iterator[Line]:
    """Everything, from the outside in. Of connections and engines, their own counts."""
    if edge is not None:
        yield "dump connections", asdict(edge)
    yield "dump queue", asdict(status.queue)
    for client in status.clients[:_CLIENTS]:
        if client.waiting or client.running:
            yield "dump client", asdict(client)
    for engine in engines:
        yield "dump engine", asdict(engine)
    places = Counter(map(where, asyncio.all_tasks()))
    for place, count in places.most_common(PLACES):
        yield "dump tasks", {"count": count, "where": place}


def where(task: asyncio.Task[Any]) -> str:
    """The calls that a task is in, from the outermost to the one that waits, each with its line."""
    calls: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and len(calls) < _DEEPEST:
        frame = _either(inner, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            break
        calls.append(f"{inner.__qualname__}:{frame.f_lineno}")
        inner = _either(inner, "cr_await", "gi_yieldfrom", "ag_await")
    return " > ".join(calls)


def _either(owner: object, *names: str) -> Any:
    """The first of these attributes that is there: coroutines and generators call the same thing differently."""
    return next((found for name in names if (found := getattr(owner, name, None)) is not None), None)
