"""The world: virtual time, a line, a modelled engine, and clients that ask.

Drives the very `Line` that serves. Nothing here decides who is next.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from bench.fairness.engine import BatchEngine, Job, Model, SlotEngine
from standpipe.chat.errors import Failure
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, QueuedAsk, Stage, Weights
from standpipe.policy.pace import MICROSECONDS, Go, Rate, Refuse, cancel, reserve


class Tally:
    """What one client got."""

    __slots__ = ("jobs", "key", "refused", "served", "served_at", "tat")

    def __init__(self, key: ClientKey) -> None:
        self.key = key
        self.tat = 0
        self.jobs: list[Job] = []
        self.refused = 0
        self.served = 0.0
        """Weighted tokens."""
        self.served_at: list[float] = []
        """The same at the end of each second."""


class World:
    """One run."""

    def __init__(
        self, line: Line, *, rate: Rate | None = None, batch: bool = False, model: Model | None = None, seed: int = 1
    ) -> None:
        """`rate` None switches the pace off; `batch` models the engine's batch."""
        self.line = line
        self.now = 0.0
        self.random = Random(seed)
        self.model = model or Model()
        self.tallies: list[Tally] = []
        self.total = 0.0
        """Weighted tokens served, to all clients."""
        self.on_done: dict[int, Callable[[Job], None]] = {}
        """Called when an answer of the client of this number is whole."""
        self.on_start: dict[int, Callable[[Job], None]] = {}
        self.busy = 0.0
        """Seconds of slots held, in all."""
        self._noted: list[Tally] = []
        self._rate = rate
        self._engine = BatchEngine(self, self.model) if batch else SlotEngine(self, self.model)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._weights = Weights()
        self._places: dict[QueuedAsk, Job] = {}
        self._woken = -1.0

    def client(self, address: str, block: str, *, noted: bool = True) -> int:
        """A new client. Returns its number. Only of `noted` ones is kept what they were served by each second."""
        tally = Tally(ClientKey(address, block))
        self.tallies.append(tally)
        if noted:
            self._noted.append(tally)
        return len(self.tallies) - 1

    def at(self, when: float, happen: Callable[[], None]) -> None:
        self._serial += 1
        heappush(self._events, (when, self._serial, happen))

    def ask(self, client: int, prompt: int, output: int, *, wait: float = 0.0) -> Job | None:
        """An ask arrives, and may not start for `wait` seconds. None if it is refused, which is counted."""
        tally = self.tallies[client]
        job = Job(client, self.now, prompt, output, int(prompt * self.random.uniform(0.7, 1.0)))
        eligible_at, tat = self._pace(tally)
        if eligible_at is None:
            tally.refused += 1
            return None
        try:
            job.place = self.line.join(
                tally.key, now=self.now, eligible_at=eligible_at + wait, prompt_tokens=job.guess, size=prompt * 4
            )
        except Failure:
            if self._rate is not None:
                tally.tat = cancel(tat, round(eligible_at * MICROSECONDS), self._rate)
            tally.refused += 1
            return None
        tally.tat = tat
        tally.jobs.append(job)
        self._places[job.place] = job
        job.predicted = self.line.forecast(job.place, self.now).wait
        return job

    def hang_up(self, job: Job) -> None:
        """The client leaves, in whatever phase its ask is. The engine stops, and what it produced by then counts."""
        assert job.place is not None
        if job.place.stage is Stage.WAITING:
            self.line.leave(job.place, self.now)
            del self._places[job.place]
        elif job.place.stage is Stage.RUNNING:
            self._engine.stop(job)
            self.line.release(job.place, self.now)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        self._grant()
        second = int(self.now) + 1
        while self._events and self._events[0][0] <= end:
            when, _, happen = heappop(self._events)
            while second <= when:
                self._note()
                second += 1
            self.now = when
            happen()
            if not self._events or self._events[0][0] > when:
                self._grant()
        while second <= end:
            self._note()
            second += 1
        self.now = end

    def tokens(self, job: Job, count: int, when: float) -> None:
        assert job.place is not None
        job.charged += count
        self._serve(job, self._weights.output * count)
        self.line.charge(job.place, count, when)

    def done(self, job: Job) -> None:
        assert job.place is not None
        assert job.start is not None
        job.ended = self.now
        self.busy += self.now - job.start
        self.line.settle(job.place, prompt_tokens=job.prompt, completion_tokens=job.output)
        self.line.release(job.place, self.now)
        happen = self.on_done.get(job.client)
        if happen is not None:
            happen(job)

    def _pace(self, tally: Tally) -> tuple[float | None, int]:
        if self._rate is None:
            return self.now, 0
        now = round(self.now * MICROSECONDS)
        verdict = reserve(tally.tat, now, self._rate)
        if isinstance(verdict, Refuse):
            return None, tally.tat
        return (self.now if isinstance(verdict, Go) else verdict.until / MICROSECONDS), verdict.tat

    def _grant(self) -> None:
        self._engine.sync()
        while (place := self.line.next(self.now)) is not None:
            job = self._places.pop(place)
            job.start = self.now
            self._serve(job, self._weights.input(job.prompt))
            self._engine.start(job)
            happen = self.on_start.get(job.client)
            if happen is not None:
                happen(job)
        again = self.line.eligible_after(self.now)
        if again is not None and again != self._woken:
            self._woken = again
            self.at(again, lambda: None)

    def _serve(self, job: Job, weight: float) -> None:
        self.tallies[job.client].served += weight
        self.total += weight

    def _note(self) -> None:
        self._engine.sync()
        for tally in self._noted:
            tally.served_at.append(tally.served)
