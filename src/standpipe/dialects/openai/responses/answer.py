"""Answers as Responses: the stream, in OpenAI's complete sequence, and the whole one in which it ends.

    created queued* in_progress (item added, part added, delta*, part done, item done)* (completed|incomplete|failed)

Every frame has its type as its event's name and in its data, and a `sequence_number`, from 0. While the ask waits in
line `response.queued` tells its place, in `queue` beside `response`. Later silence is filled with an empty delta of
whatever is open, or with `response.in_progress`: official clients take all three for what they are, and nothing else
would be harmless to all of them.

A stream ends in `response.completed` exactly when the answer is whole. The final response is also what a whole answer
is made of, so both always agree.

Reasoning, text and refusals follow each other, so one item of speech is open at a time, and a change between thinking
and speaking closes it. Calls may grow in turns, so every call is open until the answer ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Raw
from msgspec.structs import replace

from standpipe.chat.ask import Part, Reasoning, Refusal, Text, ToolCall
from standpipe.chat.errors import ContextTooLong, Failure
from standpipe.chat.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Waiting,
)
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.framing import quote
from standpipe.dialects.openai.faults import RESPONSES, renamed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.kept import Answered, Echo
from standpipe.dialects.openai.responses.tools import CalledAs, input_of, written_call


class SpeechKind(StrEnum):
    """What a part of speech is, by its name on the wire."""

    REASONING = "reasoning_text"
    TEXT = "output_text"
    REFUSAL = "refusal"


class ItemStatus(StrEnum):
    """How far an item, or a whole response, is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class SaidPart:
    """One part of speech."""

    __slots__ = ("kind", "logprobs", "pieces")

    def __init__(self, kind: SpeechKind) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def written(self) -> wire.WrittenPart:
        match self.kind:
            case SpeechKind.REASONING:
                return wire.ReasoningText(self.text)
            case SpeechKind.TEXT:
                return wire.OutputText(self.text, logprobs=wire.logprobs(tuple(self.logprobs)))
            case SpeechKind.REFUSAL:
                return wire.RefusalText(self.text)


class Speech:
    """An item of reasoning, or a message."""

    __slots__ = ("id", "index", "parts", "status", "thinking")

    def __init__(self, index: int, mark: str, *, thinking: bool) -> None:
        self.index = index
        self.id = f"{'rs' if thinking else 'msg'}_{mark}_{index}"
        self.thinking = thinking
        self.status = ItemStatus.IN_PROGRESS
        self.parts: list[SaidPart] = []

    def written(self) -> wire.WrittenItem:
        content = tuple(part.written() for part in self.parts)
        if self.thinking:
            return wire.ReasoningItem(self.id, self.status, content)
        return wire.MessageItem(self.id, self.status, content)

    def read(self) -> Iterator[Part]:
        """What a model may be told again."""
        for part in self.parts:
            match part.kind:
                case SpeechKind.REASONING:
                    yield Reasoning(part.text)
                case SpeechKind.TEXT:
                    yield Text(part.text)
                case SpeechKind.REFUSAL:
                    yield Refusal(part.text)


class Call:
    """A call of a function, or of what a function stands for."""

    __slots__ = ("call_id", "called_as", "id", "index", "name", "pieces", "status")

    def __init__(self, index: int, mark: str, call_id: str, name: str, called_as: CalledAs | None) -> None:
        self.index = index
        self.called_as = called_as
        self.id = f"fc_{mark}_{index}"
        self.call_id = call_id
        self.name = name
        self.status = ItemStatus.IN_PROGRESS
        self.pieces: list[str] = []

    @property
    def type(self) -> str:
        """Of the tool that is called."""
        return "function" if self.called_as is None else self.called_as.type

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def written(self) -> wire.WrittenItem:
        return written_call(self.called_as, self.id, self.status, self.call_id, self.name, self.arguments)

    def read(self) -> Iterator[Part]:
        """What a model may be told again."""
        yield ToolCall(self.call_id, self.name, self.arguments)


OutputItem = Speech | Call


_INCOMPLETE = {
    FinishReason.LENGTH: wire.Incomplete("max_output_tokens"),
    FinishReason.CONTENT_FILTER: wire.Incomplete("content_filter"),
}
_EVENT = {
    SpeechKind.REASONING: "response.reasoning_text",
    SpeechKind.TEXT: "response.output_text",
    SpeechKind.REFUSAL: "response.refusal",
}

