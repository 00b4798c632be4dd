"""A native Ollama's lines to events, one decoder for each answer.

An answer is whole only if its last line says that it is done. `Started` comes with the first line that says something:
as long as nothing was said, another attempt may take this one's place.

Lines are read as the format says. What does not fit is read a second time, kindly: side fields that cannot be read are
left out (and told by name), and only what can be no content ends an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from json import dumps, loads
from typing import Any

import msgspec
from msgspec import Raw, Struct, json

from standpipe.chat.ask import Sampling
from standpipe.chat.errors import EngineBroke, EngineFailed, Failure
from standpipe.chat.events import (
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from standpipe.dialects.engine_output import (
    count,
    ending,
    is_error,
    is_known,
    reason_word,
    said,
    shown_model,
    timings,
    usage,
)
from standpipe.dialects.framing import LIMIT, FrameTooLarge, NdjsonFrames
from standpipe.dialects.text_pieces import Halves, StopText, whole


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
    """Durations are in nanoseconds. A completion's text is a `response`, for servers that stream that."""

    model: str | None = None
    message: _Message | None = None
    response: str | None = None
    done: bool = False
    done_reason: str = "stop"
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
_ANY = Sampling()


class Decoder:
    """One answer's lines. `feed` it every read, in order, then `end` it.

    Both raise the failure that the engine reported, or EngineFailed for lines that are nonsense or not whole. After
    that the decoder must not be used.

    Args:
        mark: letters and digits that tell this answer's made-up tool call ids from those of other answers.
        failure_in: what a line with an error means.
        sampling: what was asked for: log-probabilities, and stop strings. Where the client wants to know which of
            these it was, they are found here, and must not be sent to the engine.
        odd: is told the name of whatever had to be left out.
    """

    __slots__ = (
        "_called", "_failure_in", "_frames", "_halves", "_mark", "_odd", "_sampling", "_spoke", "_started",
        "_stop_text", "_thought", "done",
    )  # fmt: skip

    def __init__(
        self,
        mark: str,
        failure_in: Callable[[bytes], Failure],
        sampling: Sampling = _ANY,
        odd: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.done = False
        """Whether Finished has come out: the engine's connection is not needed any more."""
        self._frames = NdjsonFrames()
        self._mark = mark
        self._failure_in = failure_in
        self._sampling = sampling
        self._odd = odd
        self._stop_text = StopText(sampling.stop) if sampling.tell_stop else None
        self._halves: dict[str, Halves] | None = None  # most engines cut no characters
        self._called = 0
        self._started = self._spoke = self._thought = False

    @property
    def over(self) -> bool:
        """Whether the engine has told why it ended: what it does from now on takes nothing away."""
        return self.done

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
            raise EngineBroke("The engine ended its answer before it was complete.")
        return events

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if self.done:
                break
            if not line.isspace():
                self._take(line, events)
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        line = self._read(data)
        if is_error(line.error):
            raise self._failure_in(data)
        out: list[Event] = []
        if line.message is not None:
            self._say(line.message, line.logprobs, out)
        elif line.response:
            self._say(_Message(line.response), line.logprobs, out)
        if line.done or (self._stop_text is not None and self._stop_text.done):
            self._finish(line, out)
        if out and not self._started:
            self._started = True
            out.insert(0, Started(None if line.model is None else shown_model(line.model)))
        events += out

    def _read(self, data: bytes) -> _Line:
        """Raises what the engine reports, or EngineFailed for a line that cannot be read at all."""
        try:
            line = _LINE.decode(data)
            for call in (line.message and line.message.tool_calls) or ():
                call.function.arguments = Raw(_text(call.function.arguments).encode())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return line
        try:
            line = self._read_kindly(loads(data.decode(errors="surrogateescape"), strict=False))
        except (ValueError, RecursionError):
            if b'"error"' in data:
                raise self._failure_in(data) from None
            raise EngineFailed("The engine sent an unreadable line.") from None
        self._halves = {} if self._halves is None else self._halves
        return line

    def _read_kindly(self, found: Any) -> _Line:
        """Raises ValueError for a line or a content that is none."""
        if not isinstance(found, dict):
            raise ValueError("no line")  # noqa: TRY004 - as everything that cannot be read
        message, response = found.get("message"), found.get("response")
        if message and not isinstance(message, dict):
            raise ValueError("no message")
        counts = {name: self._number(found, name) for name in ("prompt_eval_count", "eval_count")}
        times = {name: self._number(found, name) for name in ("prompt_eval_duration", "eval_duration")}
        return _Line(
            model=self._name(found, "model"),
            message=self._message(message) if message else None,
            response=response if isinstance(response, str) else None,
            done=str(found.get("done")).lower() in {"true", "1"},
            done_reason=self._name(found, "done_reason") or "stop",
            error=found.get("error"),
            **counts,
            **times,
        )

    def _message(self, found: dict[str, Any]) -> _Message:
        text: list[str] = []
        thought: list[str] = []
        for part in said(found.get("content")):
            (thought if isinstance(part, ReasoningDelta) else text).append(part.text)
        thought += [part.text for part in said(found.get("thinking"))]
        calls = found.get("tool_calls")
        return _Message(
            "".join(text),
            "".join(thought),
            [self._call(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else None,
        )

    def _call(self, found: dict[str, Any]) -> _Call:
        function = found.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("no call")  # noqa: TRY004
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else dumps(arguments or {})
        return _Call(_Function(function["name"], Raw(whole(text).encode())), self._name(found, "id"))

    def _number(self, found: dict[str, Any], name: str) -> int | None:
        number = count(found.get(name))
        if number is None and found.get(name) is not None:
            self._odd(name)
        return number

    def _name(self, found: dict[str, Any], name: str) -> str | None:
        value = found.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self._odd(name)
        return whole(value) if isinstance(value, str) else None

    def _say(self, message: _Message, logprobs: Any, out: list[Event]) -> None:
        text, thought = self._joined("text", message.content or ""), self._joined("thought", message.thinking or "")
        if thought:
            self._thought = True
            out.append(ReasoningDelta(thought))
        tokens = self._tokens(logprobs) if logprobs and self._sampling.logprobs else ()
        if text or tokens:
            self._speak(TextDelta(text, tokens), out)
        for call in message.tool_calls or ():
            call_id = call.id or f"call_{self._mark}{self._called}"
            arguments = bytes(call.function.arguments).decode()
            out.append(ToolCallDelta(self._called, arguments, call_id, call.function.name))
            self._called += 1

    def _joined(self, kind: str, text: str, *, last: bool = False) -> str:
        if self._halves is None:
            return text
        return self._halves.setdefault(kind, Halves()).take(text, last=last)

    def _speak(self, event: TextDelta, out: list[Event]) -> None:
        self._spoke = self._spoke or bool(event.text)
        if self._stop_text is None:
            out.append(event)
            return
        text = self._stop_text.take(event.text)
        if text or not event.text:
            out.append(event if text == event.text else TextDelta(text))

    def _finish(self, line: _Line, out: list[Event]) -> None:
        if self._halves is not None:
            rest = _Message(self._joined("text", "", last=True), self._joined("thought", "", last=True))
            self._halves = None
            self._say(rest, None, out)
        stop = None
        if self._stop_text is not None:
            stop = self._stop_text.found
            if stop is None and (kept := self._stop_text.flush()):
                out.append(TextDelta(kept))
        word = "stop" if stop is not None else reason_word(line.done_reason) or "stop"
        if not is_known(word):
            self._odd("done_reason")
        reason = ending(word, spoke=self._spoke, called=bool(self._called), thought=self._thought)
        reading, writing = (
            None if nanoseconds is None else nanoseconds / 1e9
            for nanoseconds in (line.prompt_eval_duration, line.eval_duration)
        )
        counted = line.prompt_eval_count is not None or line.eval_count is not None
        told = usage(line.prompt_eval_count, line.eval_count) if counted else None
        self.done = True
        out.append(Finished(reason, told, timings(reading, writing), stop))

    def _tokens(self, logprobs: Any) -> tuple[TokenLogprob, ...]:
        """Log-probabilities, with as many rivals as were asked for. In any shape but the known they are left out."""
        try:
            found = msgspec.convert(logprobs, tuple[_Logprob, ...])
        except msgspec.ValidationError:
            self._odd("logprobs")
            return ()
        most = self._sampling.top_logprobs or 0
        return tuple(_ours(token, tuple(map(_ours, (token.top_logprobs or ())[:most]))) for token in found)


def _ours(token: _Logprob, rivals: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token.token, token.logprob, token.bytes, rivals)


def _text(arguments: Raw) -> str:
    """JSON text. Some servers send it inside a string, and none at all as null. Raises what a decoder raises."""
    text = bytes(arguments).decode()
    if text.startswith('"'):
        text = json.decode(text, type=str)
    return "{}" if text.strip() in {"", "null"} else text
