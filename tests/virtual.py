"""Virtual time for tests: an event loop whose clock jumps, and a sink that collects.

    from tests.virtual import Collected, run

    def test_first_token_comes_after_its_delay():
        async def scene():
            await engine.answer(ask, sink := Collected())
            return sink.at[0]

        assert run(scene()) == pytest.approx(0.2)

The theory: a loop is asleep only while nothing can run, so nobody can tell whether that time really passes. When the
loop would wait for a timer, its clock jumps there instead; an hour of asyncio costs microseconds and is the same in
every run. Sockets still work: whatever is readable now is served before the clock jumps. Threads do not mix with
timers here, because a thread takes real time and the clock does not wait for it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from standpipe.chat.events import Answer, AnswerBuilder, Event, EventOrder
from standpipe.flow import Flow

T = TypeVar("T")

REAL_PATIENCE = 2.0
"""Real seconds to wait for a socket or a thread when no timer is set."""


class Deadlock(Exception):
    """Nothing is ready, nothing is scheduled, and nothing outside can wake the loop."""


class Overrun(Exception):
    """The scene went on beyond its limit of virtual time: something re-arms a timer for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose `time()` starts at 0 and jumps to the next timer when nothing is ready.

    Args:
        limit: virtual seconds after which Overrun is raised.
    """

    def __init__(self, limit: float) -> None:
        self._now = 0.0
        self._limit = limit
        super().__init__(_Jumper(self))
        # The loop's own wake-up pipe is registered by now: it alone can wake nobody.
        self._own_descriptors = len(self._jumper.get_map())

    def time(self) -> float:
        return self._now

    def skip(self, seconds: float) -> None:
        """Let this much time pass at once. Timers that were due by then fire late, as on a busy machine."""
        self._now += seconds
        if self._now > self._limit:
            raise Overrun(f"{self._now} virtual seconds have passed, the limit is {self._limit}")

    def may_be_woken(self) -> bool:
        """Whether a socket or a thread could still make something ready."""
        return len(self._jumper.get_map()) > self._own_descriptors or self._threads

    @property
    def _jumper(self) -> selectors.BaseSelector:
        return self._selector  # type: ignore[attr-defined, no-any-return]  # private in typeshed, stable since 3.4

    @property
    def _threads(self) -> bool:
        return self._default_executor is not None  # type: ignore[attr-defined]  # as above


class _Jumper(selectors.DefaultSelector):
    """Where the loop would sleep, its clock jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self._loop.skip(max(timeout, 0.0))
            return ready
        if self._loop.may_be_woken():
            ready = super().select(REAL_PATIENCE)
        if not ready:
            raise Deadlock("every task waits for another one, and no timer is set")
        return ready


def run(scene: Coroutine[Any, Any, T], *, limit: float = 86_400.0) -> T:
    """Run a coroutine to its end in virtual time and give back its result.

    Raises:
        Deadlock: the loop would block for ever.
        Overrun: more than `limit` virtual seconds passed.
        AssertionError: a task outlived the scene, or a callback or forgotten task raised.
    """
    loop = VirtualLoop(limit)
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(f"{context['message']}: {context.get('exception')!r}"))
    try:
        result = loop.run_until_complete(scene)
        leftover = [repr(task) for task in asyncio.all_tasks(loop)]
    finally:
        _close(loop)
    assert not leftover, f"tasks outlived the scene: {leftover}"
    assert not faults, f"unhandled in the loop: {faults}"
    return result


def _close(loop: VirtualLoop) -> None:
    leftover = asyncio.all_tasks(loop)
    for task in leftover:
        task.cancel()
    if leftover:
        loop.run_until_complete(asyncio.wait(leftover, timeout=60))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class Collected:
    """A Sink that keeps what it takes and holds it against the legal order.

    `events` in order, `batches` as they came, `at` the loop's time of each batch, `flow` the connected source.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[list[Event]] = []
        self.at: list[float] = []
        self.flow: Flow | None = None
        self._order = EventOrder()

    def connect(self, flow: Flow | None) -> None:
        self.flow = flow

    def take(self, events: list[Event]) -> None:
        if not events:
            return  # the engine lives
        for event in events:
            self._order.advance(event)
        self.events.extend(events)
        self.batches.append(list(events))
        self.at.append(asyncio.get_running_loop().time())

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises the failure of a failed one."""
        fold = AnswerBuilder()
        fold.add(self.events)
        assert fold.answer is not None, f"not finished: {self.events}"
        return fold.answer

    def __repr__(self) -> str:
        return f"<Collected {len(self.events)} events in {len(self.batches)} batches>"
