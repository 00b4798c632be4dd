"""Clients who leave, in each phase of an ask: what must be left of them is the charge for what was produced, and
nothing else.
"""

from __future__ import annotations

from random import Random

from msgspec import Struct

from bench.fairness.engine import Job
from bench.fairness.world import World
from standpipe.policy.line import Line, QueueLimits, Rules, Weights

PHASES = (
    "refused at the door",
    "its instant has not come",
    "in line",
    "in line, told its place",
    "prompt being read",
    "in mid-answer",
)
_CLIENTS = 40


class Remains(Struct, frozen=True):
    """What was left of so many who left in one phase: slots and places leaked, and the largest wrong charge, in output
    tokens."""

    phase: str
    times: int
    leaked: int
    wrong: float


def leave(phase: str, times: int, seed: int = 1) -> Remains:
    """Let so many clients leave in this phase, among others who stay."""
    random = Random(seed)
    world = World(Line(Rules(limits=QueueLimits(client=2, line=60)), 4), seed=seed)
    clients = [world.client(f"10.0.{number // 3}.{number}", f"10.0.{number // 3}") for number in range(_CLIENTS)]
    gone = wrong = 0.0
    while gone < times:
        job = _ask(world, random.choice(clients), random, phase)
        if job is None:
            gone += phase == PHASES[0]
        elif phase != PHASES[0] and _reach(world, job, phase, random):
            world.hang_up(job)
            gone += 1
            wrong = max(wrong, _wrong(world, job))
        world.run(random.choice((0.0, 0.0, 0.01, 0.2)))
    world.run(3600)
    state = world.line.statistics()
    leaked = state.running + state.waiting + state.early + state.bytes + state.clients
    return Remains(phase, times, leaked, wrong)


def _ask(world: World, client: int, random: Random, phase: str) -> Job | None:
    wait = random.uniform(0.1, 2.0) if phase == PHASES[1] else 0.0
    return world.ask(client, random.randint(1, 400), random.randint(2, 200), wait=wait)


def _reach(world: World, job: Job, phase: str, random: Random) -> bool:
    """Let time pass until the ask is in this phase. False if it never is."""
    assert job.place is not None
    if phase == PHASES[1]:
        return world.now < job.place.eligible_at
    if phase in {PHASES[2], PHASES[3]}:
        world.run(0.0)
        if phase == PHASES[3] and job.start is None:
            world.line.forecast(job.place, world.now)
        return job.start is None
    while job.start is None:
        world.run(0.01)
    while job.first is None:
        world.run(0.001)
    if phase == PHASES[4]:
        return world.now < job.first
    world.run(job.first - world.now + random.choice((0.001, 0.1, 1.0)))
    return job.ended is None


def _wrong(world: World, job: Job) -> float:
    """How far the charge is from what was produced, in output tokens."""
    assert job.place is not None
    weights = Weights()
    if job.start is None:
        return job.place.charged
    assert job.first is not None
    produced = 0 if world.now < job.first else 1 + int((world.now - job.first) / world.model.output)
    due = weights.input(max(1, job.guess)) + weights.output * min(produced, job.output)
    return abs(job.place.charged - due) / weights.output
