"""The output of one response while it grows: its items, in the order in which they began.

Reasoning, text and refusals follow each other, so one item of speech is open at a time, and a change between thinking
and speaking closes it. Calls may grow in turns, so every call is open until the answer ends. Knows no events and no
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from standpipe.chat.ask import Part, Reasoning, Refusal, Text, ToolCall
from standpipe.chat.events import TokenLogprob
from standpipe.dialects.openai.responses import wire


class Kind(StrEnum):
    """What a part of speech is, by its name on the wire."""

    REASONING = "reasoning_text"
    TEXT = "output_text"
    REFUSAL = "refusal"


class Status(StrEnum):
    """How far an item, or a whole response, is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class SaidPart:
    """One part of speech."""

    __slots__ = ("kind", "logprobs", "pieces")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def written(self) -> wire.WrittenPart:
        match self.kind:
            case Kind.REASONING:
                return wire.ReasoningText(self.text)
            case Kind.TEXT:
                return wire.OutputText(self.text, logprobs=wire.logprobs(tuple(self.logprobs)))
            case Kind.REFUSAL:
                return wire.RefusalText(self.text)


class Speech:
    """An item of reasoning, or a message."""

    __slots__ = ("id", "index", "parts", "status", "thinking")

    def __init__(self, index: int, mark: str, *, thinking: bool) -> None:
        self.index = index
        self.id = f"{'rs' if thinking else 'msg'}_{mark}_{index}"
        self.thinking = thinking
        self.status = Status.IN_PROGRESS
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
                case Kind.REASONING:
                    yield Reasoning(part.text)
                case Kind.TEXT:
                    yield Text(part.text)
                case Kind.REFUSAL:
                    yield Refusal(part.text)


class Call:
    """A function call."""

    __slots__ = ("call_id", "id", "index", "name", "pieces", "status")

    def __init__(self, index: int, mark: str, call_id: str, name: str) -> None:
        self.index = index
        self.id = f"fc_{mark}_{index}"
        self.call_id = call_id
        self.name = name
        self.status = Status.IN_PROGRESS
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def written(self) -> wire.WrittenItem:
        return wire.CallItem(self.id, self.status, self.call_id, self.name, self.arguments)

    def read(self) -> Iterator[Part]:
        """What a model may be told again."""
        yield ToolCall(self.call_id, self.name, self.arguments)


OutputItem = Speech | Call
