"""Answers as messages: a whole one, and the blocks of a streamed one.

A message is a row of blocks, and one is whole before the next begins: clients take the latest for the one that grows.
Our events know no such order (the arguments of two calls may come in turns), so blocks stand in a row here, the first
of it is written as it grows, and what comes for a later one waits. A text or a thought is whole as soon as something
else follows, a call when its arguments are an object and something else follows; at the end everything is.

All that is the same in every delta of a block is made once, so a token costs one quoted string and one join. A stream
ends in `message_stop` exactly when the answer is whole. A failed one ends in an `error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from standpipe.chat.ask import ToolCall
from standpipe.chat.errors import Failure
from standpipe.chat.events import (
    Answer,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.anthropic import wire
from standpipe.dialects.anthropic.faults import failure_body
from standpipe.dialects.dialect import ResponseMeta
from standpipe.dialects.engine_output import as_object, is_object, no_object
from standpipe.dialects.framing import quote

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
_END = b"}}\n\n"
_SIGNED = b'{"type":"signature_delta","signature":%b' % quote(wire.SIGNATURE)


def whole(meta: ResponseMeta, answer: Answer, *, thinking: bool) -> bytes:
    """A whole answer. With `thinking` false, reasoning is not told.

    Raises EngineFailed for a call that no client could read.
    """
    content: list[wire.WrittenBlock] = []
    if answer.reasoning and thinking:
        content.append(wire.ThinkingBlock(answer.reasoning, wire.SIGNATURE))
    content += [wire.TextBlock(text) for text in (answer.text, answer.refusal) if text]
    content += [_tool_use(call, answer.reason) for call in answer.tool_calls]
    written = wire.WrittenMessage(
        id=f"msg_{meta.id}",
        role="assistant",
        model=meta.model,
        content=tuple(content),
        stop_reason=wire.stop_reason(answer.reason, answer.stop),
        stop_sequence=answer.stop,
        usage=wire.message_usage(answer.usage),
    )
    return msgspec.json.encode(written)


def _tool_use(call: ToolCall, reason: FinishReason) -> wire.ToolUseBlock:
    """The input of a call that was cut off is empty, and the reason tells so: clients expect that block."""
    cut = reason is FinishReason.LENGTH and not is_object(call.arguments)
    return wire.ToolUseBlock(call.id, call.name, as_object("" if cut else call.arguments))


class _Kind(NamedTuple):
    """How a block begins, and each of its deltas."""

    start: bytes
    delta: bytes


_TEXT = _Kind(b'{"type":"text","text":""}', b'{"type":"text_delta","text":')
_THINKING = _Kind(b'{"type":"thinking","thinking":"","signature":""}', b'{"type":"thinking_delta","thinking":')


class _Block:
    """One block: what waits to be written of it and, of a call, all its arguments."""

    __slots__ = ("arguments", "closed", "held", "kind")

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind
        self.held: list[str] = []
        self.arguments: list[str] | None = None
        self.closed = False

    @property
    def whole(self) -> bool:
        return self.arguments is None or is_object("".join(self.arguments))


class Blocks:
    """The Encoder of one reply. With `thinking` false, reasoning is not told.

    The message starts with the first event, also when that only fills a silence: clients go by it.
    """

    __slots__ = ("_begun", "_calls", "_delta", "_index", "_meta", "_row", "_thinking")

    def __init__(self, meta: ResponseMeta, *, thinking: bool) -> None:
        self._meta = meta
        self._thinking = thinking
        self._begun = False
        self._row: list[_Block] = []  # the open block, and those that wait behind it
        self._calls: dict[int, _Block] = {}
        self._index = -1  # of the open block
        self._delta = b""  # how each delta of the open block begins

    def encode(self, events: Sequence[Event]) -> bytes:
        pieces: list[bytes] = []
        for event in events:
            match event:
                case TextDelta():
                    self._say(_TEXT, event.text, pieces)
                case ReasoningDelta():
                    if self._thinking:
                        self._say(_THINKING, event.text, pieces)
                case ToolCallDelta():
                    self._call(event, pieces)
                case Waiting():
                    pieces += (self._start(), _waiting(event))
                case Started():
                    pieces += (self._start(), _PING)
                case Finished():
                    self._finish(event, pieces)
                case Failed():
                    pieces.append(self._failed(event.failure))
        return b"".join(pieces)

    def _say(self, kind: _Kind, text: str, pieces: list[bytes]) -> None:
        if not text:
            return
        row = self._row
        if len(row) == 1 and row[0].kind is kind:  # as for nearly every token
            pieces += (self._delta, quote(text), _END)
            return
        if not row or row[-1].kind is not kind:
            self._append(_Block(kind), pieces)
        self._grow(row[-1], text, pieces)

    def _call(self, event: ToolCallDelta, pieces: list[bytes]) -> None:
        block = self._calls.get(event.index)
        if block is None:
            start = b'{"type":"tool_use","id":%b,"name":%b,"input":{},"caller":{"type":"direct"}}' % (
                quote(event.id),
                quote(event.name),
            )
            block = self._calls[event.index] = _Block(_Kind(start, b'{"type":"input_json_delta","partial_json":'))
            block.arguments = []
            self._append(block, pieces)
        if block.arguments is not None and not block.closed:  # only white space could follow
            block.arguments.append(event.arguments)
            self._grow(block, event.arguments, pieces)

    def _append(self, block: _Block, pieces: list[bytes]) -> None:
        self._row.append(block)
        if len(self._row) == 1:
            self._open(pieces)

    def _grow(self, block: _Block, text: str, pieces: list[bytes]) -> None:
        """More of a block that is not closed: written if it is the open one."""
        if block is not self._row[0]:
            block.held.append(text)
        elif text:
            pieces += (self._delta, quote(text), _END)
        while len(self._row) > 1 and self._row[0].whole:
            self._switch(pieces)

    def _switch(self, pieces: list[bytes]) -> None:
        """Close the open block and open the next, if there is one. Nothing else does either."""
        block = self._row.pop(0)
        block.closed = True
        if block.kind is _THINKING:
            pieces += (_DELTA % (self._index, _SIGNED), _END)
        pieces.append(b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index)
        if self._row:
            self._open(pieces)

    def _open(self, pieces: list[bytes]) -> None:
        block = self._row[0]
        self._index += 1
        self._delta = _DELTA % (self._index, block.kind.delta)
        pieces.append(
            b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
            % (self._index, block.kind.start)
        )
        if held := "".join(block.held):
            pieces += (self._delta, quote(held), _END)

    def _start(self) -> bytes:
        """The start of the message, once."""
        if self._begun:
            return b""
        self._begun = True
        # Clients show this while the answer comes; what the engine counts is told at the end.
        usage = wire.message_usage(Usage(self._meta.prompt_estimate, 0))
        message = wire.WrittenMessage(f"msg_{self._meta.id}", "assistant", self._meta.model, (), None, None, usage)
        return b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % quote(message)

    def _finish(self, event: Finished, pieces: list[bytes]) -> None:
        """A call that was cut off goes out as it is: the reason tells. One without a word says nothing to its tool."""
        said = ("".join(block.arguments or ()) for block in self._calls.values())
        if event.reason is not FinishReason.LENGTH and not all(not text or is_object(text) for text in said):
            pieces.append(self._failed(no_object()))
            return
        while self._row:
            self._switch(pieces)
        delta = wire.Ending(wire.stop_reason(event.reason, event.stop), event.stop)
        told = {"type": "message_delta", "delta": delta, "usage": wire.usage(event.usage)}
        pieces += (b"event: message_delta\ndata: ", quote(told), b"\n\n", _STOP)

    def _failed(self, failure: Failure) -> bytes:
        return b"event: error\ndata: %b\n\n" % failure_body(failure, self._meta.id)


def _waiting(event: Waiting) -> bytes:
    """A ping, which every client drops; whoever knows looks at its `queue`."""
    if event.queue is None:
        return _PING
    return b'event: ping\ndata: {"type":"ping","queue":%b}\n\n' % quote(event.queue)
