"""A claim: how one ask of a worker's waits for its slot and its seats, which the keeper gives.

A ticket is told what became of it and waits for that; a lease tells how its attempt went. Where the keeper is gone,
they wait for the next one: `again` is what makes it know them. Must not know frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Self

from standpipe.chat.errors import ContextTooLong, EngineBroke, EngineFailed, Failure, TooLarge, Unsupported
from standpipe.chat.events import Waiting
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Member
from standpipe.engines.seats import Journey
from standpipe.keeper import messages
from standpipe.keeper.link import Link, failure_of
from standpipe.policy.estimate import Prompts
from standpipe.policy.identity import ClientKey
from standpipe.policy.retry import Again, Verdict, verdict
from standpipe.serve.admission import Admission, waited_in_vain
from standpipe.serve.trace import TokenMeter, Trace, WaitPreferences, Weight

_ELSEWHERE = 0.5
"""Seconds after which a seat is sought again by an ask that was given one at an engine that is not known here."""
_LACKING = (ContextTooLong, TooLarge, Unsupported)


class Claims:
    """What all tickets of a worker share. `wait_limit` is the longest wait that is accepted, in seconds."""

    def __init__(self, link: Link, fleet: Fleet, wait_limit: float) -> None:
        self.link = link
        self.fleet = fleet
        self.wait_limit = wait_limit
        self.prompts = Prompts()
        self.tickets: dict[Journey, RemoteTicket] = {}
        """Those that are open, by their journeys."""

    @property
    def draining(self) -> bool:
        """Whether nobody is let in any more."""
        return self.link.draining


class RemoteTicket:
    """As `Admitted`. Entering it asks for a place; what it is refused with is raised by `granted`."""

    __slots__ = (
        "_answer", "_charged", "_claims", "_client", "_failure", "_headroom", "_joined_at", "_lease", "_number",
        "_patience", "_place", "_preferences", "_prompt_tokens", "_question", "_tell", "_told", "_told_at", "_trace",
        "_waits_since", "_weight",
        "eligible_at", "granted_at", "held", "id", "journey", "meter", "praised", "spoken_at",
    )  # fmt: skip

    def __init__(
        self,
        claims: Claims,
        trace: Trace,
        journey: Journey,
        preferences: WaitPreferences,
        weight: Weight,
    ) -> None:
        assert trace.client is not None
        self._claims = claims
        self._client = trace.client
        self._trace = trace
        self._preferences = preferences
        self._weight = weight
        self.journey = journey
        first = partial(trace.step, "first token") if trace.tell is not None else None
        self.meter = TokenMeter(weight.cap, self.charge, first)
        self.id = 0
        self.held = 0
        self.praised = False
        self.eligible_at = 0.0
        self.granted_at: float | None = None
        self.spoken_at: float | None = None
        self._prompt_tokens = 0
        self._charged = 0
        self._number = 0
        """Its place's number; 0 while it has none."""
        self._joined_at = 0.0
        self._headroom = False
        self._lease: RemoteLease | None = None
        self._failure: Failure | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._patience: asyncio.Timeout | None = None
        self._waits_since = 0.0
        self._question: Any = None
        """What it has asked beside its place, and has had no answer to."""
        self._place = Waiting()
        self._tell: Callable[[Waiting], None] | None = None
        self._told: messages.Standings = ()
        self._told_at = 0.0

    def __enter__(self) -> Self:
        claims = self._claims
        if claims.draining:
            raise Admission.shutting_down()
        self._joined_at = asyncio.get_running_loop().time()
        self._prompt_tokens = claims.prompts.low(self._weight.sizes)
        self.id = claims.link.number(self)
        claims.tickets[self.journey] = self
        claims.link.send(self._join())
        return self

    def _join(self) -> messages.Join:
        weight, preferences = self._weight, self._preferences
        return messages.Join(
            self.id,
            told_of(self._client),
            self._prompt_tokens,
            weight.cap,
            weight.size,
            weight.fingerprint,
            self._wish,
            preferences.patient,
            preferences.retry,
            preferences.client_timeout,
            instants=weight.instants,
            held=weight.held,
        )

    @property
    def _wish(self) -> messages.Wish:
        journey = self.journey
        return messages.Wish(
            model=journey.model,
            embeds=journey.embeds,
            least=journey.least,
            prefixes=journey.prefixes,
            shows=journey.shows,
        )

    def again(self, now: float) -> list[Any]:
        """As `Entry`."""
        join = self._join()
        if self._number:
            join.age = now - self._joined_at
            join.stood = messages.Stood(
                number=self._number,
                eligible_in=self.eligible_at - now,
                granted=None if self.granted_at is None else now - self.granted_at,
                spoken=None if self.spoken_at is None else now - self.spoken_at,
                output=self._charged - self.held,
                headroom=self._headroom,
                engine=None if self._lease is None or self._lease.over else self._lease.member.engine.name,
                told=self._told,
                told_age=now - self._told_at,
            )
        elif self._answer is None and self._failure is not None:
            return []
        return [join] if self._question is None else [join, self._question]

    async def granted(self) -> RemoteLease | None:
        """As `Admitted`."""
        loop = asyncio.get_running_loop()
        longest = self._longest_wait
        if self.granted_at is None:
            if self._failure is not None:
                raise self._failure
            self._answer = loop.create_future()
            try:
                async with asyncio.timeout(longest) as self._patience:
                    await self._answer
            except TimeoutError:
                raise waited_in_vain(self._claims.fleet, loop.time(), longest) from None
            finally:
                self._answer = self._patience = None
        now = self._trace.granted_at = loop.time()
        self._trace.step("granted", now)
        self.journey.patience = max(0.0, longest - (now - max(self._joined_at, self._waits_since)))
        return self._lease

    def wait_on(self) -> None:
        """As `Admitted`."""
        if self._patience is not None and not self._patience.expired():
            self._waits_since = asyncio.get_running_loop().time()
            self._patience.reschedule(self._waits_since + self._longest_wait)

    def refuse(self, failure: Failure) -> None:
        """End the wait for the slot, if it still waits, with a failure."""
        if self.granted_at is None:
            self._answer_with(failure)

    @property
    def _longest_wait(self) -> float:
        return self._preferences.longest(self._claims.wait_limit)

    def hear(self, message: Any) -> None:
        """As `Entry`."""
        kind = type(message)
        if kind is messages.Granted:
            self._granted(message)
        elif kind is messages.Waits:
            self._has_place(message)
            self.eligible_at = asyncio.get_running_loop().time() + message.eligible_in
            self._hear_told(message.told)
        elif kind is messages.Place:
            self._place = Waiting(message.position, message.eta)
            tell, self._tell = self._tell, None
            if tell is not None:
                tell(self._place)
        elif kind is messages.Told:
            self._hear_told(message.standings[0][1])
        elif kind is messages.Refused:
            self._claims.link.learn([(self._client.address, message.tat_in)])
            self._answer_with(failure_of(message))
        else:
            self._answer_with(message)

    def _hear_told(self, told: messages.Standings) -> None:
        self._told, self._told_at = told, asyncio.get_running_loop().time()

    def _granted(self, message: messages.Granted) -> None:
        loop = asyncio.get_running_loop()
        self._has_place(message)
        self.granted_at = loop.time()
        self._headroom = message.headroom
        self._lease = self.lease(message.engine)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _has_place(self, message: messages.Waits | messages.Granted) -> None:
        now = asyncio.get_running_loop().time()
        first, self._number = not self._number, message.number
        self._joined_at = now - message.age
        self._claims.link.learn([(self._client.address, message.tat_in)])
        self._trace.meter = self.meter
        if first:
            eligible_in = message.eligible_in if isinstance(message, messages.Waits) else 0.0
            self._trace.step("queued", now, eligible_in=round(eligible_in, 4), tokens=self._weight.cap)

    def _answer_with(self, answer: Any) -> None:
        """What was asked last has its answer."""
        self._question = None
        if self._answer is None:
            self._failure = answer if isinstance(answer, Failure) else None
        elif not self._answer.done():
            if isinstance(answer, Failure):
                self._answer.set_exception(answer)
            else:
                self._answer.set_result(answer)

    def lease(self, engine: str | None) -> RemoteLease | None:
        """The seat at this engine. One that is not known here is given back at once, as a seat that is none."""
        if engine is None:
            return None
        found = next((m for m in self._claims.fleet.members if m.engine.name == engine), None)
        if found is None:
            self.send(messages.Over(self.id, "left"))
            self.journey.again = Again(_ELSEWHERE)
            return None
        return RemoteLease(self, found)

    async def ask(self, question: Any) -> Any:
        """Ask something of this ask. Gives the answer; raises what it is refused with."""
        self._question, self._lease = question, None
        self._answer = asyncio.get_running_loop().create_future()
        self.send(question)
        try:
            return await self._answer
        finally:
            self._answer = self._question = None

    async def seek(self, *, at_once: bool) -> RemoteLease | None:
        """Ask for a seat."""
        found = await self.ask(messages.Seek(self.id, self._way(), at_once))
        self._lease = self.lease(found.engine)
        return self._lease

    async def swap(self, found: Verdict, *, sent: bool) -> messages.Decided:
        """Ask what follows a failure."""
        decided: messages.Decided = await self.ask(messages.Swap(self.id, found, self._way(), sent))
        return decided

    def _way(self) -> messages.Way:
        journey, members = self.journey, self._claims.fleet.members
        fits = journey.fits
        return messages.Way(
            seen=[member.engine.name for member in journey.seen],
            worked=journey.worked,
            suspect=journey.suspect,
            died_at=None if journey.died_at is None else journey.died_at.engine.name,
            delay=journey.again.delay,
            elsewhere=journey.again.elsewhere,
            patience=None if journey.patience == inf else journey.patience,
            fits=None if fits is None else [member.engine.name for member in members if fits(member)],
        )

    def send(self, message: Any) -> None:
        """Tell the keeper."""
        self._claims.link.send(message)

    def look(self, tell: Callable[[Waiting], None]) -> None:
        """As `Admitted`."""
        waits = self.granted_at is None or isinstance(self._question, messages.Seek)
        if waits and self._claims.link.connected:
            self._tell = tell
            self.send(messages.Look(self.id))
        else:
            tell(self._place if waits else Waiting())

    def charge(self, tokens: int, now: float) -> None:
        """Output tokens have passed."""
        link = self._claims.link
        self._charged += tokens
        self.held += tokens
        if self.spoken_at is None:
            self.spoken_at = now
            if link.connected:
                link.send(messages.Charge([(self.id, self.held)]))
                self.held = 0
                return
        link.charge(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        claims, meter = self._claims, self.meter
        del claims.link.entries[self.id], claims.tickets[self.journey]
        claims.link.settled(self)
        self._tell = None
        now = asyncio.get_running_loop().time()
        end = messages.End(self.id, self.held, meter.tokens)
        if self.granted_at is not None:
            end.failed = isinstance(error, EngineFailed) or self._trace.report.attempts > 1
            usage = meter.usage
            self._trace.step("settled", now, tokens=meter.tokens, counted=usage is not None, failed=end.failed)
            if usage is not None:
                claims.prompts.learn(self._weight.sizes, usage.prompt_tokens)
                end.usage = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0
            end.praised = self.praised
            journey = self.journey
            if journey.complainer is not None and not isinstance(journey.complaint, _LACKING):
                end.complainer = journey.complainer.engine.name
        elif self._number:
            self._leave(now)
        self.send(end)

    def _leave(self, now: float) -> None:
        """It leaves its place, which a retry may have back."""
        wish = self._wish
        wish.prefixes = ()  # which line it was in does not depend on them
        place = messages.LeftPlace(
            told_of(self._client),
            self._weight.fingerprint,
            wish,
            self._number,
            now - self._joined_at,
            self.eligible_at - now,
            0.0,
        )
        self._claims.link.left.append((now, place))


class RemoteLease:
    """As `Lease`: a seat that the keeper has given."""

    company = None

    __slots__ = ("_since", "_ticket", "member", "over")

    def __init__(self, ticket: RemoteTicket, member: Member) -> None:
        self.member = member
        self.over = False
        self._ticket = ticket
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = asyncio.get_running_loop().time()
        return self

    def speaks(self, *, timed: bool = True) -> None:
        ticket = self._ticket
        ticket.send(messages.Spoke(ticket.id, asyncio.get_running_loop().time() - self._since if timed else None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over = True
        over = messages.Over(self._ticket.id, "left")
        if error is None:
            over.outcome = "answered"
        elif isinstance(error, Failure):
            over.outcome, over.message, over.retry_after = verdict(error), error.message, error.retry_after
            over.broke = isinstance(error, EngineBroke)
        self._ticket.send(over)


def told_of(client: ClientKey) -> messages.Client:
    """A client, as it is told."""
    return messages.Client(client.address, client.block, client.share, client.paced)
