"""Modelled engines on virtual time: when an answer's tokens come, and what that depends on.

`SlotEngine` gives each slot a speed of its own, whatever the others do: the model in which the line's theory speaks.
`BatchEngine` works in steps like a continuously batching engine does: each step reads a chunk of the prompts that wait
to be read and writes one token of every answer under way, and takes the longer the more there is to do. So it shows
what an order in front of an engine can't prevent: a greedy client slows a polite one merely by being in the same batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from standpipe.policy.line import QueuedAsk


class Model(Struct, frozen=True):
    """Seconds: per prompt token, per output token in a slot; per step, and per answer in a step, in a batch.

    The defaults are a middling model on one accelerator: 4,000 prompt tokens and 100 output tokens a second in a slot.
    """

    prompt: float = 0.00025
    output: float = 0.010
    step: float = 0.009
    answer: float = 0.000125
    chunk: int = 256
    """Prompt tokens that one step reads at most."""


class Job:
    """One ask and what it really takes. Times are seconds, None until they come."""

    __slots__ = (
        "asked",
        "charged",
        "client",
        "ended",
        "first",
        "guess",
        "output",
        "place",
        "predicted",
        "prompt",
        "start",
    )

    def __init__(self, client: int, asked: float, prompt: int, output: int, guess: int) -> None:
        self.client = client
        self.asked = asked
        self.prompt = prompt
        self.output = output
        self.guess = guess
        self.place: QueuedAsk | None = None
        self.predicted: float | None = None
        """Seconds of waiting that the line predicted when it was asked."""
        self.start: float | None = None
        self.first: float | None = None
        self.ended: float | None = None
        self.charged = 0


class Desk(Protocol):
    """What an engine needs of the world around it."""

    now: float

    def at(self, when: float, happen: Callable[[], None]) -> None: ...

    def tokens(self, job: Job, count: int, when: float) -> None:
        """Tokens have come."""

    def done(self, job: Job) -> None:
        """The answer is whole."""


class Engine(Protocol):
    """Answers jobs."""

    def start(self, job: Job) -> None: ...

    def sync(self) -> None:
        """Hand over all tokens that have come by now."""

    def stop(self, job: Job) -> None:
        """Nobody wants the rest of this answer."""


class SlotEngine:
    """Each slot for itself."""

    def __init__(self, desk: Desk, model: Model) -> None:
        self._desk = desk
        self._model = model
        self._jobs: set[Job] = set()

    def start(self, job: Job) -> None:
        desk, model = self._desk, self._model
        self._jobs.add(job)
        job.first = desk.now + job.prompt * model.prompt + model.output
        desk.at(job.first + (job.output - 1) * model.output, lambda: self._end(job))

    def sync(self) -> None:
        desk = self._desk
        for job in self._jobs:
            assert job.first is not None
            if job.first <= desk.now:
                self._hand(job, min(job.output, 1 + int((desk.now - job.first) / self._model.output)))

    def stop(self, job: Job) -> None:
        self.sync()
        self._jobs.discard(job)

    def _hand(self, job: Job, produced: int) -> None:
        if produced > job.charged:
            assert job.first is not None
            self._desk.tokens(job, produced - job.charged, job.first if not job.charged else self._desk.now)

    def _end(self, job: Job) -> None:
        if job in self._jobs:
            self._hand(job, job.output)
            self._jobs.discard(job)
            self._desk.done(job)


class BatchEngine:
    """All together, step by step."""

    def __init__(self, desk: Desk, model: Model) -> None:
        self._desk = desk
        self._model = model
        self._unread: deque[tuple[Job, int]] = deque()
        """Prompts that wait to be read, each with the tokens left of it."""
        self._writing: list[Job] = []
        self._stepping = False

    def start(self, job: Job) -> None:
        self._unread.append((job, job.prompt))
        if not self._stepping:
            self._step()

    def sync(self) -> None:
        """Tokens are handed over at the end of each step."""

    def stop(self, job: Job) -> None:
        self._writing = [other for other in self._writing if other is not job]
        self._unread = deque(entry for entry in self._unread if entry[0] is not job)

    def _step(self) -> None:
        model = self._model
        left, read = model.chunk, []
        while left and self._unread:
            job, tokens = self._unread.popleft()
            part = min(left, tokens)
            left -= part
            if part < tokens:
                self._unread.appendleft((job, tokens - part))
            else:
                read.append(job)
        took = model.step + model.answer * len(self._writing) + model.prompt * (model.chunk - left)
        self._stepping = True
        self._desk.at(self._desk.now + took, lambda: self._stepped(read))

    def _stepped(self, read: list[Job]) -> None:
        desk = self._desk
        for job in read:
            job.first = desk.now
        self._writing += read
        for job in self._writing:
            desk.tokens(job, 1, desk.now)
        ended = [job for job in self._writing if job.charged >= job.output]
        self._writing = [job for job in self._writing if job.charged < job.output]
        self._stepping = False
        if self._writing or self._unread:
            self._step()
        for job in ended:
            desk.done(job)
