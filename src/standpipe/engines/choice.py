"""The choice: which engine an ask gets next, and whether it gets another one when that fails.

A choice needs numbers only: who is busy, what failed before, which asks have killed engines. An attempt (`pool`) needs
the engine itself. They are apart so that the numbers of all engines can be in one place, wherever attempts are made.
`FleetChoice` is for attempts in the same process. What is asked only after a failure may be awaited, so that another
choice may ask elsewhere. It must not know what is sent to an engine, nor clients and their line.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from standpipe.chat.errors import ContextTooLong, Quarantined, TooLarge, Unsupported
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Member, Seat
from standpipe.engines.seats import Journey, Seats
from standpipe.policy.poison import FEW, Poison
from standpipe.policy.retry import ATTEMPTS, Again, Budget, GiveUp, Verdict, decide

_SETTLE = 0.2
"""Seconds after which an engine that has just died is seen to be dead."""
_LACKING = (ContextTooLong, TooLarge, Unsupported)
_POISONED = "This request has crashed the engine twice, so it is not tried again."
_AT_WORK = frozenset({Verdict.EMPTY, Verdict.ERROR, Verdict.FAULT})
"""An engine worked in vain: another attempt has its price."""


class Lease(Protocol):
    """One slot of one engine, taken for one attempt, which is made in its `with`: see `member.Seat`."""

    member: Member

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def company(self) -> int | None:
        """Asks that ran there when the connection broke, where it did and where that is known."""
        ...

    def speaks(self, *, timed: bool = True) -> None:
        """The engine says its first word; `timed`: what that took compares with others'."""
        ...


class Choice(Protocol):
    """What the pool asks. `attempts` are the most in which an engine works on one ask, the first included."""

    fleet: Fleet
    attempts: int

    def begin(self, journey: Journey) -> None:
        """An ask is about to wait for its first seat. Raises Quarantined when engines died of it."""
        ...

    @property
    def key(self) -> bytes | None:
        """By which conversations are known again (`policy.affinity`); None where it does not matter who answered."""
        ...

    async def seated(self, journey: Journey) -> Lease:
        """A seat for an ask that goes on, as soon as there is one. Raises NoEngine when its patience ends first."""
        ...

    async def another(self, journey: Journey) -> Lease | None:
        """A seat for an ask that was answered without a word, if there is one right now."""
        ...

    async def decide(self, found: Verdict, journey: Journey, company: int | None, *, sent: bool) -> Again | GiveUp:
        """What follows a failed attempt at the engine seen last, which says this.

        `company` is the lease's, `sent` whether the client has been sent any of the answer. Raises Quarantined where
        the ask kills engines.
        """
        ...

    def praise(self, journey: Journey) -> None:
        """The ask was answered."""
        ...


class FleetChoice:
    """The choice among engines whose numbers are here.

    Args:
        fleet: the engines.
        attempts: as `Choice`.
        affinity_slack: by how much more of its slots an engine may be busy than the least busy, and still go on with a
            conversation that it answered last; 0 where conversations have no engine of their own.
        chance: gives random numbers in 0..1, for the jitter of retries.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        attempts: int = ATTEMPTS,
        affinity_slack: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.fleet = fleet
        self.attempts = attempts
        self.seats = Seats(fleet, affinity_slack)
        self.retries = 0
        """Attempts that were made because an engine had failed at its work."""
        self.seated = self.seats.seated
        self._chance = chance
        self.budget = Budget()
        self._poison = Poison()
        self._key = secrets.token_bytes(32)

    @property
    def key(self) -> bytes | None:
        return self._key if self.seats.prefers else None

    def begin(self, journey: Journey) -> None:
        """As `Choice`; marks an ask of which engines may have died."""
        now = asyncio.get_running_loop().time()
        if self._poison.refuses(journey.fingerprint, now):
            raise Quarantined(_POISONED)
        journey.suspect = self._poison.suspects(journey.fingerprint, now)

    async def another(self, journey: Journey) -> Seat | None:
        if (seat := self.seats.take(journey)) is not None:
            self._spend()
        return seat

    async def decide(self, found: Verdict, journey: Journey, company: int | None, *, sent: bool) -> Again | GiveUp:
        if company is not None and company <= FEW and journey.fingerprint:
            await self._autopsy(journey, company)
        now = asyncio.get_running_loop().time()
        decision = decide(
            found,
            worked=journey.worked,
            sent=sent,
            others=self.seats.others(journey, now),
            affords=self.budget.affords,
            chance=self._chance(),
            most=self.attempts,
        )
        self.seats.arm(now)
        if isinstance(decision, Again) and found in _AT_WORK:
            self._spend()
        return decision

    async def _autopsy(self, journey: Journey, company: int) -> None:
        """The connection broke while few asks ran: look whether the engine has died. Raises Quarantined."""
        member = journey.seen[-1]
        restarts = member.restarts
        await asyncio.sleep(_SETTLE)
        await member.refresh()
        if member.up and member.restarts == restarts:
            return
        if self._poison.died(journey.fingerprint, company, asyncio.get_running_loop().time()):
            raise Quarantined(_POISONED)
        journey.suspect, journey.died_at = True, member

    def praise(self, journey: Journey) -> None:
        self.budget = self.budget.earn()
        if journey.suspect:
            self._poison.survived(journey.fingerprint)
        # That an engine can do less than another is no fault of it.
        if journey.complainer is not None and not isinstance(journey.complaint, _LACKING):
            now = asyncio.get_running_loop().time()
            journey.complainer.standing.failed(Verdict.REFUSED, now, probe=True)

    def _spend(self) -> None:
        self.budget = self.budget.spend()
        self.retries += 1
