"""The walk of one ask, from bytes to bytes; it reads like the list in docs/design.md.

Everything that happens on the way is noted in a `Trace`. On every path (an answer, a failure, a client who left in any
phase, a bug of ours) the answer's headers tell it, and one `Record` of it goes to the hooks. Must not know sockets,
nor what any format looks like.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.errors import ContextTooLong, Failure, TooLarge
from standpipe.chat.events import NOTHING, Usage
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.images import shown
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.engines.pool import Pool
from standpipe.engines.seats import Journey
from standpipe.observe.hooks import Hook
from standpipe.observe.log import Logger
from standpipe.policy.estimate import texts
from standpipe.policy.identity import ClientKey, Identity
from standpipe.policy.terms import Mode, clamp, join
from standpipe.serve.bodies import Bodies, BodyHold
from standpipe.serve.conversations import Conversations
from standpipe.serve.exchange import Exchange, bug
from standpipe.serve.limits import Limits
from standpipe.serve.stream import CapReached, Delivery, Streamed, StreamTimeouts, Whole
from standpipe.serve.ticket import Admits, Admitted
from standpipe.serve.trace import Trace, WaitPreferences, Weight, answer_headers, extra_instants, record

_P = TypeVar("_P")
"""What a body is parsed into."""


class Services(Struct, frozen=True):
    """What the walk of an ask needs of everything else."""

    pool: Pool
    admission: Admits
    identify: Callable[[Exchange], Identity]
    limits: Limits
    hash_client: Callable[[str], str]
    max_tokens: int
    system_prompt: str
    system_prompt_mode: Mode
    bodies: Bodies
    timeouts: StreamTimeouts
    hooks: Sequence[Hook]
    log: Logger
    wall_clock: Callable[[], float]
    """Unix seconds, for `created` and nothing else: every duration is the loop's."""


class _Walk:
    """What every ask has, whatever it asks for: its trace, its headers, its record. What differs is `_answer`."""

    def __init__(self, name: str, services: Services) -> None:
        """`name` is the dialect's, for logs and metrics."""
        self._name = name
        self._services = services

    async def __call__(self, exchange: Exchange) -> None:
        services = self._services
        clock = asyncio.get_running_loop().time
        trace = Trace(exchange.id, self._name, clock(), services.log.tracing)
        if trace.tell is not None:
            trace.step("arrived", trace.arrived, dialect=self._name)
        exchange.learned = lambda: answer_headers(trace, services.limits.headers(trace.client, clock()), clock())
        try:
            trace.client = services.identify(exchange).key
            with services.bodies.hold(exchange, trace.client) as hold:
                await self._answer(exchange, trace, hold)
        except Failure as failure:
            trace.failure = failure
            if trace.report.attempts > 1:  # an SDK's own attempts would multiply ours
                failure.may_retry = False
            raise
        except asyncio.CancelledError:
            trace.left = True
            raise
        except BaseException:
            trace.failure = bug(exchange.id)
            raise
        finally:
            made = record(trace, services.hash_client, clock())
            for hook in services.hooks:
                hook(made)

    async def _answer(self, exchange: Exchange, trace: Trace, hold: BodyHold) -> None:
        """Walk the walk. Raises the failure that is the answer; notes one that ended a stream."""
        raise NotImplementedError

    async def _parse(self, parse: Callable[[bytes], _P], body: bytes, hold: BodyHold) -> _P:
        """Read a body. It takes the loop's time before there is an ask to pace, so faults are paced as well."""
        await self._services.bodies.knock(hold.client)
        try:
            return await self._services.bodies.read(hold, partial(parse, body))
        except Failure:
            self._charge_fault(hold.client, len(body))
            raise

    def _charge_fault(self, client: ClientKey, size: int) -> None:
        now = asyncio.get_running_loop().time()
        self._services.admission.charge(client, now, 1 + extra_instants(size))

    def _ticket(self, exchange: Exchange, trace: Trace, journey: Journey, weight: Weight) -> Admitted:
        """The ask's way to a slot. Nobody needs the request after this, and an answer may last for minutes."""
        preferences = WaitPreferences.read(exchange.request.headers)
        exchange.request.forget()
        return self._services.admission.ticket(trace, journey, preferences, weight)

    def _guess(self, weight: Weight) -> int:
        """How many tokens the prompt has, about."""
        return math.ceil(self._services.admission.prompts.guess(weight.sizes))


