"""A member: one engine of a pool, its slots, and a seat on one of them.

It keeps what the engine says of itself (health, models) and what `policy.standing` believes of it. It decides nothing,
and must not know other engines, nor who asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Self

from msgspec import Struct

from standpipe.chat.ask import Ask, Beginning
from standpipe.chat.errors import EngineBroke, EngineFailed, Failure
from standpipe.engines.engine import Card, Continuer, Described, Engine, Health, Probed
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.placed import Placed, Placement
from standpipe.policy.breaker import BreakerState
from standpipe.policy.overload import SlotRange, Slots
from standpipe.policy.retry import Verdict, verdict
from standpipe.policy.standing import EngineStanding, Fastest

REFRESH_PATIENCE = 10.0
"""Seconds that an engine may take to tell its health and models."""
PROBE_PAUSE = 1.0
"""Seconds between two looks whether the engine is idle, so that it can be probed."""
_AT_ONCE = 1.0
"""Seconds within which all connections break that break for the same reason."""


class EngineStatistics(Struct, frozen=True):
    """One engine at one instant.

    `attempts`, `answered` and `failed` count attempts since the start, `outcomes` those that are over by how they
    ended. `fault` is what failed last, in a public sentence. `failures` are those in a row that its breaker counts,
    `retry_in` the seconds until it is asked again, where it is left alone for some, `first_token` the usual seconds to
    one, `left_alone` the seconds for which it was left alone in all.
    """

    name: str
    slots: int
    busy: int
    up: bool
    reason: str | None
    models: tuple[str, ...]
    breaker: BreakerState
    failures: int
    retry_in: float
    attempts: int
    answered: int
    failed: int
    outcomes: dict[str, int]
    fault: str | None
    first_token: float | None
    left_alone: float
    handling: Handling | None
    """What it does with control tokens, where that was probed."""
    context_tokens: int | None
    """What fits into one answer's context, prompt included, where that is known: the least of its models."""
    sees: tuple[str, ...]
    """Its models that may be shown images."""
    draining: bool
    priority: int


