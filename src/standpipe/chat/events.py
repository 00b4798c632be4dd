"""Events: the seven things that happen to an ask, the order in which they may, and the answer that they add up to.

An engine produces them, a dialect's encoder turns them into bytes, `AnswerBuilder` makes a whole answer of them. The
legal order is the table `NEXT`, a state machine; `EventOrder` walks it, so that tests can hold any stream against it.

    Waiting* Started delta* (Finished | Failed)

`Waiting` may come at any time before the end: it is also how silence is filled (see `Waiting.position`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from standpipe.chat.ask import ToolCall
from standpipe.chat.errors import Failure


class Usage(Struct, frozen=True):
    """Tokens as the engine counted them. `prompt_tokens` includes cached ones; `completion_tokens` includes reasoning.

    None means the engine did not say, which is not zero.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


def total(usages: Sequence[Usage | None]) -> Usage | None:
    """What several answers took together; None where it is not known of one. A detail counts where it is known."""
    if len(usages) == 1:
        return usages[0]
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    thought = [usage.reasoning_tokens for usage in known if usage.reasoning_tokens is not None]
    cached = [usage.cached_tokens for usage in known if usage.cached_tokens is not None]
    return Usage(
        sum(usage.prompt_tokens for usage in known),
        sum(usage.completion_tokens for usage in known),
        sum(thought) if thought else None,
        sum(cached) if cached else None,
    )


class Timings(Struct, frozen=True):
    """Seconds the engine says it spent reading the prompt and writing the answer."""

    prompt_seconds: float
    generation_seconds: float


class TokenLogprob(Struct, frozen=True):
    """The log-probability of one token, and of its `top` rivals, likeliest first (a rival has no rivals)."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[TokenLogprob, ...] = ()


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Queue(Struct, frozen=True):
    """A place in the queue as clients read it, in seconds to a tenth."""

    position: int
    eta_seconds: float | None


class Waiting(Struct, frozen=True):
    """The ask is not answered yet, or the engine is silent.

    `position` is the place in line, 1 being next; None when the ask is no longer in line (the engine reads or
    thinks). `eta` is the predicted wait in seconds, None when unknown.
    """

    position: int | None = None
    eta: float | None = None

    @property
    def queue(self) -> Queue | None:
        """The place in line as every format tells it; None out of the line."""
        eta = None if self.eta is None else round(self.eta, 1)
        return None if self.position is None else Queue(self.position, eta)


class Started(Struct, frozen=True):
    """The engine has begun to answer. `model` is the name it gives itself, None when it does not say. `dropped` names
    what of the ask it had to do without."""

    model: str | None = None
    dropped: tuple[str, ...] = ()


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More reasoning."""

    text: str


class TextDelta(Struct, frozen=True):
    """More of the answer's text, or of a refusal."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    refusal: bool = False


class ToolCallDelta(Struct, frozen=True, gc=False):
    """More of the tool call `index` (0, 1, ...). `id` and `name` are set on the first delta of each call only."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class Finished(Struct, frozen=True):
    """The answer is whole. `stop` is the client's stop string that ended it, None when none did or nobody says."""

    reason: FinishReason
    usage: Usage | None = None
    timings: Timings | None = None
    stop: str | None = None


class Failed(Struct, frozen=True):
    """There will be no more of this answer, and what came is not a whole one."""

    failure: Failure


Event = Waiting | Started | ReasoningDelta | TextDelta | ToolCallDelta | Finished | Failed
Delta = ReasoningDelta | TextDelta | ToolCallDelta

_DELTAS: frozenset[type] = frozenset({ReasoningDelta, TextDelta, ToolCallDelta})


def says_something(event: Event) -> bool:
    """Whether this event gives the client anything to read or to call."""
    match event:
        case TextDelta(text) | ReasoningDelta(text):
            return bool(text)
        case _:
            return isinstance(event, ToolCallDelta)


def answers(event: Event) -> bool:
    """Whether this event is part of an answer: a call, or text that is more than white space."""
    match event:
        case TextDelta(text):
            return not text.isspace() and bool(text)
        case _:
            return isinstance(event, ToolCallDelta)


class StreamPhase(StrEnum):
    """Where a stream of events is."""

    WAITING = "waiting"
    ANSWERING = "answering"
    CLOSED = "closed"


NEXT: dict[StreamPhase, dict[type, StreamPhase]] = {
    StreamPhase.WAITING: {Waiting: StreamPhase.WAITING, Started: StreamPhase.ANSWERING, Failed: StreamPhase.CLOSED},
    StreamPhase.ANSWERING: {
        Waiting: StreamPhase.ANSWERING,
        **dict.fromkeys(_DELTAS, StreamPhase.ANSWERING),
        Finished: StreamPhase.CLOSED,
        Failed: StreamPhase.CLOSED,
    },
    StreamPhase.CLOSED: {},
}
"""The legal order: phase, then the kind of event, gives the next phase. What is absent is illegal."""


class IllegalOrder(Exception):
    """An event came where the table has none: a bug in whoever produced it."""


class EventOrder:
    """Walks `NEXT`. One per stream."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = StreamPhase.WAITING

    def advance(self, event: Event) -> None:
        """Take one event. Raises IllegalOrder."""
        try:
            self.phase = NEXT[self.phase][type(event)]
        except KeyError:
            raise IllegalOrder(f"{type(event).__name__} while {self.phase}") from None


class Answer(Struct, frozen=True):
    """One finished answer. Empty text is an empty string; no reasoning is an empty string, too."""

    text: str
    reasoning: str
    refusal: str
    tool_calls: tuple[ToolCall, ...]
    reason: FinishReason
    model: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None
    timings: Timings | None = None
    stop: str | None = None


NOTHING = Answer("", "", "", (), FinishReason.STOP)
"""The answer to an ask without messages."""


class AnswerBuilder:
    """Puts events together as they come; `answer` is there once Finished has come.

    A whole answer is made of the events of the streamed one, so both always agree. A Failed raises its failure: half an
    answer never becomes a whole one.
    """

    __slots__ = ("_calls", "_finished", "_logprobs", "_model", "_reasoning", "_refusal", "_text")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._logprobs: list[TokenLogprob] = []
        self._model: str | None = None
        self._finished: Finished | None = None

    def add(self, events: list[Event]) -> None:
        """Take a batch. Raises the Failure that a Failed carries."""
        for event in events:
            match event:
                case TextDelta(text, logprobs, refusal):
                    (self._refusal if refusal else self._text).append(text)
                    self._logprobs.extend(logprobs)
                case ReasoningDelta(text):
                    self._reasoning.append(text)
                case ToolCallDelta(index, arguments, call_id, name):
                    _, _, pieces = self._calls.setdefault(index, (call_id or f"call_{index}", name or "", []))
                    pieces.append(arguments)
                case Started(model):
                    self._model = model
                case Finished():
                    self._finished = event
                case Failed(failure):
                    raise failure
                case Waiting():
                    pass

    @property
    def answer(self) -> Answer | None:
        """The whole answer, or None while it is not finished."""
        if self._finished is None:
            return None
        return Answer(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            tool_calls=tuple(
                ToolCall(call_id, name, "".join(pieces)) for _, (call_id, name, pieces) in sorted(self._calls.items())
            ),
            reason=self._finished.reason,
            model=self._model,
            logprobs=tuple(self._logprobs),
            usage=self._finished.usage,
            timings=self._finished.timings,
            stop=self._finished.stop,
        )
