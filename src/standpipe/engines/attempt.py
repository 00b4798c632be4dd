"""One attempt: an engine's answer on its way to the sink, watched.

It stands between one engine and the caller's sink, as a sink to the one and a flow to the other, and adds what neither
has. Events are held back until the first one that says something, so that an engine which dies right after `Started`,
or finishes without a word, can still be followed by another attempt; a turn that ends after reasoning, without an
answer or a call, has failed. Silence is watched here and nowhere else; a source that the client itself holds back is
not silent. It must not know other engines, and decides nothing about
retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from msgspec import Struct

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineBroke, EngineFailed, EngineTimeout, NoAnswer
from standpipe.chat.events import Event, Finished, FinishReason, Started, answers, says_something
from standpipe.engines.engine import Engine, Sink
from standpipe.flow import Flow


class Report(Struct):
    """What the pool tells its caller about an ask while it works on it; it only ever grows truer.

    `attempts` counts the one that runs. `engine` and `model` are those of the latest attempt; `model` is the name that
    the engine is asked for until it has said its own, and `dropped` what of the ask the engine does without: both are
    settled before the sink gets its first event. `ahead` is how many others go on before it does while it waits for
    another engine, and `waited` the seconds that it has waited for one. `continued` counts how often its stream went on
    after its engine had died. `on_attempt` is called with the loop's time when an attempt begins.
    """

    attempts: int = 0
    engine: str | None = None
    model: str | None = None
    dropped: tuple[str, ...] = ()
    ahead: int | None = None
    waited: float = 0.0
    continued: int = 0
    on_attempt: Callable[[float], None] | None = None


class Silence(Struct, frozen=True):
    """Seconds that an engine may say nothing: before its first word (`first`), and after that (`later`)."""

    first: float
    later: float


class _Watch:
    """Ends what is awaited inside its `with` once the engine has been silent for too long: raises EngineTimeout.

    One loop timer, re-armed when it fires and not per batch, because `heard` changes with each of them.
    """

    __slots__ = ("_loop", "_others", "_silence", "_task", "_timer", "expired", "heard", "paused", "spoken")

    def __init__(self, silence: Silence) -> None:
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._others = 0
        """Requests to cancel the task that are not ours."""
        self.expired = False
        self.heard = self._loop.time()
        """When the engine was last heard of."""
        self.spoken = False
        """It has said its first word."""
        self.paused = False
        """The client holds it back: it cannot be blamed for its silence."""

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._others = self._task.cancelling()
        # Look when patience can be over at the soonest: which of the two it is may change while the timer runs.
        self._timer = self._loop.call_at(self.heard + min(self._silence.first, self._silence.later), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self.paused:
            self.heard = now
        due = self.heard + (self._silence.later if self.spoken else self._silence.first)
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
        elif self._task is not None:
            self.expired = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        task, self._task, self._timer = self._task, None, None  # no cycle for the collector
        if not self.expired or task is None or task.uncancel() > self._others:
            return
        if not isinstance(error, asyncio.CancelledError | EngineFailed):
            return
        if self.spoken:
            message = f"The engine stopped responding for {self._silence.later:g} s in the middle of an answer."
        else:
            message = f"The engine did not start to answer within {self._silence.first:g} s."
        raise EngineTimeout(message) from error


class Attempt:
    """A sink for one engine, and a flow for the caller's sink. One use.

    `opened` tells that the sink has been given something, `whole` that the engine has finished, `empty` that it did so
    without a word and `release` has not been called.
    """

    __slots__ = ("_flow", "_held", "_loop", "_owes_answer", "_report", "_sink", "_speaks", "_watch", "whole")

    def __init__(self, sink: Sink, report: Report, silence: Silence, speaks: Callable[[], None]) -> None:
        """`speaks` is called at the first word."""
        self._sink = sink
        self._speaks = speaks
        self._report = report
        self._watch = _Watch(silence)
        self._held: list[Event] | None = []
        self._flow: Flow | None = None
        self._owes_answer = True
        """Nothing came yet that is an answer, and nothing may have ended the turn that explains it."""
        self._loop = asyncio.get_running_loop()
        self.whole = False

    @property
    def opened(self) -> bool:
        return self._held is None

    @property
    def empty(self) -> bool:
        return self.whole and self._held is not None

    async def run(self, engine: Engine, ask: Ask) -> None:
        """Let this engine answer. Returns when the answer is whole.

        Raises EngineTimeout when the engine is silent for too long, NoAnswer when its model only reasoned, and whatever
        the engine or the sink raises.
        """
        # A stop string may be the first thing that a model says; and an answer that has begun is one.
        self._owes_answer = not ask.sampling.stop and (ask.begun is None or not ask.begun.text)
        try:
            with self._watch:
                await engine.answer(ask, self)
        except EngineFailed:
            # What an engine does wrong after it has finished takes nothing away from its answer.
            if not self.whole:
                raise
        if not self.whole:
            raise EngineBroke("The engine ended its answer before it was complete.")

    def release(self) -> None:
        """Give the sink an answer without a word after all."""
        if self._held:
            held, self._held = self._held, None
            self._sink.take(held)

    # The sink that the engine sees

    def connect(self, flow: Flow | None) -> None:
        self._flow = flow
        self._watch.paused = False
        self._sink.connect(None if flow is None else self)

    def take(self, events: list[Event]) -> None:
        self._watch.heard = self._loop.time()
        if not events:
            return  # it lives, and has nothing to say
        if self._owes_answer:
            self._look_for_answer(events)
        if type(events[-1]) is Finished:
            self.whole = True
        if self._held is not None:
            events = self._hold(self._held, events)
            if not events:
                return
        self._sink.take(events)

    def _look_for_answer(self, events: list[Event]) -> None:
        last = events[-1]
        if any(map(answers, events)):
            self._owes_answer = False
        elif not isinstance(last, Finished) or last.reason not in {FinishReason.STOP, FinishReason.TOOL_CALLS}:
            return
        elif self.opened or any(map(says_something, events)):
            raise NoAnswer("The model reasoned and then stopped without an answer. Please try again.")

    def _hold(self, held: list[Event], events: list[Event]) -> list[Event]:
        """Keep these events; gives everything that was kept as soon as one of them says something."""
        for event in events:
            if isinstance(event, Started):
                self._report.model = event.model or self._report.model
                self._report.dropped = event.dropped
                held.append(Started(self._report.model))
            else:
                held.append(event)
        if not any(map(says_something, events)):
            return []
        self._held = None
        self._watch.spoken = True
        self._speaks()
        return held

    # The flow that the caller's sink sees

    def pause(self) -> None:
        self._watch.paused = True
        if self._flow is not None:
            self._flow.pause()

    def resume(self) -> None:
        self._watch.paused = False
        self._watch.heard = self._loop.time()
        if self._flow is not None:
            self._flow.resume()

    def __repr__(self) -> str:
        state = "whole" if self.whole else "opened" if self.opened else "silent"
        return f"<Attempt {self._report.attempts} at {self._report.engine}: {state}>"
