"""Random schedules: small lines under the watch, with everything that may happen to an ask, in any order."""

from __future__ import annotations

from random import Random

from bench.fairness.watch import Watch, Watched
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Reach, Room, Rules, State, TooManyWaiting, Weights


def rules(random: Random) -> tuple[Rules, int]:
    """Rules and a number of slots for a small line."""
    slots = random.choice((1, 2, 3, 4, 6, 8))
    reach = Reach(random.choice((1, 16, 200)), random.choice((1, 8, 100)), random.choice((0.0, 0.5, 1.0)))
    weights = Weights(
        prompt=random.choice((0.5, 1.0)), output=random.choice((1.0, 2.0, 5.0)), least=random.choice((1.0, 64.0))
    )
    return (
        Rules(
            client_slots=random.choice((0, 1, 2, 3)),
            headroom=random.choice((0, 1, 2)),
            reserve=random.choice((0, 0, 1, 2)),
            weights=weights,
            reach=reach,
            room=Room(client=6),
        ),
        slots,
    )


def people(random: Random) -> list[ClientKey]:
    """A few clients, some in one block, some with several shares."""
    clients = []
    for block in range(random.randint(1, 3)):
        for address in range(random.randint(1, 3)):
            shares = random.choice(((None,), (None,), (None, "a"), ("a", "b")))
            clients += [ClientKey(f"{block}.{address}", f"{block}", share) for share in shares]
    return clients


class Schedule:
    """One line's life: `step` lets something happen that may."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.watch = Watch(*rules(random))
        self.clients = people(random)
        self.eager = random.random() < 0.5
        """Whether slots are granted whenever anything happened, as in service, or at any time."""
        self.now = 0.0

    def step(self) -> None:
        happening = self.random.choices(
            (self.join, self.grant, self.charge, self.end, self.leave, self.pass_time), (30, 20, 30, 14, 4, 10)
        )[0]
        happening()
        while self.eager and self.watch.grant(self.now):
            pass

    def join(self) -> None:
        reach, random = self.watch.rules.reach, self.random
        prompt = random.choice((1, reach.prompt_tokens, random.randint(1, reach.prompt_tokens)))
        least = int(prompt * (1 - reach.late) + 0.999)
        guess = random.choice((least, prompt, random.randint(least, max(least, reach.prompt_tokens))))
        output = random.choice((1, reach.output_tokens, random.randint(1, reach.output_tokens)))
        wait = random.choice((0.0, 0.0, 0.5, 1.5))
        try:
            self.watch.join(random.choice(self.clients), self.now, self.now + wait, guess, prompt, output)
        except TooManyWaiting:
            pass

    def grant(self) -> None:
        self.watch.grant(self.now)

    def charge(self) -> None:
        watched = self._any(State.RUNNING)
        if watched is not None:
            left = watched.output - watched.place.output_tokens
            if left > 0:
                self.watch.charge(watched, self.random.choice((1, left, self.random.randint(1, left))), self.now)

    def end(self) -> None:
        watched = self._any(State.RUNNING)
        if watched is None:
            return
        fate = self.random.random()
        if fate < 0.7:
            done = watched.place.output_tokens
            real = self.random.choice((done, self.random.randint(0, watched.output)))
            cached = self.random.choice((0, 0, self.random.randint(0, watched.prompt)))
            self.watch.settle(watched, cached, real, self.now)
        self.watch.release(watched, self.now)

    def leave(self) -> None:
        watched = self._any(State.WAITING)
        if watched is not None:
            self.watch.leave(watched, self.now)

    def pass_time(self) -> None:
        self.now += self.random.choice((0.1, 0.5, 2.0))

    def _any(self, state: State) -> Watched | None:
        some = [watched for watched in self.watch.asks if watched.place.state is state]
        return self.random.choice(some) if some else None


def run(seed: int, steps: int) -> float:
    """One schedule. Returns the largest gap as a part of 2U. Raises Broken."""
    schedule = Schedule(Random(seed))
    for _ in range(steps):
        schedule.step()
    return schedule.watch.worst
