"""The trace of one ask: what it brings, what has been learned of it, and what that makes of headers and its record.

Decides nothing and waits for nothing. Must not know how an ask is admitted or answered, nor any format.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Image
from standpipe.chat.errors import Failure
from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    total,
)
from standpipe.edge.seam import Headers
from standpipe.engines.attempt import Report
from standpipe.observe.hooks import Record
from standpipe.policy.estimate import Sizes
from standpipe.policy.identity import ClientKey
from standpipe.serve.exchange import Header


class WaitPreferences(Struct, frozen=True):
    """What the client says about waiting.

    `patient` is false for `Prefer: wait=0`: rather refused than kept waiting. `client_timeout` is how many seconds
    the caller itself will wait, as SDKs tell. `retry` is true for an SDK's automatic retry.
    """

    patient: bool = True
    client_timeout: float | None = None
    retry: bool = False

    def longest(self, limit: float) -> float:
        """Seconds for which a wait makes sense, where the server lets nobody wait for more than `limit`."""
        return min(limit, self.client_timeout or limit)

    @classmethod
    def read(cls, headers: Headers) -> WaitPreferences:
        """Read the headers. What cannot be understood is as good as not sent."""
        prefer = headers.all(b"prefer")
        timeout = headers.get(b"x-stainless-read-timeout") or headers.get(b"x-stainless-timeout")
        count = headers.get(b"x-stainless-retry-count")
        return cls(
            patient=not prefer or "wait=0" not in ",".join(prefer).replace(" ", "").lower().split(","),
            client_timeout=_positive(timeout),
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


def extra_instants(size: int) -> int:
    """How many requests more than one a body of so many bytes counts as: one for each whole megabyte."""
    return size >> 20


class Weight(Struct, frozen=True):
    """What the line has to know of an ask.

    `size` is the bytes that wait in memory with it, and `held` whether its body has room of its own there (`bodies`).
    `sizes` is what a model has to read of it, `cap` the most output tokens, `instants` the requests that it counts as.
    `fingerprint` is a digest of the request, by which a retry is known.
    """

    fingerprint: bytes
    size: int
    sizes: Sizes
    cap: int
    held: bool = False
    instants: int = 1

    @classmethod
    def of(
        cls, body: bytes, texts: Iterable[str], cap: int, images: Sequence[Image] = (), *, held: bool = False
    ) -> Weight:
        """Weigh a request with this body, which makes a model read these texts, one for each message, and images."""
        memory = sum(len(image.data) for image in images)

        def weighed() -> Iterator[str]:
            nonlocal memory
            for text in texts:
                memory += sys.getsizeof(text)  # four bytes for each character, where one is an emoji
                yield text

        sizes = Sizes.of(weighed(), images)
        # What is kept of a conversation, and the operator's prompt, wait in memory as well as the body.
        fingerprint = hashlib.blake2b(body, digest_size=16).digest()
        return cls(fingerprint, max(len(body), memory), sizes, cap, held, 1 + extra_instants(len(body)))

    def beside(self, number: int, texts: Iterable[str], cap: int, images: Sequence[Image] = ()) -> Weight:
        """The weight of another choice of the same request: the body waits in memory once, and engines that die of one
        choice die of that one."""
        own = hashlib.blake2b(self.fingerprint + bytes([number]), digest_size=16).digest()
        return Weight(own, 0, Sizes.of(texts, images), cap)


class Used(Struct):
    """What the answers of several choices have used together, as a meter tells it of one."""

    tokens: int
    first_token_at: float | None
    usage: Usage | None


class TokenMeter:
    """Counts what one answer has used so far, while it passes.

    Every delta counts as one token, which is what engines send; the engine's own count replaces the sum at the end.
    The client is charged as tokens pass, so that hanging up buys nothing, and the meter knows when the cap is reached
    although the engine goes on. Where the engine gives no count, or was stopped before it could, the client is told
    ours: many want one.
    """

    __slots__ = ("_cap", "_charge", "_first", "first_token_at", "full", "prompt_estimate", "tokens", "usage")

    def __init__(
        self, cap: int, charge: Callable[[int, float], None], first: Callable[[float], None] | None = None
    ) -> None:
        """`cap` is the most output tokens that may pass. `charge` is told of every batch's tokens, and of the instant,
        in the loop's seconds; `first` of the first token's instant."""
        self._cap = cap
        self._charge = charge
        self._first = first
        self.tokens = 0
        self.prompt_estimate: int | None = None
        """Tokens that the prompt is likely to have, where somebody guesses."""
        self.first_token_at: float | None = None
        self.usage: Usage | None = None
        """The engine's count."""
        self.full = False
        """The cap was reached before the engine finished: nothing more may pass."""

    def restart(self) -> None:
        """The engine failed, and the client has seen nothing of its answer: count the next one from the start. What
        was charged stays, unless the next engine's own count replaces it."""
        self.tokens = 0
        self.first_token_at = self.usage = None
        self.full = False

    def count(self, events: list[Event], now: float) -> list[Event]:
        """Count a batch that came now and give it back, cut and closed with LENGTH where the cap is passed."""
        before = self.tokens
        for i, event in enumerate(events):
            kind = type(event)
            if kind is TextDelta or kind is ReasoningDelta or kind is ToolCallDelta:
                if self.tokens == self._cap:
                    self.full = True
                    events = [*events[:i], Finished(FinishReason.LENGTH, self._own())]
                    break
                self.tokens += 1
            elif isinstance(event, Finished):
                self.usage = event.usage
                if event.usage is None:
                    events = [*events[:i], replace(event, usage=self._own())]
        if self.tokens > before:
            self._charge(self.tokens - before, now)
            if self.first_token_at is None:
                self.first_token_at = now
                if self._first is not None:
                    self._first(now)
        return events

    def _own(self) -> Usage | None:
        return None if self.prompt_estimate is None else Usage(self.prompt_estimate, self.tokens)


