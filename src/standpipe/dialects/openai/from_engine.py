"""An OpenAI-compatible engine's stream to events, one decoder for each answer.

It takes what engines really send: a first frame without content, or none at all; reasoning under either name or both;
frames of progress without text; usage in any frame; comments; an error in the middle. It is strict in one thing: an
answer is whole only if the engine gave a reason for its end.

`Started` comes with the first delta that says something, not with the first frame: as long as nothing was said,
another attempt may take this one's place. `Finished` comes with the end of the stream, because usage follows the
reason.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, json

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)
from standpipe.dialects.engine_output import shown_model, timings, usage
from standpipe.dialects.framing import LIMIT, FrameTooLarge, SseFrames
from standpipe.dialects.openai.calls import Calls, Piece
from standpipe.dialects.openai.faults import failure_in_stream


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Piece] | None = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Timings(Struct, gc=False):
    """llama.cpp's."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's: the stop string, or the id of a token
    logprobs: Any = None
    usage: _Usage | None = None


class _Frame(Struct):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: Any = None


class _TopLogprob(Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[_TopLogprob, ...] | None = None


class _Logprobs(Struct):
    content: tuple[_TopLogprob, ...] | None = None
    refusal: tuple[_TopLogprob, ...] | None = None


_FRAME = json.Decoder(_Frame)

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_BROKEN = frozenset({"abort", "aborted", "cancelled", "error"})


class Decoder:
    """One answer's stream. `feed` it every read, in order, then `end` it.

    Both raise the failure that the engine reported, or EngineFailed for a stream that is nonsense or not whole. After
    that the decoder must not be used.

    Args:
        mark: letters and digits that tell this answer's made-up tool call ids from those of other answers.
    """

    __slots__ = ("_calls", "_frames", "_mark", "_model", "_reason", "_started", "_stop", "_timings", "_usage", "done")

    def __init__(self, mark: str = "") -> None:
        self.done = False
        """Whether Finished has come out: the engine's connection is not needed any more."""
        self._frames = SseFrames()
        self._mark = mark
        self._calls: Calls | None = None  # most answers call nothing
        self._started = False
        self._model: str | None = None
        self._reason: str | None = None
        self._stop: str | None = None
        self._usage: Usage | None = None
        self._timings: _Timings | None = None

    def feed(self, read: bytes) -> list[Event]:
        """The events in these bytes, in legal order."""
        try:
            frames = self._frames.feed(read)
        except FrameTooLarge:
            raise EngineFailed(f"The engine sent a frame of more than {LIMIT} bytes.") from None
        events: list[Event] = []
        for frame in frames:
            if self.done:
                break
            if frame == b"[DONE]":
                events.append(self._finished())
            else:
                self._take(frame, events)
        return events if self._started else self._begun(events)

    def end(self) -> list[Event]:
        """The engine's body has ended: what had to wait for that. An engine need not send `[DONE]`."""
        return [] if self.done else self._begun([self._finished()])

    def _begun(self, events: list[Event]) -> list[Event]:
        if events and not self._started:
            self._started = True
            events.insert(0, Started(self._model))
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        try:
            frame = _FRAME.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if b'"error"' in data:
                raise failure_in_stream(data) from None
            raise EngineFailed("The engine sent a frame that cannot be read.") from None
        if frame.error is not None or (frame.choices is None and b'"object":"error"' in data.replace(b" ", b"")):
            raise failure_in_stream(data)
        for choice in frame.choices or ():
            if choice.index:
                continue  # one answer was asked for
            if choice.delta is not None:
                self._say(choice.delta, choice.logprobs, events)
            self._reason = choice.finish_reason or self._reason
            if isinstance(choice.stop_reason, str):
                self._stop = choice.stop_reason
            if choice.usage is not None:
                self._count(choice.usage)
        if frame.usage is not None:
            self._count(frame.usage)
        self._timings = frame.timings or self._timings
        if self._model is None and frame.model:
            self._model = shown_model(frame.model)

    def _say(self, delta: _Delta, logprobs: Any, events: list[Event]) -> None:
        if reasoning := delta.reasoning_content or delta.reasoning:
            events.append(ReasoningDelta(reasoning))
        if delta.content or (logprobs and delta.content is not None):
            events.append(TextDelta(delta.content, _tokens(logprobs).content if logprobs else ()))
        if delta.refusal:
            events.append(TextDelta(delta.refusal, _tokens(logprobs).refusal if logprobs else (), refusal=True))
        if delta.tool_calls:
            calls = self._calls = self._calls or Calls(self._mark)
            events.extend(call for piece in delta.tool_calls if (call := calls.take(piece)))

    def _count(self, told: _Usage) -> None:
        """Keep the latest usage that can be. Zeros come from engines that have not counted, or never do."""
        if not (told.prompt_tokens or told.completion_tokens):
            return
        counted = usage(
            told.prompt_tokens,
            told.completion_tokens,
            reasoning=(told.completion_tokens_details or _CompletionDetails()).reasoning_tokens,
            cached=(told.prompt_tokens_details or _PromptDetails()).cached_tokens,
        )
        self._usage = counted or self._usage

    def _finished(self) -> Finished:
        if self._reason is None:
            raise EngineFailed("The engine broke off: it ended its answer without a reason, so it is not whole.")
        if self._reason in _BROKEN:
            raise EngineFailed("The engine gave up on this answer.")
        reason = _REASONS.get(self._reason, FinishReason.STOP)
        if self._calls is not None and self._calls.finish() and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS  # several engines do not tell
        self.done = True
        return Finished(reason, self._usage, _seconds(self._timings), self._stop)


class _Tokens(Struct):
    content: tuple[TokenLogprob, ...]
    refusal: tuple[TokenLogprob, ...]


def _tokens(logprobs: Any) -> _Tokens:
    """Log-probabilities in OpenAI's shape; in any other they are dropped, as the answer is whole without them."""
    try:
        found = msgspec.convert(logprobs, _Logprobs)
    except msgspec.ValidationError:
        found = _Logprobs()
    return _Tokens(_ours(found.content), _ours(found.refusal))


def _ours(tokens: tuple[_TopLogprob, ...] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token.token, token.logprob, token.bytes, _ours(token.top_logprobs)) for token in tokens or ()
    )


def _seconds(told: _Timings | None) -> Timings | None:
    if told is None or told.prompt_ms is None or told.predicted_ms is None:
        return None
    return timings(told.prompt_ms / 1000, told.predicted_ms / 1000)