class AskHandler(_Walk):
    """The handler of one dialect's path. `conversations` is None where every ask stands alone."""

    def __init__(self, dialect: Dialect, services: Services, conversations: Conversations | None = None) -> None:
        super().__init__(dialect.name, services)
        self._dialect = dialect
        self._conversations = conversations

    async def _answer(self, exchange: Exchange, trace: Trace, hold: BodyHold) -> None:
        try:
            await self._ask(exchange, trace, hold)
        except ContextTooLong as failure:
            if exchange.reply.started or not trace.stream or not self._refuse_in_stream(exchange, trace, failure):
                raise
        except TooLarge as failure:
            streams = exchange.request.headers.get(b"accept") == self._dialect.stream_type
            unread = failure.param is None  # the body itself is too large, not some field of it
            if not streams or not unread or not self._refuse_in_stream(exchange, trace, failure):
                raise

    def _refuse_in_stream(self, exchange: Exchange, trace: Trace, failure: Failure) -> bool:
        """Refuse a prompt that is too long in a stream, if that is where this dialect's clients look."""
        too_long = failure if isinstance(failure, ContextTooLong) else ContextTooLong(failure.message)
        trace.report.model = trace.report.model or ""
        if refusal := self._dialect.refusal(too_long, self._meta(trace)):
            trace.failure = failure
            exchange.send(200, refusal, self._dialect.stream_type.encode())
        return bool(refusal)

    async def _ask(self, exchange: Exchange, trace: Trace, hold: BodyHold) -> None:
        services = self._services
        conversations = self._conversations
        read = self._dialect.parse if conversations is None else partial(conversations.parse, client=hold.client)
        body = await hold.body()
        parsed = await self._parse(read, body, hold)
        trace.dropped, trace.stream = parsed.dropped, parsed.stream
        trace.report.model = services.pool.fleet.resolve(parsed.ask.model)
        if not parsed.ask.messages:
            exchange.send(200, self._dialect.answer(parsed, self._meta(trace), NOTHING))
            return
        asks = [self._on_our_terms(ask, hold.client, len(body)) for ask in (parsed.ask, *parsed.others)]
        weigh = partial(self._weigh, body, asks, held=hold.size > 0)
        weights = await services.bodies.read(hold, weigh)
        hold.resize(weights[0].size)
        del body, weigh
        await self._reply(exchange, trace, parsed, asks, weights)

    def _on_our_terms(self, ask: Ask, client: ClientKey, size: int) -> Ask:
        services, ask = self._services, self._shown(ask, client, size)
        return join(clamp(ask, services.max_tokens), services.system_prompt, services.system_prompt_mode)

    def _weigh(self, body: bytes, asks: Sequence[Ask], *, held: bool) -> list[Weight]:
        weights: list[Weight] = []
        for number, ask in enumerate(asks):
            cap = ask.sampling.max_tokens or self._services.max_tokens
            if not number:
                weights.append(Weight.of(body, texts(ask), cap, ask.images, held=held))
            else:
                weights.append(weights[0].beside(number, texts(ask), cap, ask.images))
        return weights

    def _journey(self, ask: Ask, weight: Weight, trace: Trace) -> Journey:
        pool, least = self._services.pool, self._services.admission.prompts.low(weight.sizes)
        return pool.journey(trace.report, weight.fingerprint, ask, client=trace.client, least=least)

    async def _reply(
        self, exchange: Exchange, trace: Trace, parsed: Parsed, asks: Sequence[Ask], weights: Sequence[Weight]
    ) -> None:
        """Wait for the answer and give it. Raises the failure that is the answer; notes one that ended a stream."""
        (ask,), (weight,) = asks, weights
        journey = self._journey(ask, weight, trace)
        ticket = self._ticket(exchange, trace, journey, weight)
        ticket.meter.prompt_estimate = self._guess(weight)
        delivery = self._delivery(exchange, parsed, trace, ticket, weight)
        try:
            with ticket:
                seat = await ticket.granted()
                with suppress(CapReached):
                    await self._services.pool.answer(ask, delivery, journey, seat=seat, forget=delivery.forget)
                delivery.finish()
        except Failure as failure:
            delivery.fail(failure)
            trace.failure = failure
        except Exception:
            if exchange.reply.started:  # a bug must not look like the end of an answer either
                delivery.fail(bug(exchange.id))
            raise
        finally:
            delivery.close()

    def _shown(self, ask: Ask, client: ClientKey, size: int) -> Ask:
        """The ask with the images that its engine will see. One that is refused has been read, like any other fault."""
        if not ask.images:
            return ask
        fleet = self._services.pool.fleet
        try:
            return shown(ask, sees=fleet.sees(ask.model), others=fleet.seers())
        except Failure:
            self._charge_fault(client, size)
            raise

    def _delivery(self, exchange: Exchange, parsed: Parsed, trace: Trace, ticket: Admitted, weight: Weight) -> Delivery:
        dialect = self._dialect
        if not parsed.stream:
            return Whole(lambda a: exchange.send(200, dialect.answer(parsed, self._meta(trace), a)), ticket.meter)
        return Streamed(
            exchange,
            dialect.stream_type,
            lambda: dialect.encoder(parsed, self._meta(trace, weight)),
            ticket.meter,
            ticket.look,
            self._services.timeouts,
        )

    def _meta(self, trace: Trace, weight: Weight | None = None) -> ResponseMeta:
        assert trace.report.model is not None
        now = self._services.wall_clock
        tokens = 0 if weight is None else self._guess(weight)
        return ResponseMeta(trace.id, int(now()), trace.report.model, tokens, now)


