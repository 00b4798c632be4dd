"""Answers as Chat Completions: a whole one, and the chunks of a streamed one.

Reasoning is given under both names that clients look for. Every token of every answer passes through the encoder of
chunks, so all that is the same in every chunk of one reply is made once, and a token costs one quoted string and one
join. Each event keeps a frame of its own; the frames of one batch are one piece of bytes. Where a request wants several
answers, their chunks follow each other as they come, each with the number of its choice.

A stream ends in `[DONE]` exactly when the answer is whole. A failed one ends in a frame with an `error`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from standpipe.chat.events import (
    Answer,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    Waiting,
    total,
)
from standpipe.dialects.dialect import ResponseMeta
from standpipe.dialects.framing import quote, sse_frame
from standpipe.dialects.openai import wire
from standpipe.dialects.openai.faults import failure_body

_DONE = sse_frame(b"[DONE]")


def whole(meta: ResponseMeta, answers: Sequence[Answer]) -> bytes:
    """Whole answers: a `chat.completion` with every field that OpenAI's schema requires."""
    usage = total([answer.usage for answer in answers])
    return msgspec.json.encode(
        wire.Completion(
            id=f"chatcmpl-{meta.id}",
            object="chat.completion",
            created=meta.created,
            model=meta.model,
            choices=tuple(
                wire.WrittenChoice(index, _message(answer), _logprobs(answer), answer.reason)
                for index, answer in enumerate(answers)
            ),
            usage=UNSET if usage is None else wire.usage(usage),
        )
    )


def _message(answer: Answer) -> wire.WrittenMessage:
    """Content is null only where something else stands in its place."""
    return wire.WrittenMessage(
        role="assistant",
        content=answer.text or (None if answer.tool_calls or answer.refusal else ""),
        refusal=answer.refusal or None,
        reasoning=answer.reasoning or UNSET,
        reasoning_content=answer.reasoning or UNSET,
        tool_calls=tuple(
            wire.WrittenCall(call.id, "function", wire.WrittenFunction(call.name, call.arguments))
            for call in answer.tool_calls
        )
        or UNSET,
    )


def _logprobs(answer: Answer) -> wire.Logprobs | None:
    """An answer's log-probabilities are those of its text, or of its refusal when it has no text."""
    if not answer.logprobs:
        return None
    return wire.logprobs(answer.logprobs, refusal=bool(answer.refusal and not answer.text))


class Ends:
    """The ends of a stream's choices, which share this: the last of them closes the stream."""

    __slots__ = ("_missing", "_usages")

    def __init__(self, choices: int) -> None:
        self._missing = choices
        self._usages: list[Usage | None] = []

    def come(self, usage: Usage | None) -> bool:
        """One choice has ended. Gives whether it was the last."""
        self._usages.append(usage)
        return len(self._usages) == self._missing

    @property
    def usage(self) -> Usage | None:
        """Of all choices together."""
        return total(self._usages)


class Chunks:
    """The Encoder of one choice of a reply, which may be the only one.

    The first chunk carries the role, also when it only fills a silence: clients go by it. With `include_usage`, every
    chunk has a `usage` of null but an extra last one, which has no choices and the usage, if the engine told it.
    """

    __slots__ = (
        "_content", "_content_end", "_delta", "_delta_end", "_ends", "_head", "_id", "_include_usage", "_role", "_tail"
    )  # fmt: skip

    def __init__(self, meta: ResponseMeta, *, include_usage: bool, index: int = 0, ends: Ends | None = None) -> None:
        """`index` is the number of the choice. `ends` is shared by the choices of one stream, where it has several."""
        self._id = meta.id
        self._ends = ends or Ends(1)
        self._include_usage = include_usage
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":' % (
            quote(f"chatcmpl-{meta.id}"),
            meta.created,
            quote(meta.model),
        )
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._delta = b'%b[{"index":%d,"delta":' % (self._head, index)
        self._delta_end = b',"finish_reason":null}]' + self._tail
        self._content = self._delta + b'{"content":'
        self._content_end = b"}" + self._delta_end
        self._role = b'"role":"assistant",'  # until it has been told

    def encode(self, events: Sequence[Event]) -> bytes:
        """One frame for each event, and what closes the stream."""
        pieces: list[bytes] = []
        for event in events:
            match event:
                case TextDelta():
                    if event.refusal or event.logprobs:
                        pieces.append(self._marked_text(event))
                    else:
                        pieces += (self._content, quote(event.text), self._content_end)
                case ReasoningDelta():
                    text = quote(event.text)
                    pieces += (self._delta, b'{"reasoning":', text, b',"reasoning_content":', text, self._content_end)
                case ToolCallDelta():
                    pieces += (self._delta, b'{"tool_calls":[', _call(event), b"]", self._content_end)
                case Waiting():
                    pieces.append(self._waiting(event))
                case Started():
                    pieces += (self._empty(), self._content_end)
                case Finished():
                    pieces.append(self._finished(event))
                case Failed():
                    pieces.append(sse_frame(failure_body(event.failure, self._id)))
        return b"".join(pieces)

    def _marked_text(self, event: TextDelta) -> bytes:
        name = b"refusal" if event.refusal else b"content"
        delta = b'{"%b":%b}' % (name, quote(event.text))
        if event.logprobs:
            delta += b',"logprobs":' + quote(wire.logprobs(event.logprobs, refusal=event.refusal))
        return self._delta + delta + self._delta_end

    def _waiting(self, event: Waiting) -> bytes:
        """A chunk that every client takes for an empty piece of text; whoever knows looks at its `queue`."""
        if event.queue is None:
            return self._empty() + self._content_end
        return b'%b},"finish_reason":null}],"queue":%b%b' % (self._empty(), quote(event.queue), self._tail)

    def _empty(self) -> bytes:
        role, self._role = self._role, b""
        return b'%b{%b"content":""' % (self._delta, role)

    def _finished(self, event: Finished) -> bytes:
        chunks = b'%b{},"finish_reason":"%b"}]%b' % (self._delta, event.reason.encode(), self._tail)
        if not self._ends.come(event.usage):
            return chunks
        if self._include_usage and (usage := self._ends.usage) is not None:
            chunks += b'%b[],"usage":%b}\n\n' % (self._head, quote(wire.usage(usage)))
        return chunks + _DONE


def _call(event: ToolCallDelta) -> bytes:
    """Every delta has the index; only the first of a call has its id and name."""
    arguments = quote(event.arguments)
    if event.id is None and event.name is None:
        return b'{"index":%d,"function":{"arguments":%b}}' % (event.index, arguments)
    return b'{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}' % (
        event.index,
        quote(event.id),
        quote(event.name),
        arguments,
    )