class Member:
    """One engine, and all that the pool knows of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.placement = engine.placement if isinstance(engine, Placed) else Placement()
        self.draining = self.placement.drain
        """It is given nothing new; what runs there goes on."""
        self.leaving: asyncio.Task[None] | None = None
        """What takes it out of the fleet as soon as nothing runs there, where that is wanted."""
        self._continuer = engine if isinstance(engine, Continuer) else None
        self.at_work: Counter[Engine] = Counter()
        """Attempts that run, by engine: some may still run on one that stood here before (`become`)."""
        self.busy = 0
        self.elsewhere = 0
        """Asks of others that it works on, as it last said."""
        self.standing = EngineStanding(Slots(1, SlotRange(most=engine.slots)) if self.placement.auto else None)
        self.reason: str | None = None
        """Why it is down, as it last said."""
        self.restarts = 0
        """How often it was started again, as it last said."""
        self.models: tuple[str, ...] = ()
        self._cards: dict[str, Card] = {}
        """What another process has found of its models."""
        self.windows: dict[str, int] = {}
        """Tokens of prompt and answer together, of those of its models of which that is known."""
        self.sees: tuple[str, ...] = ()
        """Its models that may be shown images."""
        self.claim: object | None = None
        """Whoever has it, or shall have it, alone: nobody else gets a seat."""
        self.taken_at = 0
        """When it was last given an ask: the pool's count of seats."""
        self.looked_at = -inf
        self.attempts = self.answered = self.failed = 0
        self.outcomes: Counter[str] = Counter()
        self.fault: str | None = None
        self._probing: asyncio.Future[Handling] | None = None
        self._empty: asyncio.Event | None = None
        self._broke_at, self._broke_with = -inf, 0

    @property
    def up(self) -> bool:
        return self.standing.down_since is None

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """Whether it goes on with what another engine has begun to say."""
        return self._continuer is not None and self._continuer.continues(ask, begun)

    def room(self, now: float) -> int:
        """How many more asks it may be given now."""
        if self.draining or self.claim is not None:
            return 0
        slots = self.slots
        if self.elsewhere:  # one slot is ours however busy others keep it: it has a queue, and news of it are old
            slots = max(1, slots - self.elsewhere)
        return self.standing.room(slots, self.busy, now)

    @property
    def slots(self) -> int:
        """How many asks it is given at a time, as far as is known."""
        auto = self.standing.auto
        return self.engine.slots if auto is None else auto.value

    def cost(self, now: float, fastest: Fastest) -> float:
        """How dear it is to ask it next, by its load and its weight."""
        return self.standing.cost(self.slots, self.busy, now, fastest) / self.placement.weight

    def believe(self, cards: dict[str, Card], down: float | None, reason: str | None, restarts: int) -> None:
        """Go by what another process has found of the same engine: its models, and for how many seconds it is down."""
        self.models, self._cards = tuple(cards), cards
        self.windows = {name: card.window for name, card in cards.items() if card.window}
        self.sees = tuple(name for name, card in cards.items() if card.sees)
        self.reason, self.restarts = reason, restarts
        self.standing.down_since = None if down is None else asyncio.get_running_loop().time() - down

    def card(self, model: str) -> Card:
        """What it tells of one of its models."""
        if model in self._cards:
            return self._cards[model]
        return self.engine.card(model) if isinstance(self.engine, Described) else Card()

    def become(self, other: Member) -> None:
        """Be the engine of this one from now on, which has been refreshed and is in no fleet. What runs goes on at the
        engine that was here, and holds its slots. What was believed of that one is forgotten."""
        self.engine, self.placement, self.draining = other.engine, other.placement, other.draining
        self._continuer, self.standing = other._continuer, other.standing
        self.reason, self.restarts, self.elsewhere, self._cards = other.reason, other.restarts, 0, other._cards
        self.models, self.windows, self.sees, self.looked_at = other.models, other.windows, other.sees, other.looked_at

    async def left(self, engine: Engine) -> None:
        """Wait until nothing runs any more on an engine that stood here before."""
        while self.at_work[engine]:  # noqa: ASYNC110 - as above, there is no hurry
            await asyncio.sleep(1.0)
        del self.at_work[engine]

    async def refresh(self) -> None:
        """Ask for its health and models. What it does not tell now stays as it was."""
        loop = asyncio.get_running_loop()
        self.looked_at = loop.time()
        try:
            async with asyncio.timeout(REFRESH_PATIENCE):
                health = await self.engine.health()
                if health.up:
                    with suppress(EngineFailed):  # it may answer all the same
                        self.models = await self.engine.models()
                        self.windows = {name: window for name in self.models if (window := self.card(name).window)}
                        self.sees = tuple(name for name in self.models if self.card(name).sees)
        except TimeoutError:
            health = Health(up=False, reason="The engine does not respond.")
        self._believe(health)

    def _believe(self, health: Health) -> None:
        self.reason, self.restarts = health.reason, health.restarts
        now = asyncio.get_running_loop().time()
        self.elsewhere = max(0, (health.at_work or 0) - self.busy)
        if self.standing.auto is not None and health.queued:
            self.standing.auto.refused(now)
        if health.up:
            self.standing.came()
        else:
            self.standing.went(now)

    async def probe(self) -> Handling | None:
        """Probe it while nobody needs it; an ask that does ends the probe, which begins again later."""
        if not isinstance(self.engine, Probed):
            return None
        while True:
            while self.busy or not self.up:  # noqa: ASYNC110 - no event for it is worth its keep: this happens once
                await asyncio.sleep(PROBE_PAUSE)
            probing = self._probing = asyncio.ensure_future(self.engine.probe())
            try:
                await asyncio.wait((probing,))
            finally:
                self._probing = None
                probing.cancel()
            if not probing.cancelled():
                return probing.result()

    def seated(self) -> None:
        """A slot is taken. A probe that is on the last one makes way."""
        self.busy += 1
        if self._probing is not None and self.busy >= self.engine.slots:
            self._probing.cancel()

    def freed(self) -> None:
        """A slot is free again."""
        self.busy -= 1
        if self._empty is not None and not self.busy:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until nothing runs there. It must be draining."""
        self._empty = asyncio.Event()
        if self.busy:
            await self._empty.wait()

    def company(self, now: float) -> int:
        """A connection broke: how many asks ran then, among them those whose connections broke with it."""
        if now - self._broke_at > _AT_ONCE:
            self._broke_at, self._broke_with = now, self.busy
        return self._broke_with

    def statistics(self, now: float) -> EngineStatistics:
        standing = self.standing
        return EngineStatistics(
            name=self.engine.name,
            slots=self.slots,
            busy=self.busy,
            up=self.up,
            reason=self.reason,
            models=self.models,
            breaker=standing.breaker.at(now).state,
            failures=standing.breaker.failures,
            retry_in=(standing.opens_at(now) or now) - now,
            attempts=self.attempts,
            answered=self.answered,
            failed=self.failed,
            outcomes=dict(self.outcomes),
            fault=self.fault,
            first_token=standing.latency,
            left_alone=standing.left_alone,
            handling=self.engine.handling if isinstance(self.engine, Probed) else None,
            context_tokens=min(self.windows.values(), default=None),
            sees=self.sees,
            draining=self.draining,
            priority=self.placement.priority,
        )


class Seat:
    """One slot of one engine, taken for one attempt. The attempt is made in its `with`; unused, it is released.

    `changed` is called when there may be more room than before. `claim` is whoever has the engine alone until it
    begins to answer; `spoke` is given the time when it does. `tokens` are those of the prompt, about.
    """

    __slots__ = (
        "_changed", "_claim", "_engine", "_loop", "_probe", "_since", "_spoke", "_standing", "_taken", "_tokens",
        "company", "member", "spoken",
    )  # fmt: skip

    def __init__(
        self,
        member: Member,
        changed: Callable[[], None],
        claim: object | None = None,
        spoke: Callable[[float], None] | None = None,
        tokens: int = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._changed = changed
        self._claim = claim
        self._spoke = spoke
        self._tokens = tokens
        self._taken = True
        self._engine: Engine | None = None
        self._standing = member.standing
        self.member = member
        self.spoken = False
        """The engine has begun to answer."""
        self.company: int | None = None
        """Asks that ran there when the connection broke, where it did."""
        member.seated()
        self._probe = self._standing.taken(self._since)

    def __enter__(self) -> Self:
        self.member.attempts += 1
        self._engine = self.member.engine
        self.member.at_work[self._engine] += 1
        self._since = self._loop.time()
        return self

    def speaks(self, *, timed: bool = True) -> None:
        """The engine says its first word; `timed`: what that took compares with others'."""
        self.began(self._loop.time() - self._since if timed else None)

    def began(self, seconds: float | None) -> None:
        """The engine has begun to answer, after so many seconds where that compares with others'."""
        now = self._loop.time()
        self.spoken = True
        if self._spoke is not None:
            self._spoke(now)
        more = self._standing.spoke(now, seconds, self._tokens, self.member.busy)
        if (self._claim is not None and self._unclaim()) or more:
            self._changed()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.answered()
        elif isinstance(error, Failure):
            self.failed(verdict(error), error.message, error.retry_after, broke=isinstance(error, EngineBroke))
        else:
            self.left()

    def answered(self) -> None:
        """The attempt is over: there is an answer."""
        self.member.answered += 1
        self.member.outcomes["answered"] += 1
        self._standing.answered(self._loop.time())
        self.release()

    def failed(self, found: Verdict, message: str, retry_after: float | None, *, broke: bool) -> None:
        """The attempt is over: it failed like this, and the connection `broke` or not."""
        member, now = self.member, self._loop.time()
        member.failed += found is not Verdict.ASK
        member.outcomes[found] += 1
        if found is not Verdict.ASK:
            member.fault = message
        if broke:
            self.company = member.company(now)
        if found is Verdict.DOWN:
            member.reason = message
        self._standing.failed(found, now, probe=self._probe, retry_after=retry_after)
        self.release()

    def left(self) -> None:
        """The attempt is over: its client has left, or has enough."""
        self.member.outcomes["left"] += 1
        self._standing.left(probe=self._probe, spoken=self.spoken)
        self.release()

    def release(self) -> None:
        """Free the slot. Idempotent."""
        if not self._taken:
            return
        self._taken = False
        if self._engine is not None:
            self.member.at_work[self._engine] -= 1
        self.member.freed()
        self._standing.over(spoken=self.spoken)
        if self._claim is not None:
            self._unclaim()
        self._changed()

    def _unclaim(self) -> bool:
        if self.member.claim is not self._claim:
            return False
        self.member.claim = None
        return True
