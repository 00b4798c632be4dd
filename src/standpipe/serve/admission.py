"""Admission: the async shell around the pace and the line. It turns an ask into a slot, or into a refusal, or back.

The pace's instant is reserved and the line joined at once, so spacing never adds to a longer line. Whatever can be
refused is refused here, before anything is sent. An `Entry` owns everything that an ask holds on the way (its reserved
instant, its place, its slot) and lets go of it once, on whatever path it is closed. One loop timer waits for the next
instant of anybody; nothing polls.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec import Struct

from standpipe.chat.ask import Ask
from standpipe.chat.errors import Failure, LineFull, NoEngine, PaceExceeded, WaitTooLong
from standpipe.chat.events import Usage, Waiting
from standpipe.edge.seam import Headers
from standpipe.policy.estimate import Prompts, Sizes, texts
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, LineStatistics, Place, State
from standpipe.policy.overload import Slots
from standpipe.policy.pace import MICROSECONDS, Peek, Rate, Refuse, Wait, peek
from standpipe.store.paces import Paces


class Wish(Struct, frozen=True):
    """What the client says about waiting.

    `patient` is false for `Prefer: wait=0`: rather refused than kept waiting. `deadline` is how many seconds the
    caller itself will wait, as SDKs tell. `retry` is true for an SDK's automatic retry.
    """

    patient: bool = True
    deadline: float | None = None
    retry: bool = False

    @classmethod
    def read(cls, headers: Headers) -> Wish:
        """Read the headers. What cannot be understood is as good as not sent."""
        prefer = headers.all(b"prefer")
        told = headers.get(b"x-stainless-read-timeout") or headers.get(b"x-stainless-timeout")
        count = headers.get(b"x-stainless-retry-count")
        return cls(
            patient=not prefer or "wait=0" not in ",".join(prefer).replace(" ", "").lower().split(","),
            deadline=_positive(told),
            retry=bool(_positive(count)),
        )


def _positive(text: str | None) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < 1e6 else None


class Admission:
    """Lets asks in.

    Args:
        line: the line, with the slots of all engines.
        paces: where paces are kept.
        rate: the pace; None when there is none.
        wait_limit: longest predicted wait that is accepted, in seconds.
        has_room: whether an engine that is up has a free slot; asks stay in line while it has none.
        auto: finds the number of slots by trying; None when it is fixed.
        most: asks that may run at a time, however many slots there are: what this process can stream.
    """

    def __init__(
        self,
        line: Line,
        paces: Paces,
        *,
        rate: Rate | None,
        wait_limit: float,
        has_room: Callable[[], bool],
        auto: Slots | None = None,
        most: int = 4096,
    ) -> None:
        self.line = line
        self.paces = paces
        self.rate = rate
        self.wait_limit = wait_limit
        self.prompts = Prompts()
        self.auto = auto
        self._most = most
        self._has_room = has_room
        self._waiting: dict[Place, Entry] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    def entry(self, client: ClientKey, wish: Wish, body: bytes, ask: Ask) -> Entry:
        """An entry for one ask, which came as `body`; nothing is taken before `join`."""
        return Entry(self, client, wish, body, ask)

    def resize(self, slots: int) -> None:
        """Engines have this many slots in all."""
        found = slots if self.auto is None else self.auto.value
        self.line.slots = max(1, min(slots, found, self._most))

    def drain(self) -> None:
        """Take no more asks, and refuse those that wait."""
        self._draining = True
        for entry in list(self._waiting.values()):
            entry.refuse(self.shutting_down())

    @property
    def draining(self) -> bool:
        return self._draining

    @staticmethod
    def shutting_down() -> Failure:
        return NoEngine("This server is shutting down. Please try again in a moment.", retry_after=5.0)

    def enter(self, place: Place, entry: Entry) -> None:
        """An ask waits in line."""
        self._waiting[place] = entry
        self.dispatch()

    def forget(self, place: Place) -> None:
        """An ask has left the line, or has freed its slot."""
        self._waiting.pop(place, None)
        if self._waiting:
            self.dispatch()

    def dispatch(self) -> None:
        """Grant what can be granted, and wake up again when the next instant comes. Call it when anything changed."""
        now = asyncio.get_running_loop().time()
        waiting = self._waiting
        for shed in self.line.shed(now):
            waiting.pop(shed).refuse(WaitTooLong("Too many wait, for too long. Please come back later."))
        while waiting and self._has_room() and (place := self.line.next(now)) is not None:
            waiting.pop(place).grant()
        due = self.line.eligible_after(now) if waiting else None
        if self._timer is not None:
            if due == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.dispatch()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def statistics(self) -> LineStatistics:
        return self.line.statistics()

    def __repr__(self) -> str:
        return f"<Admission {self.line}>"


class Entry:
    """One ask on its way to a slot, and the owner of that slot. Use it in an `async with`."""

    __slots__ = (
        "_admission",
        "_body",
        "_cap",
        "_client",
        "_granted",
        "_place",
        "_sizes",
        "_until",
        "_wish",
        "pace",
        "reserved_at",
    )

    def __init__(self, admission: Admission, client: ClientKey, wish: Wish, body: bytes, ask: Ask) -> None:
        self._admission = admission
        self._client = client
        self._wish = wish
        self._body = body
        self._cap = ask.sampling.max_tokens
        self._sizes = Sizes.of(texts(ask))
        self.pace: Peek | None = None
        """What is left of the client's pace, once it has been reserved."""
        self.reserved_at = 0
        """When that was, in microseconds."""
        self._place: Place | None = None
        self._until: int | None = None
        self._granted: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def join(self) -> None:
        """Reserve an instant and a place.

        Raises PaceExceeded, LineFull, WaitTooLong or NoEngine; then nothing is held.
        """
        admission = self._admission
        if admission.draining:
            raise admission.shutting_down()
        now = asyncio.get_running_loop().time()
        eligible_at = self._reserve(now)
        line = admission.line
        fingerprint = hashlib.blake2s(self._body, digest_size=16).digest()
        place = line.join(
            self._client,
            now=now,
            eligible_at=eligible_at,
            prompt_tokens=admission.prompts.low(self._sizes),
            # What is kept of a conversation, and the operator's prompt, wait in memory as well as the body.
            size=max(len(self._body), self._sizes.prose + self._sizes.code + self._sizes.wide),
            output_cap=self._cap,
            fingerprint=fingerprint,
            retake=line.recall(self._client, fingerprint, now) if self._wish.retry else None,
        )
        self._place = place
        self._body = b""
        admission.enter(place, self)
        if place.state is State.WAITING:
            self._judge(place, now)

    def _reserve(self, now: float) -> float:
        """The instant before which this ask may not start. Raises PaceExceeded."""
        rate = self._admission.rate
        if rate is None:
            return now
        instant = int(now * MICROSECONDS)
        verdict = self._admission.paces.reserve(self._client, instant, rate)
        if isinstance(verdict, Refuse):
            seconds = verdict.retry_after / MICROSECONDS
            interval = rate.interval / MICROSECONDS
            full = f", and as many wait already as may ({rate.max_waiting})" if rate.max_waiting else ""
            raise PaceExceeded(
                f"Your address may ask once every {interval:g} s{full}. Come back in {seconds:.1f} s.",
                retry_after=seconds,
            )
        self.pace, self.reserved_at = peek(verdict.tat, instant, rate), instant
        if isinstance(verdict, Wait):
            self._until = verdict.until
            return now + (verdict.until - instant) / MICROSECONDS
        return now

    def _judge(self, place: Place, now: float) -> None:
        """Refuse at once what could not be kept. The client may say how long it would wait itself."""
        if not self._wish.patient:
            wait = place.eligible_at - now
            if wait > 0:
                raise PaceExceeded("You asked not to wait, and your pace lets you ask again later.", retry_after=wait)
            raise LineFull("You asked not to wait, and there is no free slot right now.", retry_after=1.0)
        forecast = self._admission.line.forecast(place, now)
        wait = max(place.eligible_at - now, forecast.wait or 0.0)
        limit = min(self._admission.wait_limit, self._wish.deadline or self._admission.wait_limit)
        if wait > limit:
            raise WaitTooLong(
                f"The wait would be about {wait:.0f} s, longer than the {limit:g} s that are kept. "
                f"{forecast.position - 1} asks are ahead of you.",
                retry_after=wait - limit,
            )

    async def granted(self) -> None:
        """Wait for the slot. Raises WaitTooLong when it does not come in time, or what `refuse` was given."""
        place = self._place
        assert place is not None
        if place.state is State.RUNNING:
            return
        self._granted = asyncio.get_running_loop().create_future()
        admission = self._admission
        limit = min(admission.wait_limit, self._wish.deadline or admission.wait_limit)
        try:
            async with asyncio.timeout(limit):
                await self._granted
        except TimeoutError:
            raise WaitTooLong(f"No slot became free within {limit:g} s. Please try again.", retry_after=5.0) from None

    def grant(self) -> None:
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def refuse(self, failure: Failure) -> None:
        """End the wait with a failure."""
        if self._granted is not None and not self._granted.done():
            self._granted.set_exception(failure)

    def waiting(self) -> Waiting:
        """Where this ask is."""
        place = self._place
        if place is None or place.state is not State.WAITING:
            return Waiting()
        forecast = self._admission.line.forecast(place, asyncio.get_running_loop().time())
        return Waiting(forecast.position, forecast.wait)

    def charge(self, tokens: int, now: float) -> None:
        """Output tokens have passed."""
        assert self._place is not None
        self._admission.line.charge(self._place, tokens, now)

    def settle(self, usage: Usage | None, tokens: int, *, failed: bool) -> None:
        """The answer is over, `failed` or not, after `tokens` tokens: put the engine's own count in the place of ours.

        Where the engine gave none, ours stands, but a failure before the first token costs nothing. What was measured
        teaches the estimates.
        """
        place, admission = self._place, self._admission
        assert place is not None
        now = asyncio.get_running_loop().time()
        if usage is not None:
            admission.prompts.learn(self._sizes, usage.prompt_tokens)
            admission.line.settle(
                place,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=max(usage.completion_tokens, tokens),
                cached_tokens=usage.cached_tokens or 0,
            )
        elif failed and not tokens:
            admission.line.settle(place, prompt_tokens=0, completion_tokens=0)
        if admission.auto is not None and place.granted_at is not None:
            if failed:
                admission.auto.refused(now)
            elif place.first_token_at is not None:
                running = admission.line.statistics().running
                seconds = place.first_token_at - place.granted_at
                admission.auto.first_token(usage.prompt_tokens if usage else 0, seconds, running, now)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the slot, or of the place and the instant. Nothing here suspends."""
        place, self._place = self._place, None
        ran = False
        if place is not None:
            now = asyncio.get_running_loop().time()
            if place.state is State.RUNNING:
                ran = True
                self._admission.line.release(place, now)
            elif place.state is State.WAITING:
                self._admission.line.leave(place, now)
            self._admission.forget(place)
        if self._until is not None and not ran and self._admission.rate is not None:
            self._admission.paces.cancel(self._client, self._until, self._admission.rate)

    def __repr__(self) -> str:
        return f"<Entry {self._place}>"