class Tell(Protocol):
    """Writes one line about a step, as `observe.log.Logger.debug` does."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Trace:
    """One ask. Instants are the loop's time, in seconds. Its steps are told as they come, where somebody listens."""

    __slots__ = (
        "arrived", "client", "dialect", "dropped", "failure", "granted_at", "id", "left", "meter", "report", "stream",
        "tell",
    )  # fmt: skip

    def __init__(self, request_id: str, dialect: str, now: float, tell: Tell | None = None) -> None:
        self.id = request_id
        self.dialect = dialect
        self.arrived = now
        self.granted_at: float | None = None
        self.client: ClientKey | None = None
        self.stream = False
        self.dropped: tuple[str, ...] = ()
        """Fields of the request that were not read."""
        self.meter: TokenMeter | Used | None = None
        """What the answer has used, once the ask waits for one."""
        self.report = Report()
        """Attempts, the engine, and the one name of the model that answers."""
        self.failure: Failure | None = None
        self.left = False
        """The client left before the answer was whole."""
        self.tell = tell
        if tell is not None:
            self.report.on_attempt = self._attempted

    def step(self, name: str, now: float, **fields: object) -> None:
        """Something has happened to the ask."""
        if self.tell is not None:
            self.tell(f"request {name}", id=self.id, at=round(now - self.arrived, 4), **fields)

    def fork(self) -> Trace:
        """The trace of one of several choices of this request."""
        own = Trace(self.id, self.dialect, self.arrived, self.tell)
        own.client, own.report.model = self.client, self.report.model
        return own

    def gather(self, choices: Sequence[Trace]) -> None:
        """Know of the request what is known of its choices by now: the first that had its turn, the most attempts."""
        report, reports = self.report, [choice.report for choice in choices]
        report.attempts = max(one.attempts for one in reports)
        report.waited = max(one.waited for one in reports)
        report.continued = sum(one.continued for one in reports)
        report.dropped = tuple(dict.fromkeys(name for one in reports for name in one.dropped))
        for one in reports:
            if one.engine is not None:
                report.engine, report.model = one.engine, one.model
        self.granted_at = min((one.granted_at for one in choices if one.granted_at is not None), default=None)
        meters = [choice.meter for choice in choices if choice.meter is not None]
        firsts = [meter.first_token_at for meter in meters if meter.first_token_at is not None]
        usage = total([meter.usage for meter in meters]) if meters else None
        self.meter = Used(sum(meter.tokens for meter in meters), min(firsts, default=None), usage)

    def _attempted(self, now: float) -> None:
        report = self.report
        self.step("attempt", now, number=report.attempts, engine=report.engine, model=report.model)

    def waited(self, now: float) -> float:
        """Seconds from the complete request to the slot, or until now where there is none yet, and what was waited
        for other engines after that."""
        return (now if self.granted_at is None else self.granted_at) - self.arrived + self.report.waited


CLIENT_LEFT = 499
"""What nginx logs for a client that closed the connection before its answer."""


def answer_headers(trace: Trace, limits: Sequence[Header], now: float) -> list[Header]:
    """The headers that every answer to an ask carries, a failure as well as a stream: how long the ask has waited, how
    many attempts were made when the answer began, which of its fields were not read, and what is left of its limits.
    """
    found = [
        (b"x-standpipe-waited", b"%.3f" % trace.waited(now)),
        (b"x-standpipe-attempts", b"%d" % trace.report.attempts),
        *limits,
    ]
    if dropped := (*trace.dropped, *trace.report.dropped):
        found.append((b"x-standpipe-dropped", ", ".join(dropped).encode("ascii", "replace")))
    return found


def record(trace: Trace, hash_client: Callable[[str], str], now: float) -> Record:
    """How the ask went."""
    meter, report, failure = trace.meter, trace.report, trace.failure
    usage = meter.usage if meter else None
    first = meter.first_token_at if meter else None
    status = CLIENT_LEFT if trace.left else failure.status if failure else 200
    return Record(
        id=trace.id,
        dialect=trace.dialect,
        client=hash_client(trace.client.address) if trace.client else "-",
        status=status,
        stream=trace.stream,
        model=report.model,
        engine=report.engine,
        failure=failure.kind if failure else None,
        waited=trace.waited(now),
        first_token=None if first is None else first - trace.arrived,
        duration=now - trace.arrived,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else (meter.tokens if meter else None),
        attempts=report.attempts,
        continued=report.continued,
    )