GrowingItem = TypeVar("GrowingItem", Speech, Call)


class ResponseEvents:
    """The Encoder of one reply."""

    def __init__(self, parsed: Parsed, meta: ResponseMeta) -> None:
        echo: Echo = parsed.echo
        outline = echo.outline
        self._outline = replace(outline, id=outline.id or f"resp_{meta.id}", created_at=meta.created, model=meta.model)
        self._keeper = echo.keeper
        self._called_as = echo.called_as
        self._mark = echo.mark or meta.id
        self._clock = meta.now
        self.final = b""
        """The whole response (JSON), once Finished has come."""
        self._frames: list[bytes] = []
        self._number = 0
        self._created = self._answering = False
        self._items: list[OutputItem] = []
        self._calls: dict[int, Call] = {}
        self._speech: Speech | None = None
        self._part: SaidPart | None = None
        self._delta = self._delta_end = b""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames for these events; a delta that says nothing has none."""
        for event in events:
            match event:
                case TextDelta(text, logprobs, refusal):
                    if text or logprobs:
                        self._say(SpeechKind.REFUSAL if refusal else SpeechKind.TEXT, text, logprobs)
                case ReasoningDelta(text):
                    if text:
                        self._say(SpeechKind.REASONING, text)
                case ToolCallDelta():
                    self._call(event)
                case Waiting():
                    self._wait(event)
                case Started():
                    self._start()
                case Finished():
                    self._finish(event)
                case Failed(failure):
                    self._fail(failure)
        written = b"".join(self._frames)
        self._frames.clear()
        return written

    # The response ---------------------------------------------------------------------------------------------------

    def _create(self, status: ItemStatus) -> None:
        if not self._created:
            self._created = True
            self._emit("response.created", response=replace(self._outline, status=status))

    def _start(self) -> None:
        self._create(ItemStatus.IN_PROGRESS)
        self._answering = True
        self._emit("response.in_progress", response=self._outline)

    def _wait(self, event: Waiting) -> None:
        if event.queue is not None and not self._answering:
            self._create(ItemStatus.QUEUED)
            response = replace(self._outline, status=ItemStatus.QUEUED)
            self._emit("response.queued", response=response, queue=event.queue)
        elif self._part is not None:
            self._write_delta("", ())
        elif self._calls:
            self._write_arguments(next(reversed(self._calls.values())), "")
        else:
            self._create(ItemStatus.IN_PROGRESS)
            self._emit("response.in_progress", response=self._outline)

    def _finish(self, event: Finished) -> None:
        details = _INCOMPLETE.get(event.reason)
        status = ItemStatus.COMPLETED if details is None else ItemStatus.INCOMPLETE
        self._close_speech(status)
        for call in self._calls.values():
            self._close_call(call, status)
        response = replace(
            self._outline,
            status=status,
            completed_at=None if details else self._now(),
            incomplete_details=details,
            output=self._output(),
            usage=None if event.usage is None else wire.usage(event.usage),
        )
        self.final = quote(response)
        self._emit(f"response.{status}", response=Raw(self.final))
        if self._keeper is not None:
            self._keeper(Answered(self.final, tuple(tuple(item.read()) for item in self._items)))

    def _now(self) -> int:
        """Unix seconds."""
        return self._outline.created_at if self._clock is None else int(self._clock())

    def _fail(self, failure: Failure) -> None:
        self._create(ItemStatus.IN_PROGRESS)
        for item in self._items:
            if item.status is ItemStatus.IN_PROGRESS:
                item.status = ItemStatus.INCOMPLETE
        error = wire.Error(_code(failure), renamed(RESPONSES, failure).message)
        response = replace(self._outline, status=ItemStatus.FAILED, error=error, output=self._output())
        self._emit("response.failed", response=response)

    def _output(self) -> tuple[wire.WrittenItem, ...]:
        return tuple(item.written() for item in self._items)

    # Speech ---------------------------------------------------------------------------------------------------------

    def _say(self, kind: SpeechKind, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        part = self._part
        if part is None or part.kind is not kind:
            part = self._open_part(kind)
        part.pieces.append(text)
        part.logprobs += logprobs
        self._write_delta(text, logprobs)

    def _open_part(self, kind: SpeechKind) -> SaidPart:
        thinking = kind is SpeechKind.REASONING
        if self._speech is not None and self._speech.thinking is thinking:
            self._close_part(self._speech)
        else:
            self._close_speech(ItemStatus.COMPLETED)
            self._speech = self._add(Speech(len(self._items), self._mark, thinking=thinking))
        speech = self._speech
        place = {"item_id": speech.id, "output_index": speech.index, "content_index": len(speech.parts)}
        part = self._part = SaidPart(kind)
        self._emit("response.content_part.added", **place, part=part.written())
        speech.parts.append(part)
        # What every delta of this part has in common is written once.
        name = f"{_EVENT[kind]}.delta"
        fields = quote({"type": name, **place})[:-1]
        self._delta = b'event: %b\ndata: %b,"sequence_number":' % (name.encode(), fields)
        self._delta_end = b',"logprobs":[]}\n\n' if kind is SpeechKind.TEXT else b"}\n\n"
        return part

    def _write_delta(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        end = b',"logprobs":%b}\n\n' % quote(wire.logprobs(logprobs)) if logprobs else self._delta_end
        self._frames.append(b'%b%d,"delta":%b%b' % (self._delta, self._next(), quote(text), end))

    def _close_part(self, speech: Speech) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        place = {"item_id": speech.id, "output_index": speech.index, "content_index": len(speech.parts) - 1}
        said: dict[str, Any] = {"refusal" if part.kind is SpeechKind.REFUSAL else "text": part.text}
        if part.kind is SpeechKind.TEXT:
            said["logprobs"] = wire.logprobs(tuple(part.logprobs))
        self._emit(f"{_EVENT[part.kind]}.done", **place, **said)
        self._emit("response.content_part.done", **place, part=part.written())

    def _close_speech(self, status: ItemStatus) -> None:
        speech, self._speech = self._speech, None
        if speech is not None:
            self._close_part(speech)
            self._done(speech, status)

    # Calls ----------------------------------------------------------------------------------------------------------

    def _call(self, event: ToolCallDelta) -> None:
        call = self._calls.get(event.index)
        if call is None:
            self._close_speech(ItemStatus.COMPLETED)
            number = len(self._items)
            call_id, name = event.id or f"call_{self._mark}{event.index}", event.name or ""
            call = self._add(Call(number, self._mark, call_id, name, self._called_as.get(name)))
            self._calls[event.index] = call
        if event.arguments:
            call.pieces.append(event.arguments)
            if call.type == "function":
                self._write_arguments(call, event.arguments)

    def _write_arguments(self, call: Call, delta: str) -> None:
        """A delta of what a call has been given. What is no function's is written when it is whole."""
        match call.type:
            case "function":
                name = "response.function_call_arguments.delta"
            case "custom":
                name = "response.custom_tool_call_input.delta"
            case _:  # shells and patches have no deltas
                self._emit("response.in_progress", response=self._outline)
                return
        self._emit(name, item_id=call.id, output_index=call.index, delta=delta)

    def _close_call(self, call: Call, status: ItemStatus) -> None:
        at = {"item_id": call.id, "output_index": call.index}
        if call.type == "function":
            self._emit("response.function_call_arguments.done", **at, name=call.name, arguments=call.arguments)
        elif call.type == "custom":
            self._write_arguments(call, input_of(call.arguments))
            self._emit("response.custom_tool_call_input.done", **at, input=input_of(call.arguments))
        self._done(call, status)

    # Items and frames -----------------------------------------------------------------------------------------------

    def _add(self, item: GrowingItem) -> GrowingItem:
        self._items.append(item)
        self._emit("response.output_item.added", output_index=item.index, item=item.written())
        return item

    def _done(self, item: OutputItem, status: ItemStatus) -> None:
        item.status = status
        self._emit("response.output_item.done", output_index=item.index, item=item.written())

    def _emit(self, name: str, /, **fields: Any) -> None:
        data = quote({"type": name, "sequence_number": self._next(), **fields})
        self._frames.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number


def _code(failure: Failure) -> str:
    """The published codes are few, and most of them are of images. One that is not among them is OpenAI's all the same:
    Codex shortens its conversation by it."""
    if isinstance(failure, ContextTooLong):
        return failure.code
    if failure.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if failure.status < 500 else "server_error"