class Embeddings(_Walk):
    """The handler of POST /v1/embeddings. It waits its turn like any ask, and is charged for what is read."""

    def __init__(self, services: Services) -> None:
        super().__init__("openai_embeddings", services)

    async def _answer(self, exchange: Exchange, trace: Trace, hold: BodyHold) -> None:
        try:
            await self._embed(exchange, trace, hold)
        except Failure as failure:
            raise openai_embeddings.in_our_words(failure) from None

    async def _embed(self, exchange: Exchange, trace: Trace, hold: BodyHold) -> None:
        pool, bodies = self._services.pool, self._services.bodies
        body = await hold.body()
        parsed = await self._parse(openai_embeddings.parse, body, hold)
        trace.dropped = parsed.dropped
        trace.report.model = pool.fleet.resolve(parsed.ask.model)
        weigh = partial(Weight.of, body, parsed.ask.texts, 1, held=hold.size > 0)  # next to nothing to write
        weight = await bodies.read(hold, weigh)
        hold.resize(weight.size)
        del body, weigh
        journey = pool.journey(trace.report, weight.fingerprint, parsed.ask, client=trace.client)
        with self._ticket(exchange, trace, journey, weight) as ticket:
            seat = await ticket.granted()
            vectors = await pool.embed(parsed.ask, journey, seat=seat)
            if vectors.prompt_tokens is not None:
                ticket.meter.usage = Usage(vectors.prompt_tokens, 0)
            else:
                vectors = replace(vectors, prompt_tokens=self._guess(weight))
            exchange.send(200, openai_embeddings.answer(parsed, vectors, trace.report.model))
