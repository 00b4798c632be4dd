"""Events: the seven things that happen to an ask, and the order in which they may.

An engine produces them, a dialect's encoder turns them into bytes, `fold` turns them into a whole answer. The legal
order is the table `NEXT`; `Order` walks it, so that tests and shells can hold any stream against it.

    Waiting* Started delta* (Finished | Failed)

`Waiting` may come at any time before the end: it is also how silence is filled (see `Waiting.position`).
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.chat.errors import Failure


class Usage(Struct, frozen=True):
    """Tokens as the engine counted them. `prompt_tokens` includes cached ones; `completion_tokens` includes reasoning.

    None means the engine did not say, which is not zero.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


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


class Waiting(Struct, frozen=True):
    """The ask is not answered yet, or the engine is silent.

    `position` is the place in line, 1 being next; None when the ask is no longer in line (the engine reads or
    thinks). `eta` is the predicted wait in seconds, None when unknown.
    """

    position: int | None = None
    eta: float | None = None


class Started(Struct, frozen=True):
    """The engine has begun to answer. `model` is the name it gives itself, None when it does not say."""

    model: str | None = None


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


class Phase(StrEnum):
    """Where a stream of events is."""

    WAITING = "waiting"
    ANSWERING = "answering"
    CLOSED = "closed"


NEXT: dict[Phase, dict[type, Phase]] = {
    Phase.WAITING: {Waiting: Phase.WAITING, Started: Phase.ANSWERING, Failed: Phase.CLOSED},
    Phase.ANSWERING: {
        Waiting: Phase.ANSWERING,
        **dict.fromkeys(_DELTAS, Phase.ANSWERING),
        Finished: Phase.CLOSED,
        Failed: Phase.CLOSED,
    },
    Phase.CLOSED: {},
}
"""The legal order: phase, then the kind of event, gives the next phase. What is absent is illegal."""


class IllegalOrder(Exception):
    """An event came where the table has none: a bug in whoever produced it."""


class Order:
    """Walks `NEXT`. One per stream."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = Phase.WAITING

    def advance(self, event: Event) -> None:
        """Take one event. Raises IllegalOrder."""
        try:
            self.phase = NEXT[self.phase][type(event)]
        except KeyError:
            raise IllegalOrder(f"{type(event).__name__} while {self.phase}") from None

    def __repr__(self) -> str:
        return f"<Order {self.phase}>"
