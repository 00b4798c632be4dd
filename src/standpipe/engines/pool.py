"""The pool: several engines as one. It makes attempts, and goes on elsewhere when one fails.

Three parts each decide one thing, and the pool puts them together: `Choice` which engine is asked, and whether another
one is after a failure; `Attempt` whether the client has been sent anything; `Continued` what another engine is given of
an answer that broke off.
An ask comes with its first seat and gets others as it goes on. The pool must not know the line or any format, and of
a client only what a Standpipe below is told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from msgspec.structs import replace

from standpipe.chat.ask import Ask, Beginning, EmbedAsk, Vectors
from standpipe.chat.errors import Failure, NoEngine, Unsupported
from standpipe.engines.attempt import Attempt, Report, Silence
from standpipe.engines.choice import Choice, Lease
from standpipe.engines.continuation import Continued, StoppedAtSeam, has_no_seam
from standpipe.engines.engine import Embedder, Sink
from standpipe.engines.member import Member
from standpipe.engines.seats import Journey
from standpipe.policy.affinity import prefixes
from standpipe.policy.identity import ClientKey, pseudonym
from standpipe.policy.retry import GiveUp, Verdict, verdict
from standpipe.policy.terms import fit

_SPOKEN, _THOUGHT = Beginning(text="x"), Beginning(reasoning="x")


class Pool:
    """Several engines as one.

    Args:
        choice: which engine is asked.
        first_token_timeout: seconds until an engine must have said something.
        stall_timeout: seconds that it may be silent after that.
        continues: whether an answer that broke off after the client was sent some of it goes on at another engine.
        key: by which engines that are Standpipes know a client again, at least 32 random bytes; made up by default.
    """

    def __init__(
        self,
        choice: Choice,
        *,
        first_token_timeout: float = 120.0,
        stall_timeout: float = 60.0,
        continues: bool = True,
        key: bytes | None = None,
    ) -> None:
        self.choice = choice
        self.fleet = choice.fleet
        self._silence = Silence(first_token_timeout, stall_timeout)
        self._continues = continues
        self._key = key or secrets.token_bytes(32)

    def journey(
        self,
        report: Report,
        fingerprint: bytes,
        ask: Ask | EmbedAsk,
        *,
        client: ClientKey | None = None,
        least: int = 0,
    ) -> Journey:
        """The way of an ask that is about to wait for its first seat. `least` is a low estimate of its prompt's tokens.

        Raises Quarantined when engines died of it, ContextTooLong when it fits into none.
        """
        key = self.choice.key
        journey = Journey(
            report,
            model=ask.model,
            embeds=isinstance(ask, EmbedAsk),
            shows=isinstance(ask, Ask) and bool(ask.images),
            least=least,
            fingerprint=fingerprint,
            prefixes=prefixes(ask, key) if key is not None and isinstance(ask, Ask) else (),
            client=client,
        )
        self.choice.begin(journey)
        if least:
            self.fleet.refuse_what_cannot_fit(ask.model, least)
        return journey

    async def answer(
        self,
        ask: Ask,
        sink: Sink,
        journey: Journey | None = None,
        *,
        seat: Lease | None = None,
        forget: Callable[[], None] | None = None,
    ) -> None:
        """Answer one ask, as `Engine.answer`, by whichever engine can. `seat` is the one it comes with.

        `forget` makes the sink forget what it took, where the client has not seen it: then an engine that fails in
        mid-answer can be followed by another attempt, too. Without it, such an attempt goes on where the other one
        broke off, at an engine that can.

        Cancelling this stops the engine's work at once, and frees its slot as soon as the engine has let go. Raises
        the failure that is told to the client, or NoEngine when there was no seat in time.
        """
        journey = journey or Journey(model=ask.model)
        stream = Continued(ask, sink, journey.report) if forget is None and self._can_go_on(ask) else None
        while True:
            seat = seat or await self._seated(journey)
            silence = seat.member.placement.silence or self._silence
            attempt = Attempt(stream or sink, journey.report, silence, seat.speaks)
            try:
                with seat:
                    model = self._name(journey, seat.member)
                    engine = seat.member.engine
                    sent = ask if model == ask.model else replace(ask, model=model)
                    if (client := self._told(journey, seat.member)) is not None:
                        sent = replace(sent, client=client)
                    if journey.least and (window := seat.member.windows.get(model or "")):
                        sent = fit(sent, window, journey.least + (0 if stream is None else stream.tokens))
                    await attempt.run(engine, sent)
            except StoppedAtSeam:
                return
            except Failure as failure:
                begun = None
                if stream is not None and (attempt.opened or journey.broke is not None):
                    begun = self._broke_off(failure, journey, replace(ask, model=model), stream)
                seen = (attempt.opened or journey.broke is not None) and forget is None and begun is None
                await self._judge(failure, journey, seat, sent=seen)
                if attempt.opened and forget is not None:
                    forget()
                if stream is not None and begun is not None:
                    if (following := stream.go_on(begun)) is None:
                        return
                    ask = following
                seat = None
                continue
            if attempt.empty and not (journey.empty or journey.fits) and len(journey.seen) + 1 < self.choice.attempts:
                journey.empty = True
                journey.seen.append(seat.member)
                if (seat := await self.choice.another(journey)) is not None:
                    continue
            attempt.release()
            self.choice.praise(journey)
            return

    def _can_go_on(self, ask: Ask) -> bool:
        """Whether an answer to this ask may be gone on with at all."""
        if not self._continues or has_no_seam(ask):
            return False
        members = self.fleet.members
        return any(member.continues(ask, _SPOKEN) or member.continues(ask, _THOUGHT) for member in members)

    def _broke_off(self, failure: Failure, journey: Journey, ask: Ask, stream: Continued) -> Beginning | None:
        """The client has been sent some of an answer of this ask, as it was put to the engine, which ends here. Gives
        what another engine is to go on with."""
        if journey.broke is None:
            if verdict(failure) not in {Verdict.DOWN, Verdict.BUSY, Verdict.ERROR, Verdict.FAULT}:
                return None
            journey.broke = failure
        if (begun := stream.begun) is None:
            return None
        model_at = self.fleet.model_at  # no other model: the client has been told who answers
        journey.fits = lambda m: model_at(m, journey.model) == ask.model and m.continues(ask, begun)
        return begun if any(map(journey.fits, self.fleet.members)) else None

    async def _seated(self, journey: Journey) -> Lease:
        try:
            return await self.choice.seated(journey)
        except NoEngine as none:
            raise journey.broke or none from none

    async def embed(self, ask: EmbedAsk, journey: Journey | None = None, *, seat: Lease | None = None) -> Vectors:
        """Turn texts into vectors, by whichever engine can.

        Raises Unsupported when none makes embeddings, the failure that is told to the client, or NoEngine.
        """
        journey = journey or Journey(model=ask.model, embeds=True)
        fleet = self.fleet
        embedders = (member for member in fleet.members if isinstance(member.engine, Embedder))
        if all(fleet.rank(member, journey.model, embeds=True) is None for member in embedders):
            raise Unsupported("No engine on this server offers embeddings.")
        while True:
            seat = seat or await self.choice.seated(journey)
            engine = seat.member.engine
            assert isinstance(engine, Embedder)
            try:
                with seat:
                    model, client = self._name(journey, seat.member), self._told(journey, seat.member)
                    vectors = await engine.embed(replace(ask, model=model, client=client))
                    seat.speaks(timed=False)
            except Failure as failure:
                await self._judge(failure, journey, seat, sent=False)
                seat = None
                continue
            journey.report.model = vectors.model or journey.report.model
            self.choice.praise(journey)
            return vectors

    def _name(self, journey: Journey, member: Member) -> str | None:
        """Note who is asked. Gives the model to ask it for."""
        report = journey.report
        model = self.fleet.model_at(member, journey.model, embeds=journey.embeds)
        report.attempts += 1
        report.engine, report.model = member.engine.name, model or member.engine.name
        if report.on_attempt is not None:
            report.on_attempt(asyncio.get_running_loop().time())
        return model

    def _told(self, journey: Journey, member: Member) -> str | None:
        """Whose ask this is, for an engine that is a Standpipe; no other is told."""
        if not member.placement.forwards or journey.client is None:
            return None
        return pseudonym(journey.client, self._key)

    async def _judge(self, failure: Failure, journey: Journey, seat: Lease, *, sent: bool) -> None:
        """Decide what follows a failed attempt. Raises the failure that is the answer."""
        journey.seen.append(seat.member)
        found = verdict(failure)
        if isinstance(failure, Unsupported) and journey.embeds:
            found = Verdict.REFUSED  # this engine makes none
        if found in {Verdict.ASK, Verdict.EMPTY, Verdict.ERROR, Verdict.FAULT}:
            journey.worked += 1
        if found is Verdict.ASK and journey.complaint is None:
            journey.complaint, journey.complainer = failure, seat.member
        if found is Verdict.ASK and journey.broke is not None:
            found = Verdict.REFUSED  # the ask was well: this engine does not go on with an answer
        decision = await self.choice.decide(found, journey, seat.company, sent=sent)
        if isinstance(decision, GiveUp):
            raise journey.broke or journey.complaint or failure
        journey.again = decision
