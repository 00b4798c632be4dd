"""Fold: events to a whole answer. A non-streamed answer is the fold of the streamed one, so both always agree."""

from __future__ import annotations

from msgspec import Struct

from standpipe.chat.ask import ToolCall
from standpipe.chat.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)


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


class Fold:
    """Takes events as they come; `answer` is there once Finished has come.

    A Failed raises its failure: half an answer is never folded into a whole one.
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
