"""Seats: who gets which engine, and when.

A seat is a slot that is taken: the choice of the engine and the taking of its slot are one step, so no more is granted
than can be served. An ask that goes on elsewhere, or for which there is no seat now, waits here, before all who wait in
line, because it has had its turn. A suspect (`policy.poison`) waits until nobody else does, and gets an engine for
itself. `policy.standing` decides which engine is asked; this must not know attempts, nor clients and their line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from math import inf

from standpipe.chat.errors import Failure, NoEngine
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Embedder
from standpipe.engines.fleet import REFRESH, Fleet
from standpipe.engines.member import Member, Seat
from standpipe.engines.timer import Timer
from standpipe.policy.affinity import Affinity
from standpipe.policy.identity import ClientKey
from standpipe.policy.retry import Again, Others
from standpipe.policy.standing import Fastest, Option, choose

_LAST = 5.0
"""Seconds for which a suspect waits until nobody else does, and for the engine that has died already."""
_ALONE = 15.0
"""Seconds after which a suspect that could not be alone goes on in company: an engine is not kept empty for longer."""


class Journey:
    """One ask's way through the engines: what it wants, and what has become of it there.

    Args:
        report: is kept up to date for the caller.
        model: the name that was asked for.
        embeds: it wants vectors.
        shows: there are images in it.
        patience: seconds that it may wait for seats, in all.
        least: tokens of its prompt, a low estimate: it is given to no engine with a smaller window.
        fingerprint: a digest of the request, by which one that kills engines is known again; b"" for none.
        prefixes: digests of its conversation's beginnings (`policy.affinity`); () where they don't matter.
        client: whose it is, for engines that are told.
    """

    __slots__ = (
        "again", "broke", "client", "complainer", "complaint", "died_at", "embeds", "empty", "fingerprint", "fits",
        "least", "model", "patience", "prefixes", "report", "seen", "shows", "since",
        "suspect", "worked",
    )  # fmt: skip

    def __init__(
        self,
        report: Report | None = None,
        *,
        model: str | None = None,
        embeds: bool = False,
        shows: bool = False,
        patience: float = inf,
        least: int = 0,
        fingerprint: bytes = b"",
        prefixes: tuple[bytes, ...] = (),
        client: ClientKey | None = None,
    ) -> None:
        self.client = client
        self.report = report or Report()
        self.patience = patience
        self.fingerprint = fingerprint
        self.prefixes = prefixes
        self.model = model
        self.embeds = embeds
        self.shows = shows
        self.least = least
        self.seen: list[Member] = []
        """Engines that it was given to, in order."""
        self.worked = 0
        """Attempts in which an engine worked on it, or found it wrong."""
        self.again = Again()
        """What was decided of the next attempt."""
        self.complaint: Failure | None = None
        """The first engine's opinion that the ask is wrong."""
        self.complainer: Member | None = None
        self.empty = False
        """It was answered without a word once."""
        self.suspect = False
        """An engine may have died of it: it goes last, and alone."""
        self.died_at: Member | None = None
        self.broke: Failure | None = None
        """Why its answer broke off, where the client has been sent some of it."""
        self.fits: Callable[[Member], bool] | None = None
        """Whether an engine can go on with that answer."""
        self.since = 0.0
        """When it began to wait for a seat."""

    def alike(self) -> Journey:
        """Another one that wants the same and has not set out: the same engines can take it."""
        return Journey(model=self.model, embeds=self.embeds, shows=self.shows, least=self.least)


