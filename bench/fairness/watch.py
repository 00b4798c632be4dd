"""The watch: keeps its own account of everything that a line does and raises `Broken` when a promise is.

It knows the line only from outside: what was joined, granted, charged and released. From that it derives who was
eligible when (by the definition, not by the line's own bookkeeping) and how much service each block, client and share
has received. While somebody is eligible without a break, nobody else in the same group may receive more than 2U more
than they do, over any stretch of that time and whatever the other does: eligible too, at its cap, idle, or new. That is
the bound of the theory, and with both eligible it is the bound on the service gap.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, QueuedAsk, Rules

Path = tuple[str, ...]
"""A block, or a client in it, or a share of that."""


class Broken(AssertionError):
    """A promise of the line did not hold."""


class Watched:
    """One ask as the watch sees it, with what it will really take. `entered` once its instant has come."""

    __slots__ = ("charged", "entered", "output", "paths", "place", "produced", "prompt")

    def __init__(self, place: QueuedAsk, prompt: int, output: int) -> None:
        client = place.client
        self.place = place
        self.prompt = prompt
        self.output = output
        self.entered = False
        self.produced = 0
        """Output tokens so far."""
        self.charged = 0.0
        self.paths: tuple[Path, Path, Path] = (
            (client.block,),
            (client.block, client.address),
            (client.block, client.address, client.share or ""),
        )


class Watch:
    """A line and the account of it. Call its methods instead of the line's."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self.line = Line(rules, slots)
        self.rules = rules
        self.asks: dict[QueuedAsk, Watched] = {}
        """All that wait or run."""
        self.worst = 0.0
        """The largest lead of anybody over somebody who waited, as a part of 2U."""
        self._caps = caps = rules.caps(slots)
        self._cap = {1: caps.block, 2: caps.client, 3: caps.client}
        self._bound = {depth: 2 * rules.largest.bound(rules.weights, cap) for depth, cap in self._cap.items()}
        self._service: dict[Path, float] = defaultdict(float)
        self._running: Counter[Path] = Counter()
        self._waiting: Counter[Path] = Counter()
        """Asks that wait although their instant has come, for each share."""
        self._rivals: dict[Path, dict[Path, None]] = defaultdict(dict)
        """All blocks, all clients seen of a block, all shares seen of a client, by what they are in."""
        self._behind: dict[tuple[Path, Path], float] = {}
        """For one and another who has waited without a break: the least lead of the one over the other since."""
        self._seen: dict[Path, None] = {}
        """Who was eligible at the last check."""
        self._served = False
        """Whether anybody was served since then."""

    def join(self, client: ClientKey, now: float, eligible_at: float, guess: int, prompt: int, output: int) -> Watched:
        """An ask whose prompt is guessed as `guess` tokens, has `prompt`, and will give `output` at most."""
        place = self.line.join(client, now=now, eligible_at=eligible_at, prompt_tokens=guess, size=1)
        watched = self.asks[place] = Watched(place, prompt, output)
        self._look(now)
        self._check()
        return watched

    def leave(self, watched: Watched, now: float) -> None:
        self.line.leave(watched.place, now)
        if watched.entered:
            self._waiting[watched.paths[2]] -= 1
        del self.asks[watched.place]
        self._check()

    def grant(self, now: float) -> Watched | None:
        """One slot, to whomever the line gives it."""
        place = self.line.next(now)
        self._look(now)
        if place is None:
            self._check()
            free = self._caps.slots - self._running.total() // 3
            if free > self._caps.headroom and any(len(path) == 1 for path in self._eligible()):
                raise Broken(f"{free} slots are free and {self._eligible()} may start, but nobody was chosen")
            return None
        watched = self.asks[place]
        if not watched.entered:
            raise Broken(f"{place} was granted before its instant {place.eligible_at}, at {now}")
        self._waiting[watched.paths[2]] -= 1
        self._run(watched, 1)
        self._serve(watched, self.rules.weights.input(max(1, place.prompt_tokens)))
        self._check()
        return watched

    def charge(self, watched: Watched, tokens: int, now: float) -> None:
        self.line.charge(watched.place, tokens, now)
        self.deliver(watched, tokens)

    def deliver(self, watched: Watched, tokens: int) -> None:
        """An ask has produced output tokens."""
        watched.produced += tokens
        self._serve(watched, tokens * self.rules.weights.output)
        self._check()

    def settle(self, watched: Watched, cached: int, output: int) -> None:
        """The engine's count: the real prompt, `cached` tokens of it from the cache, and `output` tokens."""
        clipped = self.line.order.clipped
        self.line.settle(watched.place, prompt_tokens=watched.prompt, completion_tokens=output, cached_tokens=cached)
        weights = self.rules.weights
        self._serve(watched, weights.input(watched.prompt, cached) + weights.output * output - watched.charged)
        if self.line.order.clipped > clipped:
            self._behind = {pair: lead for pair, lead in self._behind.items() if pair[1] not in watched.paths}
        self._check()

    def release(self, watched: Watched, now: float) -> None:
        self.line.release(watched.place, now)
        del self.asks[watched.place]
        self._run(watched, -1)
        self._check()

    def replace(self, line: Line, places: dict[QueuedAsk, QueuedAsk], now: float) -> None:
        """The line is gone, and all that was in it is in another, each ask as what it is there."""
        self.line = line
        asks, self.asks = self.asks, {}
        for place, watched in asks.items():
            watched.place = places[place]
            self.asks[watched.place] = watched
        self._look(now)
        self._check()

    def _look(self, now: float) -> None:
        """Whatever looks at the line lets in the asks whose instant has come."""
        for watched in self.asks.values():
            if not watched.entered and watched.place.eligible_at <= now:
                watched.entered = True
                self._waiting[watched.paths[2]] += 1

    def _serve(self, watched: Watched, weight: float) -> None:
        watched.charged += weight
        self._served = True
        for path in watched.paths:
            self._service[path] += weight
            self._rivals[path[:-1]][path] = None

    def _run(self, watched: Watched, change: int) -> None:
        for path in watched.paths:
            self._running[path] += change
            if self._running[path] > self._cap[len(path)]:
                raise Broken(f"{path} holds {self._running[path]} slots, more than it may")
        if self._running.total() > 3 * self._caps.slots:
            raise Broken("more asks run than there are slots")

    def _eligible(self) -> dict[Path, None]:
        """The blocks, clients and shares that their group may give a slot: by definition, not by bookkeeping."""
        able: dict[Path, None] = {}
        for share, waiting in self._waiting.items():
            path = share
            while waiting and path and self._running[path] < self._cap[len(path)]:
                able[path] = None
                path = path[:-1]
        return able

    def _check(self) -> None:
        """Hold the lead of everybody over each who waits against the bound."""
        eligible = self._eligible()
        if not self._served and eligible == self._seen:
            return
        self._served, self._seen = False, eligible
        behind: dict[tuple[Path, Path], float] = {}
        for path in eligible:
            bound, own, most = self._bound[len(path)], self._service[path], 0.0
            for rival in self._rivals[path[:-1]]:
                if rival != path:
                    lead = self._service[rival] - own
                    least = behind[rival, path] = min(lead, self._behind.get((rival, path), lead))
                    most = max(most, lead - least)
            self.worst = max(self.worst, most / bound)
            if most > bound * (1 + 1e-9):
                raise Broken(f"somebody got {most:.1f} more than {path}, which waited; the bound is {bound:.1f}")
        self._behind = behind
