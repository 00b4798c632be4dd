"""A native Ollama's lines to events, one decoder for each answer.

An answer is whole only if its last line says that it is done. `Started` comes with the first line that says something:
as long as nothing was said, another attempt may take this one's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct, json

from standpipe.chat.errors import EngineFailed, Failure
from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from standpipe.dialects.engine_output import timings, usage
from standpipe.dialects.framing import LIMIT, FrameTooLarge, NdjsonFrames


class _Function(Struct):
    name: str
    arguments: Raw = Raw(b"{}")


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(Struct):
    """Durations are in nanoseconds."""

    model: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str = ""
    logprobs: Any = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    prompt_eval_duration: float | None = None  # a decoder refuses what is too large for one
    eval_duration: float | None = None
    error: Any = None


class _Logprob(Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[_Logprob, ...] | None = None


_LINE = json.Decoder(_Line)
_REASONS = {"length": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


class Decoder:
    """One answer's lines. `feed` it every read, in order, then `end` it.

    Both raise the failure that the engine reported, or EngineFailed for lines that are nonsense or not whole. After
    that the decoder must not be used.

    Args:
        mark: letters and digits that tell this answer's made-up tool call ids from those of other answers.
        failure_in: what a line with an error means.
    """

    __slots__ = ("_called", "_failure_in", "_frames", "_mark", "_started", "done")

    def __init__(self, mark: str, failure_in: Callable[[bytes], Failure]) -> None:
        self.done = False
        """Whether Finished has come out: the engine's connection is not needed any more."""
        self._frames = NdjsonFrames()
        self._mark = mark
        self._failure_in = failure_in
        self._called = 0
        self._started = False

    def feed(self, read: bytes) -> list[Event]:
        """The events in these bytes, in legal order."""
        try:
            lines = self._frames.feed(read)
        except FrameTooLarge:
            raise EngineFailed(f"The engine sent a line of more than {LIMIT} bytes.") from None
        return self._events(lines)

    def end(self) -> list[Event]:
        """The engine's body has ended: what its last line says, if that lacks a line end."""
        events = self._events(self._frames.end())
        if not self.done:
            raise EngineFailed("The engine broke off: it ended its answer without saying that it is done.")
        return events

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if self.done:
                break
            self._take(line, events)
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        try:
            line = _LINE.decode(data)
            said = [] if line.message is None else self._said(line.message, line.logprobs)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if b'"error"' in data:
                raise self._failure_in(data) from None
            raise EngineFailed("The engine sent a line that cannot be read.") from None
        if line.error is not None:
            raise self._failure_in(data)
        if line.done:
            self.done = True
            said.append(self._finished(line))
        if said and not self._started:
            self._started = True
            said.insert(0, Started(line.model))
        events += said

    def _said(self, message: _Message, logprobs: Any) -> list[Event]:
        said: list[Event] = []
        if message.thinking:
            said.append(ReasoningDelta(message.thinking))
        if message.content or logprobs:
            said.append(TextDelta(message.content or "", _tokens(logprobs) if logprobs else ()))
        for call in message.tool_calls or ():
            call_id = call.id or f"call_{self._mark}{self._called}"
            said.append(ToolCallDelta(self._called, _text(call.function.arguments), call_id, call.function.name))
            self._called += 1
        return said

    def _finished(self, line: _Line) -> Finished:
        reason = _REASONS.get(line.done_reason, FinishReason.STOP)
        if self._called and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        reading, writing = (
            None if nanoseconds is None else nanoseconds / 1e9
            for nanoseconds in (line.prompt_eval_duration, line.eval_duration)
        )
        counted = line.prompt_eval_count is not None or line.eval_count is not None
        told = usage(line.prompt_eval_count, line.eval_count) if counted else None
        return Finished(reason, told, timings(reading, writing))


def _text(arguments: Raw) -> str:
    """JSON text. Some servers that speak this format send it inside a string. Raises what a decoder raises."""
    text = bytes(arguments).decode()
    return json.decode(text, type=str) if text.startswith('"') else text


def _tokens(logprobs: Any) -> tuple[TokenLogprob, ...]:
    """Log-probabilities; in any shape but the known they are dropped, as the answer is whole without them."""
    try:
        return _ours(msgspec.convert(logprobs, tuple[_Logprob, ...]))
    except msgspec.ValidationError:
        return ()


def _ours(tokens: tuple[_Logprob, ...] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token.token, token.logprob, token.bytes, _ours(token.top_logprobs)) for token in tokens or ()
    )