class Seats:
    """The seats of a fleet. A conversation stays at its engine while that is dearer than others by at most `slack`."""

    def __init__(self, fleet: Fleet, slack: float = 0.0) -> None:
        self.fleet = fleet
        self._slack = slack
        self._affinity: Affinity[Member] = Affinity()
        self._taken = 0
        self._waiting: dict[Journey, asyncio.Future[Seat]] = {}
        self._timer = Timer(self.changed)
        self.on_change: Callable[[], None] = lambda: None
        """Called when a seat may be had that was not there before."""
        self.others_wait: Callable[[], bool] = lambda: False
        """Whether anybody waits for a first seat: a suspect lets them go first."""
        fleet.on_change = self.changed

    def usable(self, now: float, members: Iterable[Member]) -> tuple[int, int]:
        """How many asks may run now, with those that run there and all that wait here; and how many seats are free."""
        busy, room = len(self._waiting), 0
        for member in members:
            busy += member.busy
            room += member.room(now)
        return busy + room, room

    def able(self, journey: Journey) -> tuple[Member, ...]:
        """The engines that can do what is wanted."""
        members = self.fleet.members
        return members if len(members) == 1 else tuple(member for member in members if self.can(member, journey))

    def take(self, journey: Journey) -> Seat | None:
        """A seat at the engine that is to be asked next, taken; None when there is none for this ask now."""
        if journey.suspect:
            return None
        now = asyncio.get_running_loop().time()
        members = self.fleet.members
        if len(members) == 1 and not journey.seen:
            found = 0 if members[0].room(now) and self._rank(members[0], journey) is not None else None
        else:
            home = self._affinity.home(journey.prefixes, now)
            at = None if home is None or home not in members else members.index(home)
            found = choose(self._options(journey, now), at, self._slack)
        return None if found is None else self._seat(members[found], journey)

    @property
    def prefers(self) -> bool:
        """Whether it matters where a conversation was answered last."""
        return self._slack > 0 and len(self.fleet.members) > 1

    def _options(self, journey: Journey, now: float) -> list[Option | None]:
        members, seen = self.fleet.members, journey.seen
        elsewhere = journey.again.elsewhere and self.others(journey, now).expected
        fastest = Fastest.of(member.standing for member in members if member.up)
        options: list[Option | None] = []
        for member in members:
            rank = self._rank(member, journey)
            if rank is None or not member.room(now) or (elsewhere and member in seen):
                options.append(None)
                continue
            cost = member.cost(now, fastest)
            options.append(Option(seen.count(member), rank, member.placement.priority, cost, member.taken_at))
        return options

    def _rank(self, member: Member, journey: Journey) -> int | None:
        """How well this engine can do what is wanted, 0 for best; None when it cannot at all."""
        if journey.embeds and not isinstance(member.engine, Embedder):
            return None
        if journey.fits is not None and not journey.fits(member):
            return None
        if journey.shows and not self.fleet.sees_at(member, journey.model):
            return None
        rank = self.fleet.rank(member, journey.model, embeds=journey.embeds)
        if rank is None or not journey.least:
            return rank
        window = self.fleet.window_at(member, journey.model)
        return None if window is not None and journey.least >= window else rank

    def can(self, member: Member, journey: Journey) -> bool:
        """Whether this engine can do what is wanted at all."""
        return self._rank(member, journey) is not None

    def _seat(self, member: Member, journey: Journey, *, alone: bool = False) -> Seat:
        self._taken += 1
        member.taken_at = self._taken
        spoke = partial(self._affinity.answered, journey.prefixes, member) if journey.prefixes else None
        return Seat(member, self.changed, journey if alone else None, spoke, journey.least)

    def resume(self, member: Member, journey: Journey) -> Seat:
        """The seat of an ask that was given it elsewhere and works there: there is one, whatever else is known."""
        return self._seat(member, journey)

    def others(self, journey: Journey, now: float) -> Others:
        """The engines that have not seen this ask."""
        unseen = [member for member in self.fleet.members if member not in journey.seen and self.can(member, journey)]
        patience = min(journey.patience, REFRESH)
        return Others(
            expected=any(not member.draining and member.standing.expected(now, patience) for member in unseen),
            idle=any(member.room(now) for member in unseen),
        )

    async def seated(self, journey: Journey) -> Seat:
        """A seat for an ask that goes on, as soon as there is one. Raises NoEngine when its patience ends first."""
        if not journey.again.delay and (seat := self.take(journey)) is not None:
            return seat
        loop = asyncio.get_running_loop()
        journey.since = loop.time()
        future = self._waiting[journey] = loop.create_future()
        try:
            self.changed()
            async with asyncio.timeout(None if journey.patience == inf else journey.patience):
                granted: Seat = await future
                return granted
        except BaseException as error:
            if future.done() and not future.cancelled():
                future.result().release()
            if isinstance(error, TimeoutError):
                raise NoEngine("No engine became free in time. Please try again.", retry_after=5.0) from None
            raise
        finally:
            waited = loop.time() - journey.since
            journey.patience -= waited
            journey.report.waited += waited
            journey.report.ahead = None
            self._waiting.pop(journey, None)
            if not future.done() or future.cancelled():
                self._unclaim(journey)

    def _unclaim(self, journey: Journey) -> None:
        for member in self.fleet.members:
            if member.claim is journey:
                member.claim = None

    def changed(self) -> None:
        """Give seats to those who wait here, then to those who wait in line, and to suspects last."""
        now = asyncio.get_running_loop().time()
        if self._waiting:
            for journey, future in list(self._waiting.items()):
                if now >= journey.since + journey.again.delay and (seat := self.take(journey)) is not None:
                    self._give(journey, future, seat)
        self.on_change()
        if self._waiting:
            for journey, future in list(self._waiting.items()):
                if journey.suspect and (member := self._alone(journey, now)) is not None:
                    self._give(journey, future, self._seat(member, journey, alone=True))
            for ahead, journey in enumerate(self._waiting):
                journey.report.ahead = ahead
        self.arm(now)

    def _give(self, journey: Journey, future: asyncio.Future[Seat], seat: Seat) -> None:
        self._waiting.pop(journey, None)
        if future.done():  # its client has just left
            seat.release()
        else:
            future.set_result(seat)

    def _alone(self, journey: Journey, now: float) -> Member | None:
        """The engine that a suspect gets for itself now. One is kept free for it when it has waited for a while."""
        waited = now - journey.since
        late = waited >= _LAST
        if not late and self.others_wait():
            return None
        free = [m for m in self.fleet.members if m.claim in {None, journey} and not m.draining and self.can(m, journey)]
        free = [m for m in free if m.standing.room(m.slots, 0, now)]
        if not late and journey.died_at is not None:
            free = [member for member in free if member is journey.died_at]
        self._unclaim(journey)
        best = min(free, key=lambda member: (member.busy, journey.seen.count(member)), default=None)
        if best is None or (best.busy and not late):
            return None
        if waited >= _ALONE:
            return best if best.room(now) else None
        best.claim = journey
        return best if not best.busy else None

    def arm(self, now: float) -> None:
        """Wake up when time alone may have made room."""
        instants = [at for member in self.fleet.members if (at := member.standing.opens_at(now)) is not None]
        for journey in self._waiting:
            waits = (_LAST, _ALONE) if journey.suspect else (journey.again.delay,)
            instants += [at for wait in waits if (at := journey.since + wait) > now]
        self._timer.set(min(instants, default=None))

    def close(self) -> None:
        """Let go of the timer."""
        self._timer.set(None)
