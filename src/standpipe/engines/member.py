"""A member: one engine of a pool, and all that the pool knows of it.

Its slots that are taken, its health and models as it last told them, its breaker and its budget of retries. It decides
nothing: `policy` decides, this keeps what was decided. It knows no other engine.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from standpipe.chat.errors import EngineFailed
from standpipe.engines.engine import Engine, Health, Probed
from standpipe.engines.guard.control_tokens import Handling
from standpipe.policy.breaker import Breaker, BreakerState
from standpipe.policy.retry import Budget

REFRESH_PATIENCE = 10.0
"""Seconds that an engine may take to tell its health and models."""
PROBE_PAUSE = 1.0
"""Seconds between two looks for a free slot to probe on: whoever asks goes first."""


class EngineStatistics(Struct, frozen=True):
    """One engine at one instant.

    `attempts`, `answered` and `failed` count attempts since the start, `failures` those in a row that its breaker
    counts. `retry_in` is the seconds until an open breaker half-opens, `budget` the retries it may still be sent.
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
    budget: float
    attempts: int
    answered: int
    failed: int
    handling: Handling | None
    """What it does with control tokens, where that was probed."""


class Member:
    """One engine, and all that the pool knows of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.busy = 0
        self.health = Health(up=True)
        self.models: tuple[str, ...] = ()
        self.breaker = Breaker()
        self.budget = Budget()
        self.attempts = self.answered = self.failed = 0

    @property
    def free(self) -> int:
        return max(0, self.engine.slots - self.busy)

    def trusted(self, now: float) -> bool:
        return self.health.up and self.breaker.admits(now)

    async def refresh(self) -> None:
        """Ask for its health and models. What it does not tell now stays as it was."""
        try:
            async with asyncio.timeout(REFRESH_PATIENCE):
                self.health = await self.engine.health()
                if self.health.up:
                    self.models = await self.engine.models()
        except TimeoutError:
            self.health = Health(up=False, reason="The engine does not respond.")
        except EngineFailed:
            # Up, but it lists no models: it may answer all the same.
            return

    async def probe(self) -> None:
        """Probe it on one of its slots, once one is free."""
        if not isinstance(self.engine, Probed):
            return
        while not self.free:  # noqa: ASYNC110 - no event for it is worth its keep: this happens once
            await asyncio.sleep(PROBE_PAUSE)
        self.busy += 1
        try:
            await self.engine.probe()
        finally:
            self.busy -= 1

    def take(self, now: float) -> bool:
        """Occupy a slot. Gives whether this attempt is the breaker's probe."""
        self.busy += 1
        self.attempts += 1
        if self.breaker.state is BreakerState.CLOSED:
            return False
        before = self.breaker.at(now)
        self.breaker = before.take(now)
        return self.breaker.state is BreakerState.PROBING and before.state is not BreakerState.PROBING

    def answer(self) -> None:
        self.answered += 1
        self.budget = self.budget.earn()
        self.breaker = self.breaker.answered()

    def fail(self, now: float, *, probe: bool) -> None:
        self.failed += 1
        self.breaker = self.breaker.failed(now, probe=probe)

    def release(self, *, probe: bool) -> None:
        """Free the slot. A probe that got no verdict leaves the breaker half-open."""
        self.busy -= 1
        if probe:
            self.breaker = self.breaker.lost(probe=probe)

    def statistics(self, now: float) -> EngineStatistics:
        breaker = self.breaker.statistics(now)
        return EngineStatistics(
            name=self.engine.name,
            slots=self.engine.slots,
            busy=self.busy,
            up=self.health.up,
            reason=self.health.reason,
            models=self.models,
            breaker=breaker.state,
            failures=breaker.failures,
            retry_in=breaker.retry_in,
            budget=self.budget.retries,
            attempts=self.attempts,
            answered=self.answered,
            failed=self.failed,
            handling=self.engine.handling if isinstance(self.engine, Probed) else None,
        )
