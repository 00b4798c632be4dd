"""Several answers to one request, as `n` and lists of prompts want them: asks of one client that are answered as one.

Each choice has an instant, a place in line and a slot of its own, and is charged like any ask: nobody gets ahead by
asking for several at once. All join the line before any goes on, so the refusal of one refuses the whole while nothing
has been spent. When one fails later, the others end with it, because some of the choices would look like all of them. A
choice that is whole frees its slot at once, and those that still wait begin to wait anew: what they wait for is mostly
each other, and who was let in at the start is not refused for that in the middle. Must not know any format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol

from msgspec import Struct

from standpipe.chat.ask import Ask
from standpipe.chat.errors import Failure
from standpipe.chat.events import Answer, Event, Waiting
from standpipe.dialects.dialect import Encoder, ManyChoices, Parsed, ResponseMeta
from standpipe.engines.seats import Journey
from standpipe.flow import Flow
from standpipe.serve.exchange import Exchange, bug
from standpipe.serve.stream import CapReached, Stream, StreamTimeouts, Whole
from standpipe.serve.ticket import Admitted
from standpipe.serve.trace import TokenMeter, Trace, WaitPreferences, Weight
from standpipe.serve.walk import AskHandler, Services


class _Choice(Struct):
    """One of the asks on its way. `held` lets go of its ticket, once."""

    ask: Ask
    trace: Trace
    journey: Journey
    ticket: Admitted
    held: ExitStack


class ChoicesHandler(AskHandler):
    """The handler of a path whose requests may want several answers."""

    def __init__(self, dialect: ManyChoices, services: Services) -> None:
        super().__init__(dialect, services)
        self._many = dialect

    async def _reply(
        self, exchange: Exchange, trace: Trace, parsed: Parsed, asks: Sequence[Ask], weights: Sequence[Weight]
    ) -> None:
        if not parsed.others:
            await super()._reply(exchange, trace, parsed, asks, weights)
            return
        choices = self._choices(exchange, trace, asks, weights)
        together = self._together(exchange, trace, parsed, choices)
        try:
            with ExitStack() as held:
                for choice in choices:
                    held.enter_context(choice.held)  # also of one that is cancelled before it has begun
                    choice.held.enter_context(choice.ticket)
                await self._answer_all(choices, together)
                together.finish()
        except Failure as failure:
            together.fail(failure)
            trace.failure = failure
        except Exception:
            if exchange.reply.started:
                together.fail(bug(exchange.id))
            raise
        finally:
            together.close()
            trace.gather([choice.trace for choice in choices])

    def _choices(
        self, exchange: Exchange, trace: Trace, asks: Sequence[Ask], weights: Sequence[Weight]
    ) -> list[_Choice]:
        """The choices, none of which holds anything yet."""
        preferences = WaitPreferences.read(exchange.request.headers)
        exchange.request.forget()
        found: list[_Choice] = []
        for ask, weight in zip(asks, weights, strict=True):
            own = trace.fork()
            journey = self._journey(ask, weight, own)
            ticket = self._services.admission.ticket(own, journey, preferences, weight)
            ticket.meter.prompt_estimate = self._guess(weight)
            found.append(_Choice(ask, own, journey, ticket, ExitStack()))
        return found

    def _together(self, exchange: Exchange, trace: Trace, parsed: Parsed, choices: Sequence[_Choice]) -> _Together:
        dialect, tickets = self._many, [choice.ticket for choice in choices]

        def meta() -> ResponseMeta:
            trace.gather([choice.trace for choice in choices])
            return self._meta(trace)

        if not parsed.stream:
            return _WholeTogether(exchange, lambda answers: dialect.answers(parsed, meta(), answers), tickets)
        kind, timeouts = dialect.stream_type, self._services.timeouts
        return _StreamedTogether(exchange, kind, lambda: dialect.encoders(parsed, meta()), tickets, timeouts)

    async def _answer_all(self, choices: Sequence[_Choice], together: _Together) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for choice, sink in zip(choices, together.sinks, strict=True):
                    group.create_task(self._answer_one(choice, sink, choices))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _answer_one(self, choice: _Choice, sink: Whole | _Voice, choices: Sequence[_Choice]) -> None:
        with choice.held:
            seat = await choice.ticket.granted()
            with suppress(CapReached):
                await self._services.pool.answer(choice.ask, sink, choice.journey, seat=seat, forget=sink.forget)
            sink.finish()
        for other in choices:
            other.ticket.wait_on()


class _Together(Protocol):
    """How several answers reach the client: a sink for each, and an end for all, as a delivery has it."""

    @property
    def sinks(self) -> Sequence[Whole | _Voice]: ...

    def finish(self) -> None: ...

    def fail(self, failure: Failure) -> None: ...

    def close(self) -> None: ...


class _WholeTogether:
    """Answers once, when every choice is whole."""

    def __init__(
        self, exchange: Exchange, encode: Callable[[Sequence[Answer]], bytes], tickets: Sequence[Admitted]
    ) -> None:
        self._exchange = exchange
        self._encode = encode
        self._answers: dict[int, Answer] = {}
        self.sinks = [Whole(partial(self._answers.__setitem__, i), one.meter) for i, one in enumerate(tickets)]

    def finish(self) -> None:
        self._exchange.send(200, self._encode([self._answers[place] for place in range(len(self.sinks))]))

    def fail(self, failure: Failure) -> None:
        raise failure

    def close(self) -> None:
        pass


class _StreamedTogether(Stream):
    """One stream in which all choices speak, each through an encoder of its own. Silences are filled for the first of
    them that is not whole yet."""

    __slots__ = ("_encoders", "_flows", "_make_encoders", "_open", "_paused", "_tickets", "sinks")

    def __init__(
        self,
        exchange: Exchange,
        stream_type: str,
        encoders: Callable[[], Sequence[Encoder]],
        tickets: Sequence[Admitted],
        timeouts: StreamTimeouts,
    ) -> None:
        """As in a `Stream`; an encoder and a ticket for each choice."""
        super().__init__(exchange, stream_type, self._first_encoder, self._look_at_one, timeouts)
        self._make_encoders = encoders
        self._encoders: Sequence[Encoder] = ()
        self._tickets = tickets
        self._open = list(range(len(tickets)))
        self._flows: dict[int, Flow] = {}
        self._paused = False
        self.sinks = [_Voice(self, place, ticket.meter) for place, ticket in enumerate(tickets)]
        exchange.reply.throttle(self)

    def _first_encoder(self) -> Encoder:
        self._encoders = self._make_encoders()
        return self._encoders[self._open[0]]

    def _look_at_one(self, tell: Callable[[Waiting], None]) -> None:
        self._tickets[self._open[0]].look(tell)

    def say(self, place: int, events: list[Event], now: float) -> None:
        """One choice goes on."""
        if self._encoder is None:
            self._commit()
        if data := self._encoders[place].encode(events):
            self._exchange.reply.write(data)
            self._written_at = now

    def end(self, place: int) -> None:
        """One choice is whole."""
        if len(self._open) > 1:
            self._open.remove(place)
            self._encoder = self._encoders[self._open[0]]

    def connect(self, place: int, flow: Flow | None) -> None:
        """One choice comes from this source now."""
        former = self._flows.pop(place, None)
        if self._paused and former is not None:
            former.resume()
        if flow is not None:
            self._flows[place] = flow
            if self._paused:
                flow.pause()

    def pause(self) -> None:
        """The client is behind: so are all choices. As a `Flow`."""
        self._paused = True
        for flow in self._flows.values():
            flow.pause()

    def resume(self) -> None:
        self._paused = False
        for flow in self._flows.values():
            flow.resume()

    def close(self) -> None:
        self._exchange.reply.throttle(None)
        super().close()


class _Voice:
    """The sink of one choice of a stream. What was sent cannot be forgotten."""

    forget = None

    __slots__ = ("_clock", "_meter", "_place", "_stream")

    def __init__(self, stream: _StreamedTogether, place: int, meter: TokenMeter) -> None:
        self._clock = asyncio.get_running_loop().time
        self._stream = stream
        self._place = place
        self._meter = meter

    def connect(self, flow: Flow | None) -> None:
        self._stream.connect(self._place, flow)

    def take(self, events: list[Event]) -> None:
        now = self._clock()
        self._stream.say(self._place, self._meter.count(events, now), now)
        if self._meter.full:
            raise CapReached

    def finish(self) -> None:
        self._stream.end(self._place)
