"""One line, many doors: schedules in which charges reach the line late, or the line is lost and another one goes on.

The processes that hold the connections (doors) charge in batches, and when the process with the line dies they replay
their asks, and what they were told of their clients, to the next. The theory is in `standpipe.policy.line.group`.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec.structs import replace

from bench.fairness.schedules import Schedule
from bench.fairness.watch import Watch, Watched
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, QueuedAsk, Rules


class LateWatch(Watch):
    """Tokens are held back when they are produced, and charged by `flush`."""

    def __init__(self, rules: Rules, slots: int) -> None:
        super().__init__(rules, slots)
        self.held: dict[Watched, int] = {}

    def charge(self, watched: Watched, tokens: int, now: float) -> None:  # noqa: ARG002  (it is charged later)
        self.held[watched] = self.held.get(watched, 0) + tokens
        self.deliver(watched, tokens)

    def flush(self, watched: Watched, now: float) -> None:
        if tokens := self.held.pop(watched, 0):
            self.line.charge(watched.place, tokens, now)


class Lagging(Schedule):
    """Charges come whenever they come, at the latest with the release."""

    watch: LateWatch
    watch_of = LateWatch

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.often = random.choice((0.0, 0.05, 0.3))

    def finish(self, watched: Watched) -> None:
        self.watch.flush(watched, self.now)
        super().finish(watched)

    def step(self) -> None:
        super().step()
        for watched in list(self.watch.held):
            if self.random.random() < self.often:
                self.watch.flush(watched, self.now)


class Failing(Schedule):
    """The line is lost now and then. `telling` is whether doors were told where their clients stand."""

    often = 0.02
    telling = True

    def step(self) -> None:
        super().step()
        if self.random.random() < self.often:
            watch = self.watch
            clients = {place.client for place in watch.asks} if self.telling else ()
            watch.replace(*replay(watch.line, watch.rules, watch.asks, clients, self.now, self.random), self.now)


class Workers(Failing, Lagging):
    """Both at once, as between workers and their keeper: what was held back is charged to the next line."""


def replay(
    old: Line, rules: Rules, places: Iterable[QueuedAsk], clients: Iterable[ClientKey], now: float, random: Random
) -> tuple[Line, dict[QueuedAsk, QueuedAsk]]:
    """The line that goes on where an old one was lost, as doors replay their `places` to it, each in its own time, and
    what they were told of `clients`. Also what each place is there."""
    told = {client: old.told(client) for client in clients}
    new = Line(rules, old.slots)
    known = {place: replace(place, leaf=None) for place in places}
    for place in random.sample(list(known), len(known)):
        new.adopt(known[place], now)
    new.stand(told, now)
    return new, known
