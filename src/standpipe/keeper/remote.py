"""Admission and choice, as a worker has them: the same faces as in a single process, asked over the link.

What is asked of every ask on its way in is answered from what was last told. Must not know frames.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2s

from standpipe.chat.errors import NoEngine
from standpipe.engines.fleet import Fleet
from standpipe.engines.seats import Journey
from standpipe.keeper import messages
from standpipe.keeper.claim import Claims, RemoteLease, RemoteTicket, told_of
from standpipe.keeper.link import Link
from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import MICROSECONDS, Rate
from standpipe.policy.retry import ATTEMPTS, Again, GiveUp, Verdict
from standpipe.serve.admission import Admission
from standpipe.serve.trace import Trace, WaitPreferences, Weight


class RemoteAdmission(Claims):
    """As `Admits`. What is asked of every ask on its way in is answered from what was last told."""

    def __init__(self, link: Link, fleet: Fleet, *, rate: Rate | None, wait_limit: float) -> None:
        super().__init__(link, fleet, wait_limit)
        self.paces = link.paces
        self.rate = rate
        self._draining = False

    @property
    def draining(self) -> bool:
        return self._draining or self.link.draining

    def drain(self) -> None:
        """Take no more asks, and refuse those of this worker that wait."""
        self._draining = True
        for ticket in list(self.tickets.values()):
            ticket.refuse(Admission.shutting_down())

    def ticket(self, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight) -> RemoteTicket:
        return RemoteTicket(self, trace, journey, preferences, weight)

    def rate_of(self, client: ClientKey) -> Rate | None:
        return None if client.paced else self.rate

    def too_fast(self, client: ClientKey, now: float) -> bool:
        rate = self.rate_of(client)
        return rate is not None and not self.paces.peek(client, int(now * MICROSECONDS), rate).remaining

    async def turn_away(self, client: ClientKey, now: float) -> None:  # noqa: ARG002  # it is the keeper's now
        await self.link.ask(lambda number: messages.Knock(number, told_of(client)))

    def charge(self, client: ClientKey, now: float, count: int = 1) -> None:
        if count and (rate := self.rate_of(client)) is not None:
            self.paces.reserve(client, int(now * MICROSECONDS), rate, count)
            self.link.send(messages.Fault(told_of(client), count))

    async def own(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        found = await self.link.ask(lambda number: messages.Whose(number, told_of(client)))
        self.link.learn([(client.address, found.tat_in)])
        return list(found.requests)


class RemoteChoice:
    """As `Choice`. `prefers` is whether it matters where a conversation was answered last."""

    def __init__(self, claims: Claims, *, attempts: int = ATTEMPTS, prefers: bool = False) -> None:
        self.fleet = claims.fleet
        self.attempts = attempts
        self._tickets = claims.tickets
        self._link = claims.link
        self._prefers = prefers

    def begin(self, journey: Journey) -> None:
        """The keeper says whether it must not be tried, when it asks for a place."""

    @property
    def key(self) -> bytes | None:
        secrets = self._link.secrets
        if not self._prefers or secrets is None or len(self.fleet.members) == 1:
            return None
        return blake2s(b"conversations", key=secrets.tap).digest()

    async def seated(self, journey: Journey) -> RemoteLease:
        clock = asyncio.get_running_loop().time
        since = clock()
        try:
            lease = await self._tickets[journey].seek(at_once=False)
        finally:
            waited = clock() - since
            journey.patience -= waited
            journey.report.waited += waited
        if lease is None:
            raise NoEngine("No engine became free in time. Please try again.", retry_after=5.0)
        return lease

    async def another(self, journey: Journey) -> RemoteLease | None:
        return await self._tickets[journey].seek(at_once=True)

    async def decide(
        self,
        found: Verdict,
        journey: Journey,
        company: int | None,  # noqa: ARG002  # the keeper has counted
        *,
        sent: bool,
    ) -> Again | GiveUp:
        decided = await self._tickets[journey].swap(found, sent=sent)
        journey.suspect = decided.suspect
        journey.died_at = next((m for m in self.fleet.members if m.engine.name == decided.died_at), None)
        return GiveUp() if decided.gives_up else Again(decided.delay, decided.elsewhere)

    def praise(self, journey: Journey) -> None:
        self._tickets[journey].praised = True
