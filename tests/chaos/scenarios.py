"""What befalls a fleet: each scenario does one thing to the first engine while the crowd goes on asking."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import statistics
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from msgspec import Struct

from tests.chaos.clients import Crowd, Outcome, Result
from tests.chaos.engine import Counts, Mode
from tests.chaos.fleet import Fleet

Disturbance = Callable[[Fleet, float], Coroutine[Any, Any, None]]
"""Disturb the fleet for so many seconds."""


class Verdict(Struct):
    """What a scenario did to the crowd."""

    name: str
    outcomes: Mapping[Outcome, int]
    first_word: tuple[float, float]
    """Seconds: median and 99th percentile."""
    attempts: float
    """Mean, of answers."""
    counts: list[Counts | None]
    """By engine; None for one that is dead at the end."""
    leaked: int
    """Asks that an engine still works on after the crowd has gone."""
    faults: list[Result]
    """The first few that were not whole."""

    def line(self) -> str:
        """One row of the table."""
        total = sum(self.outcomes.values())
        kinds = "  ".join(f"{self.outcomes.get(outcome, 0):5d} {outcome}" for outcome in Outcome)
        shares = "/".join("-" if c is None else str(c.asks) for c in self.counts)
        median, worst = (seconds * 1000 for seconds in self.first_word)
        return (
            f"{self.name:18}{total:6d} asks {kinds}  first word {median:5.0f} / {worst:5.0f} ms"
            f"  attempts {self.attempts:.2f}  by engine {shares}  leaked {self.leaked}"
        )


async def _healthy(_: Fleet, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _killed(fleet: Fleet, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    await fleet.kill(0)
    await asyncio.sleep(seconds * 3 / 4)


async def _restarted(fleet: Fleet, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    await fleet.kill(0)
    await asyncio.sleep(seconds / 4)
    await fleet.start(0)
    await asyncio.sleep(seconds / 2)


async def _stopped(fleet: Fleet, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    fleet.stop(0)
    await asyncio.sleep(seconds * 3 / 4)
    fleet.go_on(0)


def _behaving(mode: Mode) -> Disturbance:
    async def disturb(fleet: Fleet, seconds: float) -> None:
        await asyncio.sleep(seconds / 4)
        await fleet.tell(0, mode)
        await asyncio.sleep(seconds * 3 / 4)

    return disturb


async def _mixed(fleet: Fleet, seconds: float) -> None:
    """Something else to another engine every moment; two of three are well at any time."""
    loop, chance = asyncio.get_running_loop(), random.Random(7)
    end = loop.time() + seconds
    modes = [
        Mode(status=401), Mode(status=404), Mode(status=429, retry_after=1), Mode(status=500), Mode(status=503),
        Mode(after=3), Mode(after=0), Mode(after=5, end="close"), Mode(after=5, end="garbage"), Mode(first=1.0),
    ]  # fmt: skip
    number = 0
    while loop.time() < end:
        number = (number + 1) % len(fleet.engines)
        if chance.random() < 0.3:
            await fleet.kill(number)
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            await fleet.start(number)
        elif chance.random() < 0.2:
            fleet.stop(number)
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            fleet.go_on(number)
        else:
            await fleet.tell(number, chance.choice(modes))
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            await fleet.tell(number, Mode())


def _ending(*names: str) -> Disturbance:
    async def disturb(fleet: Fleet, seconds: float) -> None:
        """End one of Standpipe's processes after the other, about once a second and at no moment in particular."""
        loop, chance = asyncio.get_running_loop(), random.Random(7)
        end = loop.time() + seconds - 0.5
        while True:
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            if loop.time() > end:
                return
            with contextlib.suppress(ProcessLookupError):  # the last one has not been replaced yet
                fleet.end(chance.choice([name for name in fleet.processes if name.split()[0] in names]))

    return disturb


async def _replaced(fleet: Fleet, seconds: float) -> None:
    """A rolling restart while all of them answer, and another one before the first is quite over."""
    await asyncio.sleep(seconds / 4)
    fleet.signal(signal.SIGUSR2)
    await asyncio.sleep(seconds / 4)
    fleet.signal(signal.SIGUSR2)
    await asyncio.sleep(seconds / 2)


async def _reloaded(fleet: Fleet, seconds: float) -> None:
    for _ in range(4):
        await asyncio.sleep(seconds / 4)
        fleet.signal(signal.SIGHUP)


WITH_WORKERS: Mapping[str, Disturbance] = {
    "healthy": _healthy,
    "keeper ends": _ending("keeper"),
    "worker ends": _ending("worker"),
    "any process ends": _ending("keeper", "worker"),
    "replaced": _replaced,
    "reloaded": _reloaded,
    "killed": _killed,
    "mixed": _mixed,
}
"""Those that concern several processes, or could differ with them."""
SCENARIOS: Mapping[str, Disturbance] = {
    "healthy": _healthy,
    "killed": _killed,
    "restarted": _restarted,
    "stopped": _stopped,
    "401": _behaving(Mode(status=401)),
    "403": _behaving(Mode(status=403)),
    "404": _behaving(Mode(status=404)),
    "429": _behaving(Mode(status=429, retry_after=2)),
    "500": _behaving(Mode(status=500)),
    "503 loading": _behaving(Mode(status=503, body='{"error":{"code":503,"message":"Loading model"}}')),
    "odd 400": _behaving(Mode(status=400, body='{"error":{"message":"chaos: bad request"}}')),
    "garbage": _behaving(Mode(after=0, end="garbage")),
    "dies at once": _behaving(Mode(after=0)),
    "slow": _behaving(Mode(first=0.5, gap=0.05)),
    "dies in the middle": _behaving(Mode(after=4)),
    "half chunks": _behaving(Mode(after=4, end="close")),
    "mixed": _mixed,
}

MAY_BREAK = {"worker ends", "any process ends"}
"""Scenarios in which connections are lost: those of a worker that is killed."""
MAY_BE_CUT = {"mixed"}
"""Scenarios in which an answer that has begun may end with an error: each engine that goes on with it may fail as well.
"""


async def play(name: str, seconds: float, *flags: str, clients: int = 50, seed: int = 1) -> Verdict:
    """Play one scenario with a fleet of its own."""
    fixed = ("--first-token-timeout=1.5", "--stall-timeout=1.5")
    async with Fleet(3, *fixed, *flags) as fleet:
        crowd = Crowd(fleet.port, clients, seed)
        disturbing = asyncio.create_task({**SCENARIOS, **WITH_WORKERS}[name](fleet, seconds))
        await crowd.run(seconds)
        await disturbing
        return await _verdict(name, fleet, crowd.results)


async def _verdict(name: str, fleet: Fleet, results: list[Result]) -> Verdict:
    counts: list[Counts | None] = []
    leaked = 0
    for number in fleet.engines:
        try:
            async with asyncio.timeout(10):
                counted = await fleet.counts(number)
                while counted.running:  # what was cancelled a moment ago is still being let go
                    await asyncio.sleep(0.05)
                    counted = await fleet.counts(number)
        except (OSError, TimeoutError):
            counts.append(None)
        else:
            counts.append(counted)
            leaked += counted.running
    first = sorted(result.first_word for result in results if result.first_word is not None) or [0.0]
    return Verdict(
        name=name,
        outcomes=Counter(result.outcome for result in results),
        first_word=(statistics.median(first), first[min(len(first) - 1, int(len(first) * 0.99))]),
        attempts=statistics.mean([result.attempts for result in results if result.attempts] or [0]),
        counts=counts,
        leaked=leaked,
        faults=[result for result in results if result.outcome is not Outcome.WHOLE][:5],
    )
