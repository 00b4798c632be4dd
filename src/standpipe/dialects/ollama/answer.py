"""Answers in the two shapes that Ollama has, a chat's and a completion's: a whole one, and a streamed one's lines.

All that is the same in every line of one reply is made once, so a token costs one quoted string and one join. Calls
have objects for arguments, so they go out whole, when the answer is. A stream ends in a line that is `done` exactly
when the answer is whole. A failed one ends in an `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from standpipe.chat.ask import JsonObject
from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure
from standpipe.chat.events import (
    Answer,
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from standpipe.dialects.dialect import ResponseMeta
from standpipe.dialects.framing import ndjson_frame, quote
from standpipe.dialects.ollama import wire


class AnswerShape(NamedTuple):
    """What stands before a text, and before a thought; what closes both; and a whole answer's text and what else it
    says as fields."""

    text: bytes
    thought: bytes
    close: bytes
    whole: Callable[[str, JsonObject], JsonObject]


CHAT = AnswerShape(
    b'"message":{"role":"assistant","content":',
    b'"message":{"role":"assistant","content":"","thinking":',
    b"}",
    lambda text, more: {"message": {"role": "assistant", "content": text, **more}},
)
COMPLETION = AnswerShape(
    b'"response":', b'"response":"","thinking":', b"", lambda text, more: {"response": text, **more}
)


def failure_body(failure: Failure, request_id: str) -> bytes:
    """The JSON body of a failure, and the line that ends a failed stream."""
    message = failure.message
    if isinstance(failure, ContextTooLong):
        message = f"the input length exceeds the context length. {message}"  # Ollama's words, and what they leave out
    return msgspec.json.encode({"error": message, "request_id": request_id})


def whole(
    meta: ResponseMeta, shape: AnswerShape, answer: Answer, *, thinking: bool, done_reason: str | None = None
) -> bytes:
    """A whole answer. With `thinking` false, reasoning is not told. `done_reason` stands for the answer's own reason.

    Raises EngineFailed for a call that no client could read.
    """
    more: JsonObject = {}
    if answer.reasoning and thinking:
        more["thinking"] = answer.reasoning
    if calls := wire.calls(answer.tool_calls, answer.reason):
        more["tool_calls"] = calls
    body: JsonObject = {
        "model": meta.model,
        "created_at": wire.timestamp(meta.created),
        **shape.whole(answer.text + answer.refusal, more),
        "done": True,
        "done_reason": done_reason or wire.done_reason(answer.reason),
        **wire.metrics(answer.usage, answer.timings),
    }
    if answer.logprobs:
        body["logprobs"] = wire.logprobs(answer.logprobs)
    return msgspec.json.encode(body)


class Lines:
    """The Encoder of one reply. With `thinking` false, reasoning is not told."""

    __slots__ = ("_calls", "_close", "_id", "_more", "_text", "_thinking", "_thought")

    def __init__(self, meta: ResponseMeta, shape: AnswerShape, *, thinking: bool) -> None:
        head = b'{"model":%b,"created_at":%b,' % (quote(meta.model), quote(wire.timestamp(meta.created)))
        self._id = meta.id
        self._thinking = thinking
        self._text = head + shape.text
        self._thought = head + shape.thought
        self._close = shape.close + b","
        self._more = self._close + b'"done":false}\n'
        self._calls = AnswerBuilder()

    def encode(self, events: Sequence[Event]) -> bytes:
        """One line for each event that says something, but calls: they go out together, before the end."""
        pieces: list[bytes] = []
        for event in events:
            match event:
                case TextDelta():
                    if event.logprobs:
                        pieces.append(
                            self._line(event.text, {"done": False, "logprobs": wire.logprobs(event.logprobs)})
                        )
                    elif event.text:
                        pieces += (self._text, quote(event.text), self._more)
                case ReasoningDelta():
                    if self._thinking and event.text:
                        pieces += (self._thought, quote(event.text), self._more)
                case ToolCallDelta():
                    self._calls.add([event])
                case Waiting():
                    pieces.append(self._waiting(event))
                case Started():
                    pass  # this format has no word for it
                case Finished():
                    pieces.append(self._finished(event))
                case Failed():
                    pieces.append(ndjson_frame(failure_body(event.failure, self._id)))
        return b"".join(pieces)

    def _line(self, text: str, rest: JsonObject) -> bytes:
        return self._text + quote(text) + self._close + quote(rest).removeprefix(b"{") + b"\n"

    def _waiting(self, event: Waiting) -> bytes:
        """A line that every client takes for an empty piece of text; whoever knows looks at its `queue`."""
        queue = event.queue
        if queue is None:
            return self._line("", {"done": False})
        return self._line("", {"done": False, "queue": queue})

    def _finished(self, event: Finished) -> bytes:
        self._calls.add([event])
        answer = self._calls.answer
        assert answer is not None
        try:
            calls = wire.calls(answer.tool_calls, event.reason)
        except EngineFailed as failure:
            return ndjson_frame(failure_body(failure, self._id))
        called = b'%b"","tool_calls":%b%b' % (self._text, quote(calls), self._more) if calls else b""
        told = {"done": True, "done_reason": wire.done_reason(event.reason)}
        return called + self._line("", {**told, **wire.metrics(event.usage, event.timings)})
