"""The watch: keeps its own account of everything that a line does and raises `Broken` when a promise is.

It knows the line only from outside: what was joined, granted, charged and released. From that it derives who was
eligible when (the definition, not the line's own bookkeeping) and how much service each block, client and share has
received, and follows the difference within each pair of rivals for as long as both stay eligible. The largest
difference minus the smallest one is the largest service gap over any stretch of time in between.
"""

from __future__ import annotations

from collections.abc import Iterator

from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, Place, Rules, State

Path = tuple[str, ...]
"""A block, or a client in it, or a share of that."""


class Broken(AssertionError):
    """A promise of the line did not hold."""


class Watched:
    """One ask as the watch sees it, with what it will really take. `entered` once its instant has come."""

    __slots__ = ("charged", "entered", "output", "place", "prompt")

    def __init__(self, place: Place, prompt: int, output: int) -> None:
        self.place = place
        self.prompt = prompt
        self.output = output
        self.entered = False
        self.charged = 0.0


class Watch:
    """A line and the account of it. Call its methods instead of the line's."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self.line = Line(rules, slots)
        self.rules = rules
        self.caps = rules.caps(slots)
        self.asks: list[Watched] = []
        """All that wait or run."""
        self.service: dict[Path, float] = {}
        self.worst = 0.0
        """The largest gap so far, as a part of 2U."""
        self._gaps: dict[tuple[Path, Path], tuple[float, float]] = {}
        """For each pair that is eligible without a break: the least and largest lead of the first."""
        self._bounds = {
            1: 2 * rules.reach.bound(rules.weights, self.caps.block),
            2: 2 * rules.reach.bound(rules.weights, self.caps.client),
            3: 2 * rules.reach.bound(rules.weights, self.caps.client),
        }

    def join(self, client: ClientKey, now: float, eligible_at: float, guess: int, prompt: int, output: int) -> Watched:
        """An ask whose prompt is guessed as `guess` tokens, has `prompt`, and will give `output` at most."""
        place = self.line.join(client, now=now, eligible_at=eligible_at, prompt_tokens=guess, size=1)
        watched = Watched(place, prompt, output)
        self.asks.append(watched)
        self._look(now)
        return watched

    def leave(self, watched: Watched, now: float) -> None:
        self.line.leave(watched.place, now)
        self.asks.remove(watched)
        self._check()

    def grant(self, now: float) -> Watched | None:
        """One slot, to whomever the line gives it."""
        free = self.line.slots - sum(watched.place.state is State.RUNNING for watched in self.asks)
        place = self.line.next(now)
        for watched in self.asks:
            watched.entered = watched.entered or watched.place.eligible_at <= now
        if place is None:
            if free > self.caps.reserve and self._eligible(1):
                raise Broken(f"{free} slots are free and {self._eligible(1)} may start, but nobody was chosen")
            self._check()
            return None
        watched = next(watched for watched in self.asks if watched.place is place)
        if not watched.entered:
            raise Broken(f"{place} was granted before its instant {place.eligible_at}, at {now}")
        self._serve(watched, self.rules.weights.input(max(1, place.prompt_tokens)))
        self._check()
        return watched

    def charge(self, watched: Watched, tokens: int, now: float) -> None:
        self.line.charge(watched.place, tokens, now)
        self._serve(watched, tokens * self.rules.weights.output)
        self._check()

    def settle(self, watched: Watched, cached: int, output: int, now: float) -> None:
        """The engine's count: the real prompt, `cached` tokens of it from the cache, and `output` tokens."""
        clipped = self.line.statistics().order.clipped
        self.line.settle(
            watched.place, prompt_tokens=watched.prompt, completion_tokens=output, cached_tokens=cached, now=now
        )
        weights = self.rules.weights
        self._serve(watched, weights.input(watched.prompt, cached) + weights.output * output - watched.charged)
        if self.line.statistics().order.clipped > clipped:
            mine = set(_path(watched.place.client))
            self._gaps = {pair: gap for pair, gap in self._gaps.items() if not mine.intersection(pair)}
        self._check()

    def release(self, watched: Watched, now: float) -> None:
        self.line.release(watched.place, now)
        self.asks.remove(watched)
        self._check()

    def _look(self, now: float) -> None:
        for watched in self.asks:
            watched.entered = watched.entered or watched.place.eligible_at <= now
        self._check()

    def _serve(self, watched: Watched, weight: float) -> None:
        watched.charged += weight
        for path in _path(watched.place.client):
            self.service[path] = self.service.get(path, 0.0) + weight

    def _running(self, path: Path) -> int:
        return sum(
            1
            for watched in self.asks
            if watched.place.state is State.RUNNING and _path(watched.place.client)[len(path) - 1] == path
        )

    def _eligible(self, depth: int) -> list[Path]:
        """The blocks (1), clients (2) or shares (3) that may be given a slot by their group."""
        waiting = {
            path: None
            for watched in self.asks
            if watched.entered and watched.place.state is State.WAITING
            for path in _path(watched.place.client)
        }
        able: dict[Path, None] = {}
        for level in (3, 2, 1):
            cap = self.caps.block if level == 1 else self.caps.client
            for path in waiting:
                below = level == 3 or any(other[:level] == path for other in able if len(other) == level + 1)
                if len(path) == level and below and self._running(path) < cap:
                    able[path] = None
        return [path for path in able if len(path) == depth]

    def _pairs(self) -> Iterator[tuple[Path, Path]]:
        for depth in (1, 2, 3):
            eligible = sorted(self._eligible(depth))
            for index, one in enumerate(eligible):
                for other in eligible[index + 1 :]:
                    if one[:-1] == other[:-1]:
                        yield one, other

    def _check(self) -> None:
        """Follow all pairs, hold every gap against its bound and every cap against what runs."""
        gaps = {}
        for pair in self._pairs():
            one, other = pair
            lead = self.service.get(one, 0.0) - self.service.get(other, 0.0)
            least, most = self._gaps.get(pair, (lead, lead))
            least, most = gaps[pair] = min(least, lead), max(most, lead)
            bound = self._bounds[len(one)]
            self.worst = max(self.worst, (most - least) / bound)
            if most - least > bound * (1 + 1e-9):
                raise Broken(f"{one} and {other} are {most - least:.1f} apart, the bound is {bound:.1f}")
        self._gaps = gaps
        if sum(watched.place.state is State.RUNNING for watched in self.asks) > self.caps.slots:
            raise Broken("more asks run than there are slots")
        for watched in self.asks:
            block, client, _ = _path(watched.place.client)
            if self._running(block) > self.caps.block or self._running(client) > self.caps.client:
                raise Broken(f"{client} or its block hold more slots than they may")


def _path(client: ClientKey) -> tuple[Path, Path, Path]:
    return (
        (client.block,),
        (client.block, client.address),
        (client.block, client.address, client.share or ""),
    )
