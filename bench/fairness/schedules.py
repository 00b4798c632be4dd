"""Random schedules: small lines under the watch, with everything that may happen to an ask, in any order."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from msgspec import Struct

from bench.fairness.watch import Watch, Watched
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import LargestAsk, QueueLimits, Rules, Stage, TooManyWaiting, Weights


def rules(random: Random) -> tuple[Rules, int]:
    """Rules and a number of slots for a small line."""
    slots = random.choice((1, 2, 3, 4, 6))
    reach = LargestAsk(random.choice((1, 16, 200)), random.choice((1, 8, 100)), random.choice((0.0, 0.5, 1.0)))
    weights = Weights(
        prompt=random.choice((0.5, 1.0)), output=random.choice((1.0, 2.0, 5.0)), least=random.choice((1.0, 64.0))
    )
    return (
        Rules(
            client_slots=random.choice((0, 1, 2, 3)),
            headroom=random.choice((None, 0, 1, 2)),
            weights=weights,
            largest=reach,
            limits=QueueLimits(client=6),
        ),
        slots,
    )


def people(random: Random) -> list[ClientKey]:
    """A few clients, some in one block, some with several shares."""
    clients = []
    for block in range(random.randint(1, 4)):
        for address in range(random.randint(1, 3)):
            shares = random.choice(((None,), (None,), (None, "a"), ("a", "b")))
            clients += [ClientKey(f"{block}.{address}", f"{block}", share) for share in shares]
    return clients


class Person(Struct, frozen=True):
    """How one client asks. `size` scales its prompts and answers; one that is `full` always has asks waiting."""

    key: ClientKey
    size: float
    full: bool


class Schedule:
    """One line's life: `step` lets something happen that may."""

    watch_of: type[Watch] = Watch

    def __init__(self, random: Random) -> None:
        self.random = random
        self.watch = self.watch_of(*rules(random))
        self.people = [Person(key, random.choice((0.0, 0.5, 1.0)), random.random() < 0.5) for key in people(random)]
        self.eager = random.random() < 0.7
        """Whether slots are granted whenever anything happened, as in service, or at any time."""
        self.now = 0.0

    def step(self) -> None:
        happening = self.random.choices(
            (self.join, self.grant, self.charge, self.end, self.leave, self.pass_time), (20, 20, 30, 20, 3, 7)
        )[0]
        happening()
        for person in self.people:
            if person.full and not any(place.client == person.key for place in self.watch.line.asks(person.key)):
                self.ask(person, 0.0)
        while self.eager and self.watch.grant(self.now):
            pass

    def join(self) -> None:
        self.ask(self.random.choice(self.people), self.random.choice((0.0, 0.0, 0.5, 1.5)))

    def ask(self, person: Person, wait: float) -> None:
        reach = self.watch.rules.largest
        prompt = self._size(person, reach.prompt_tokens)
        least = int(prompt * (1 - reach.late) + 0.999)
        guess = self.random.choice((least, prompt, self.random.randint(least, max(least, reach.prompt_tokens))))
        output = self._size(person, reach.output_tokens)
        with suppress(TooManyWaiting):
            self.watch.join(person.key, self.now, self.now + wait, guess, prompt, output)

    def _size(self, person: Person, most: int) -> int:
        return max(1, round(most * person.size)) if self.random.random() < 0.8 else self.random.randint(1, most)

    def grant(self) -> None:
        self.watch.grant(self.now)

    def charge(self) -> None:
        watched = self._any(Stage.RUNNING)
        if watched is not None:
            left = watched.output - watched.produced
            if left > 0:
                self.watch.charge(watched, self.random.choice((1, left, self.random.randint(1, left))), self.now)

    def end(self) -> None:
        watched = self._any(Stage.RUNNING)
        if watched is not None:
            self.finish(watched)

    def finish(self, watched: Watched) -> None:
        if self.random.random() < 0.7:
            real = self.random.choice((watched.produced, self.random.randint(0, watched.output)))
            cached = self.random.choice((0, 0, self.random.randint(0, watched.prompt)))
            self.watch.settle(watched, cached, real)
        self.watch.release(watched, self.now)

    def leave(self) -> None:
        watched = self._any(Stage.WAITING)
        if watched is not None:
            self.watch.leave(watched, self.now)

    def pass_time(self) -> None:
        self.now += self.random.choice((0.1, 0.5, 2.0))

    def _any(self, state: Stage) -> Watched | None:
        some = [watched for watched in self.watch.asks.values() if watched.place.stage is state]
        return self.random.choice(some) if some else None


def run(seed: int, steps: int, kind: type[Schedule] = Schedule) -> float:
    """One schedule. Returns the largest gap as a part of 2U. Raises Broken."""
    schedule = kind(Random(seed))
    for _ in range(steps):
        schedule.step()
    return schedule.watch.worst
