"""Deliveries: how an answer's events reach the client, streamed or whole.

A delivery is the sink that an engine pushes into. The streamed one holds the headers until the first event, at most
`commit_after`, so that early failures keep their true status; from then on it fills every silence with a heartbeat,
and closes in exactly one of two ways: finished, or failed with an error frame and an unclean end. One lazily re-armed
timer serves both; nothing is scheduled per event. Must not know any format, nor how a slot is had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from standpipe.chat.errors import EngineFailed, Failure
from standpipe.chat.events import Answer, AnswerBuilder, Event, Failed, Waiting
from standpipe.dialects.dialect import Encoder
from standpipe.flow import Flow
from standpipe.serve.exchange import Exchange, Header
from standpipe.serve.trace import TokenMeter


class CapReached(Exception):
    """The cap was reached while the engine still wrote: raised into the engine to stop it. The answer is whole."""


class StreamTimeouts(Struct, frozen=True):
    """Seconds. `commit_after`: how long headers wait for the first event. `heartbeat`: longest silence after that."""

    commit_after: float = 8.0
    heartbeat: float = 5.0


class Delivery(Protocol):
    """A sink that also knows how to begin and end.

    `forget`, where there is one, forgets what was taken: the client has seen nothing of it.
    """

    @property
    def forget(self) -> Callable[[], None] | None: ...

    def connect(self, flow: Flow | None) -> None: ...

    def take(self, events: list[Event]) -> None: ...

    def finish(self) -> None:
        """The engine is done and its connection closed: nothing more comes."""
        ...

    def fail(self, failure: Failure) -> None:
        """There will be no more. Raises the failure where it can still be an ordinary answer."""
        ...

    def close(self) -> None:
        """Let go of timers, on every path. Idempotent."""
        ...


class Whole:
    """Folds the events and answers once."""

    __slots__ = ("_builder", "_clock", "_give", "_meter")

    def __init__(self, give: Callable[[Answer], None], meter: TokenMeter) -> None:
        """`give` gets the answer when it is whole."""
        self._clock = asyncio.get_running_loop().time
        self._give = give
        self._meter = meter
        self._builder = AnswerBuilder()

    def connect(self, flow: Flow | None) -> None:
        """Nothing ever has to be held back: the answer is bounded by the cap on tokens."""

    def take(self, events: list[Event]) -> None:
        self._builder.add(self._meter.count(events, self._clock()))
        if self._meter.full:
            raise CapReached

    def forget(self) -> None:
        """The engine failed: the next one begins anew."""
        self._builder = AnswerBuilder()
        self._meter.restart()

    def finish(self) -> None:
        answer = self._builder.answer
        if answer is None:
            raise EngineFailed("The engine ended its answer before it was complete.")
        self._give(answer)

    def fail(self, failure: Failure) -> None:
        raise failure

    def close(self) -> None:
        pass


_STREAM_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """A streamed reply: its headers, its silences and its end. What it says is another's."""

    __slots__ = (
        "_encoder", "_exchange", "_look", "_loop", "_make_encoder", "_stream_type", "_timeouts", "_timer",
        "_written_at",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        stream_type: str,
        encoder: Callable[[], Encoder],
        look: Callable[[Callable[[Waiting], None]], None],
        timeouts: StreamTimeouts,
    ) -> None:
        """`stream_type` is the answer's Content-Type. `encoder` is called when the stream begins and the model that
        answers is known as well as it can be. `look` tells what to say while there is nothing to say."""
        self._exchange = exchange
        self._stream_type = stream_type.encode()
        self._make_encoder = encoder
        self._encoder: Encoder | None = None
        self._timeouts = timeouts
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(timeouts.commit_after, self._tick)

    def _write(self, events: list[Event], now: float) -> None:
        encoder = self._encoder or self._commit()
        if data := encoder.encode(events):
            self._exchange.reply.write(data)
            self._written_at = now

    def _commit(self) -> Encoder:
        self._encoder = self._make_encoder()
        headers = [(b"content-type", self._stream_type), *_STREAM_HEADERS]
        self._exchange.start(200, headers)
        return self._encoder

    def _tick(self) -> None:
        due = self._written_at + (self._timeouts.heartbeat if self._encoder else self._timeouts.commit_after)
        now = self._loop.time()
        if now >= due:
            self._look(self._beat)
            due = now + self._timeouts.heartbeat
        self._timer = self._loop.call_at(due, self._tick)

    def _beat(self, waiting: Waiting) -> None:
        if self._timer is not None:
            self._write([waiting], self._loop.time())

    def finish(self) -> None:
        self._exchange.reply.end()

    def fail(self, failure: Failure) -> None:
        if not self._exchange.reply.started:
            raise failure
        self._write([Failed(failure)], self._loop.time())
        self._exchange.reply.abort()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Streamed(Stream):
    """Encodes events as they come, in one write per batch. What was sent cannot be forgotten."""

    forget = None

    __slots__ = ("_meter",)

    def __init__(
        self,
        exchange: Exchange,
        stream_type: str,
        encoder: Callable[[], Encoder],
        meter: TokenMeter,
        look: Callable[[Callable[[Waiting], None]], None],
        timeouts: StreamTimeouts,
    ) -> None:
        """As in a `Stream`."""
        super().__init__(exchange, stream_type, encoder, look, timeouts)
        self._meter = meter

    def connect(self, flow: Flow | None) -> None:
        self._exchange.reply.throttle(flow)

    def take(self, events: list[Event]) -> None:
        now = self._loop.time()
        self._write(self._meter.count(events, now), now)
        if self._meter.full:
            raise CapReached
