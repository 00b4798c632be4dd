"""An errand: one ask of a worker's, at the keeper. A stay like that of a single process, but that it tells the worker
of its turn instead of waking a task. Must not know frames, nor other workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import astuple

from standpipe.chat.errors import Failure
from standpipe.chat.events import Usage
from standpipe.engines.choice import FleetChoice
from standpipe.engines.member import Member, Seat
from standpipe.engines.seats import Journey
from standpipe.keeper import messages
from standpipe.observe.log import Logger
from standpipe.policy.estimate import Sizes
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Left, Line, QueuedAsk, Stage, Standing
from standpipe.policy.pace import MICROSECONDS
from standpipe.policy.retry import Again, GiveUp, Verdict
from standpipe.serve.admission import Admission, Stay
from standpipe.serve.trace import WaitPreferences, Weight

_NO_SIZES = Sizes()


class Hall:
    """What all errands share.

    Args:
        admission: the line, with all that lets in.
        choice: who chooses engines.
        log: where it is told what is odd.
    """

    def __init__(self, admission: Admission, choice: FleetChoice, log: Logger) -> None:
        self.admission = admission
        self.choice = choice
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._stood: dict[Line, dict[ClientKey, tuple[float, tuple[Standing, ...]]]] = {}

    def member(self, name: str | None) -> Member | None:
        """The engine of this name."""
        return next((member for member in self.choice.fleet.members if member.engine.name == name), None)

    def tat_in(self, client: ClientKey, now: float) -> int:
        """Microseconds until the client's next free instant."""
        rate = self.admission.rate_of(client)
        if rate is None:
            return 0
        instant = int(now * MICROSECONDS)
        return self.admission.paces.peek(client, instant, rate).free_at - instant

    def stood(self, line: Line, client: ClientKey, age: float, told: tuple[Standing, ...]) -> None:
        """Where a client stood in a line so many seconds ago. The newest counts."""
        known = self._stood.setdefault(line, {})
        if client not in known or age < known[client][0]:
            known[client] = age, told

    def stand(self, now: float) -> None:
        """Let all clients stand where they stood: all of their asks are there."""
        for line, clients in self._stood.items():
            line.stand({client: told for client, (_, told) in clients.items()}, now)
        self.forget()

    def forget(self) -> None:
        """Forget where they stood."""
        self._stood.clear()

    async def close(self) -> None:
        """End all that still runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it ends, or the hall does. A bug in it is told."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.bug(bug)

    def bug(self, bug: BaseException) -> None:
        """Something of ours has failed, and everything else goes on."""
        self._log.error("bug", error=bug)


class Errand(Stay):
    """One ask of a worker's. It tells the worker by `send`, and stands among its `errands` until it ends."""

    __slots__ = ("_company", "_errands", "_hall", "_number", "_seeking", "_send", "told")

    def __init__(
        self, hall: Hall, errands: dict[int, Errand], send: Callable[[Any], None], join: messages.Join
    ) -> None:
        super().__init__(
            hall.admission,
            key_of(join.client),
            _journey(join.wish, join.fingerprint),
            WaitPreferences(join.patient, join.client_timeout, join.retry),
            Weight(join.fingerprint, join.size, _NO_SIZES, join.output_cap, join.held, join.instants),
        )
        self._hall = hall
        self._errands = errands
        self._send = send
        self._number = join.id
        self._company: int | None = None
        self._seeking: asyncio.Task[None] | None = None
        self.told: messages.Standings = ()

    def enter(self, prompt_tokens: int) -> None:
        """Take a place, and tell the worker what became of that."""
        try:
            self._hall.choice.begin(self.journey)
            place = self.join(prompt_tokens)
        except Failure as failure:
            self.end()
            self._refuse(failure)
            return
        if place.stage is Stage.WAITING:
            now = _now()
            waits = messages.Waits(self._number, place.number, place.eligible_at - now, self._tat_in(now))
            waits.told, waits.age = self.standings(), now - place.joined_at
            self._send(waits)

    def _tat_in(self, now: float) -> int:
        return self._hall.tat_in(self._client, now)

    def standings(self) -> messages.Standings:
        """Where its client stands in its line."""
        self.told = tuple(map(astuple, self._line.told(self._client)))
        return self.told

    def grant(self) -> None:
        super().grant()
        place, now = self._place, _now()
        assert place is not None
        granted = messages.Granted(self._number, self._enter(self._seat), place.number, self._tat_in(now))
        granted.age, granted.headroom = now - place.joined_at, place.on_headroom
        self._send(granted)

    def _enter(self, seat: Seat | None) -> str | None:
        """An attempt begins. Gives its engine's name."""
        if seat is None:
            return None
        seat.__enter__()
        return seat.member.engine.name

    def refuse(self, failure: Failure) -> None:
        self._refuse(failure)
        asyncio.get_running_loop().call_soon(self.end)  # not while others are being granted something

    def _refuse(self, failure: Failure) -> None:
        self._send(refusal(self._number, failure, self._tat_in(_now())))

    def resume(self, join: messages.Join, stood: messages.Stood) -> None:
        """Hold what it held with another keeper."""
        now, admission, weights = _now(), self._admission, self._admission.lines.rules.weights
        line = self._line = admission.lines.of(self.journey)
        place = self._place = QueuedAsk(
            self._client,
            stood.number,
            now + stood.eligible_in,
            now - join.age,
            join.prompt_tokens,
            join.output_cap,
            join.size,
            join.fingerprint,
        )
        if stood.granted is None:
            admission.resume(place, self)
        else:
            place.stage = Stage.RUNNING
            place.granted_at = now - stood.granted
            place.first_token_at = None if stood.spoken is None else now - stood.spoken
            place.output_tokens, place.on_headroom = stood.output, stood.headroom
            place.charged = weights.input(max(1, place.prompt_tokens)) + weights.output * stood.output
            if stood.engine is not None and (member := self._hall.member(stood.engine)) is not None:
                self._seat = admission.seats.resume(member, self.journey)
                self._enter(self._seat)
                if stood.spoken is not None:
                    self._seat.began(None)
        line.adopt(place, now)
        if stood.told:
            self._hall.stood(line, self._client, stood.told_age, tuple(Standing(*one) for one in stood.told))

    def began(self, seconds: float | None) -> None:
        """Its engine begins to answer."""
        if self._seat is not None:
            self._seat.began(seconds)

    def charged(self, tokens: int) -> None:
        """Output tokens have passed at the worker."""
        if self._place is not None and self._place.stage is Stage.RUNNING:
            self.charge(tokens, _now())

    def over(self, message: messages.Over) -> None:
        """The attempt is over."""
        seat, self._seat = self._seat, None
        if seat is None:
            return
        if message.outcome == "answered":
            seat.answered()
        elif message.outcome == "left":
            seat.left()
        else:
            seat.failed(Verdict(message.outcome), message.message, message.retry_after, broke=message.broke)
        self._company = seat.company

    def look(self) -> None:
        """Tell where it is."""
        place, waiting = messages.Place(self._number), self.waiting()
        if waiting is not None:
            place.position, place.eta = waiting.position, waiting.eta
        elif (ahead := self.journey.report.ahead) is not None:
            place.position = ahead + 1
        self._send(place)

    def swap(self, message: messages.Swap) -> None:
        """The attempt has failed."""
        self._follow(message.way)
        self._seeking = self._hall.run(self._decide(Verdict(message.found), sent=message.sent))

    async def _decide(self, found: Verdict, *, sent: bool) -> None:
        journey, company = self.journey, self._company if self.journey.seen else None
        try:
            decision = await self._hall.choice.decide(found, journey, company, sent=sent)
        except Failure as failure:
            self._refuse(failure)
            return
        decided = messages.Decided(self._number, isinstance(decision, GiveUp), suspect=journey.suspect)
        if isinstance(decision, Again):
            decided.delay, decided.elsewhere = decision.delay, decision.elsewhere
        if journey.died_at is not None:
            decided.died_at = journey.died_at.engine.name
        self._send(decided)

    def seek(self, message: messages.Seek) -> None:
        """It goes on, and wants a seat."""
        self._follow(message.way)
        self._seeking = self._hall.run(self._seek(at_once=message.now))

    async def _seek(self, *, at_once: bool) -> None:
        choice = self._hall.choice
        try:
            self._seat = await (choice.another(self.journey) if at_once else choice.seated(self.journey))
        except Failure as failure:
            self._refuse(failure)
            return
        self._send(messages.Seated(self._number, self._enter(self._seat)))

    def _follow(self, way: messages.Way) -> None:
        """Take over what the worker knows of its journey."""
        journey, member = self.journey, self._hall.member
        journey.seen = [found for name in way.seen if (found := member(name)) is not None]
        journey.worked = way.worked
        journey.suspect = journey.suspect or way.suspect
        journey.died_at = None if way.died_at is None else member(way.died_at)
        journey.again = Again(way.delay, way.elsewhere)
        if way.patience is not None:
            journey.patience = way.patience
        if (fits := way.fits) is not None:
            journey.fits = lambda candidate: candidate.engine.name in fits

    def end(self, message: messages.End | None = None) -> None:
        """Let go of everything. Idempotent."""
        self._errands.pop(self._number, None)
        if self._seeking is not None:
            self._seeking.cancel()
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.left()
        if message is not None and self._place is not None and self._place.stage is Stage.RUNNING:
            now = _now()
            if message.tokens:
                self.charge(message.tokens, now)
            usage = None if message.usage is None else Usage(*message.usage)
            self.settle(usage, message.counted, failed=message.failed)
            if message.praised:
                if message.complainer is not None:
                    self.journey.complainer = self._hall.member(message.complainer)
                self._hall.choice.praise(self.journey)
        self.let_go()

    @property
    def runs(self) -> bool:
        """Whether it holds a slot."""
        return self._place is not None and self._place.stage is Stage.RUNNING


def refusal(number: int, failure: Failure, tat_in: int = 0) -> messages.Refused:
    """A failure, as it is told."""
    return messages.Refused(number, failure.kind, failure.message, failure.retry_after, tat_in)


def _now() -> float:
    return asyncio.get_running_loop().time()


def key_of(client: messages.Client) -> ClientKey:
    """The client that is meant."""
    return ClientKey(client.address, client.block, client.share, client.paced)


def left_place(left: messages.LeftPlace, now: float, hold: float) -> tuple[Journey, ClientKey, Left]:
    """What was left a moment ago, as the line keeps it."""
    eligible_at = now + left.eligible_in
    kept = Left(left.number, eligible_at, now - left.age, now - left.gone + hold)
    return _journey(left.wish, left.fingerprint), key_of(left.client), kept


def _journey(wish: messages.Wish, fingerprint: bytes) -> Journey:
    return Journey(
        model=wish.model,
        embeds=wish.embeds,
        least=wish.least,
        fingerprint=fingerprint,
        prefixes=tuple(wish.prefixes),
        shows=wish.shows,
    )
