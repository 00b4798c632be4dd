"""The pool: several engines as one. It picks an engine for each ask, attempts, and fails over.

Three parts each decide one thing, and the pool puts them together: `policy.breaker` whether an engine is to be trusted,
`policy.retry` whether a failed attempt is followed by another one, `Attempt` whether the client has been sent anything.
The pool adds the choice. A model's name is a preference: engines that list it come first; any other name stands for
the default model; and where none of those can answer, another engine does, because an answer whose true model is named
is worth more than none. An engine is never given more asks than it has slots. The pool knows no client, no line and no
format, and never queues: who asks it has a ticket for one of its slots.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask, EmbedAsk, Vectors
from standpipe.chat.errors import EngineFailed, Failure, NoEngine, Unsupported
from standpipe.engines.attempt import Attempt, Report, Silence
from standpipe.engines.engine import Embedder, Engine, Health, Sink
from standpipe.engines.member import EngineStatistics, Member
from standpipe.policy.breaker import blames
from standpipe.policy.retry import ATTEMPTS, GiveUp, classify

__all__ = ["EngineStatistics", "Pool", "PoolStatistics", "Report"]


class PoolStatistics(Struct, frozen=True):
    """All engines at one instant. `retries` counts attempts beyond the first of an ask."""

    slots: int
    busy: int
    retries: int
    engines: tuple[EngineStatistics, ...]


class Pool:
    """Several engines as one.

    Args:
        engines: at least one. The first is the default, unless `default_model` says otherwise.
        default_model: the model that any unknown name stands for; None means the first engine's first.
        first_token_timeout: seconds until an engine must have said something.
        stall_timeout: seconds that it may be silent after that.
        attempts: most attempts for one ask, the first included.
        chance: gives random numbers in 0..1, for the jitter of retries.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        default_model: str | None = None,
        first_token_timeout: float = 120.0,
        stall_timeout: float = 60.0,
        attempts: int = ATTEMPTS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not engines:
            raise ValueError("a pool needs at least one engine")
        self._members = tuple(Member(engine) for engine in engines)
        self._default_model = default_model
        self._silence = Silence(first_token_timeout, stall_timeout)
        self._attempts = attempts
        self._chance = chance
        self._retries = 0

    @property
    def slots(self) -> int:
        """How many asks all engines together work on at a time."""
        return sum(member.engine.slots for member in self._members)

    @property
    def free(self) -> int:
        """How many more asks would find a slot now. Engines that are not trusted count only when none is."""
        return sum(member.free for member in self._candidates())

    def has_room(self) -> bool:
        """Whether an ask would find a slot now: `free` is more than 0, asked very often."""
        now = asyncio.get_running_loop().time()
        for member in self._members:
            if member.busy < member.engine.slots and member.trusted(now):
                return True
        return self.free > 0

    async def answer(
        self, ask: Ask, sink: Sink, report: Report | None = None, forget: Callable[[], None] | None = None
    ) -> None:
        """Answer one ask, as `Engine.answer`, by whichever engine can. `report` is kept up to date meanwhile.

        `forget` makes the sink forget what it took, where the client has not seen it: then an engine that fails in
        mid-answer can be followed by another attempt, too.

        Cancelling this stops the engine's work at once, and frees its slot as soon as the engine has let go. Raises
        the last attempt's failure, or NoEngine when there is no free slot.
        """
        report = Report() if report is None else report
        tried: list[Member] = []
        was_empty = False
        member = self._choose(ask.model, tried)
        if member is None:
            raise NoEngine("Every engine is busy or down. Please try again in a moment.", retry_after=1.0)
        while True:
            tried.append(member)
            attempt = Attempt(sink, report, self._silence)
            try:
                with self._held(member, ask.model, report, attempt) as model:
                    await attempt.run(member.engine, ask if model == ask.model else replace(ask, model=model))
            except Failure as failure:
                sent = attempt.opened and forget is None
                member = await self._after(failure, ask.model, tried, anything_sent=sent)
                if attempt.opened and forget is not None:
                    forget()
                continue
            if not attempt.empty:
                return
            following = None if was_empty or len(tried) >= self._attempts else self._choose(ask.model, tried)
            if following is None:
                attempt.release()
                return
            was_empty = True
            member = self._spend(following)

    async def embed(self, ask: EmbedAsk, report: Report | None = None) -> Vectors:
        """Turn texts into vectors, by whichever engine can; each is attempted once at most.

        Raises Unsupported when none makes embeddings, the last attempt's failure, or NoEngine when there is no slot.
        """
        report = Report() if report is None else report
        if not any(isinstance(member.engine, Embedder) for member in self._members):
            raise Unsupported("No engine on this server offers embeddings.")
        failure: Failure = NoEngine("Every engine is busy or down. Please try again in a moment.", retry_after=1.0)
        tried: list[Member] = []
        while (member := self._choose(ask.model, tried)) is not None and member not in tried:
            tried.append(member)
            if not isinstance(member.engine, Embedder):
                continue
            try:
                with self._held(member, ask.model, report, None) as model:
                    vectors = await member.engine.embed(replace(ask, model=model))
                    report.model = vectors.model or report.model
                    return vectors
            except (EngineFailed, Unsupported) as failed:
                failure = failed
        raise failure

    async def refresh(self) -> None:
        """Ask every engine for its health and its models. Called at the start, and from time to time."""
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(member.refresh())

    async def probe(self) -> None:
        """Have every engine that can be probed tell how it handles control tokens; see `base.Probed`."""
        for member in self._members:
            await member.probe()

    def models(self) -> tuple[str, ...]:
        """The names that all engines list, the default first."""
        default = self._wanted(None)
        names = [name for member in self._members for name in member.models]
        return tuple(dict.fromkeys(([] if default is None else [default]) + names))

    def resolve(self, name: str | None) -> str:
        """The model that an ask for this name is meant for, as far as that can be known before it is answered."""
        return self._wanted(name) or self._members[0].engine.name

    def health(self) -> Health:
        """Whether any engine is trusted; the default engine's reason when none is."""
        now = asyncio.get_running_loop().time()
        if any(member.trusted(now) for member in self._members):
            return Health(up=True)
        return Health(up=False, reason=self._members[0].health.reason or "No engine has responded recently.")

    def statistics(self) -> PoolStatistics:
        now = asyncio.get_running_loop().time()
        return PoolStatistics(
            slots=self.slots,
            busy=sum(member.busy for member in self._members),
            retries=self._retries,
            engines=tuple(member.statistics(now) for member in self._members),
        )

    async def close(self) -> None:
        """Let go of every engine, also when one of them fails to."""
        async with AsyncExitStack() as stack:
            for member in self._members:
                stack.push_async_callback(member.engine.close)

    @contextmanager
    def _held(self, member: Member, name: str | None, report: Report, attempt: Attempt | None) -> Iterator[str | None]:
        """Hold a slot of this engine for one attempt, and note how it went. Gives the model to ask it for."""
        loop = asyncio.get_running_loop()
        model = self._model_at(member, name)
        report.attempts += 1
        report.engine, report.model = member.engine.name, model or member.engine.name
        if report.on_attempt is not None:
            report.on_attempt(loop.time())
        probe = member.take(loop.time())
        try:
            yield model
        except Failure as failure:
            if blames(failure):
                member.fail(loop.time(), probe=probe)
            raise
        except BaseException:
            # The client left, or has enough. An engine that had begun to speak works.
            if attempt is not None and attempt.opened:
                member.breaker = member.breaker.answered()
            raise
        else:
            member.answer()
        finally:
            member.release(probe=probe)

    async def _after(self, failure: Failure, name: str | None, tried: list[Member], *, anything_sent: bool) -> Member:
        """Decide what follows a failed attempt and wait for it. Gives the next engine, or raises the failure."""
        following = self._choose(name, tried)
        if following is None:
            raise failure
        decision = classify(
            failure,
            attempt=len(tried),
            anything_sent=anything_sent,
            chance=self._chance(),
            elsewhere=following not in tried,
            most=self._attempts,
        )
        if isinstance(decision, GiveUp):
            raise failure
        await asyncio.sleep(decision.delay)
        following = self._choose(name, tried)  # much may have happened meanwhile
        if following is None:
            raise failure
        return self._spend(following)

    def _spend(self, member: Member) -> Member:
        member.budget = member.budget.spend()
        self._retries += 1
        return member

    def _candidates(self) -> Sequence[Member]:
        """The engines that may be asked: those that are trusted, or all of them when none is."""
        now = asyncio.get_running_loop().time()
        return [member for member in self._members if member.trusted(now)] or self._members

    def _choose(self, name: str | None, tried: Sequence[Member]) -> Member | None:
        """The best engine with a free slot, None when there is none.

        In this order: tried less often, listing the wanted model, having more free slots, standing first in the list.
        """
        if len(self._members) == 1:
            only = self._members[0]
            return only if only.free and (not tried or only.budget.affords) else None
        able = [member for member in self._candidates() if member.free and (not tried or member.budget.affords)]
        wanted = self._wanted(name)
        first = self._members[0]

        def rank(member: Member) -> tuple[int, bool, int]:
            preferred = member is first if wanted is None else wanted in member.models
            return tried.count(member), not preferred, -member.free

        return min(able, key=rank, default=None)

    def _wanted(self, name: str | None) -> str | None:
        """The listed model that this name means. None while no engine that matters has told its models."""
        for wanted in (name, self._default_model):
            if wanted is not None and any(wanted in member.models for member in self._members):
                return wanted
        models = self._members[0].models
        return models[0] if models else None

    def _model_at(self, member: Member, name: str | None) -> str | None:
        """What to ask this engine for: never a name that it does not know, where its names are known."""
        if name in member.models:
            return name
        wanted = self._wanted(name)
        if wanted in member.models:
            return wanted
        return member.models[0] if member.models else self._default_model

    def __repr__(self) -> str:
        busy = ", ".join(f"{m.engine.name} {m.busy}/{m.engine.slots} {m.breaker.state}" for m in self._members)
        return f"<Pool {busy}>"
