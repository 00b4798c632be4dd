"""Anthropic's Messages, as we offer them at `/v1/messages`.

`x-api-key` and `anthropic-version` are headers, which no dialect sees. Reasoning becomes blocks of thinking where the
client asked for thinking. Where it did not, it is not told, as with Anthropic: programs that never heard of thinking
take the first block for text.
"""

from __future__ import annotations

import msgspec
from msgspec.json import Decoder

from standpipe.chat.ask import Ask, ToolCall
from standpipe.chat.errors import Failure, Unsupported
from standpipe.chat.events import Answer, FinishReason
from standpipe.dialects.anthropic import wire
from standpipe.dialects.anthropic.answer import Blocks
from standpipe.dialects.anthropic.faults import failure_body
from standpipe.dialects.anthropic.request import ask, shows_thinking
from standpipe.dialects.bounds import present
from standpipe.dialects.dialect import Encoder, Parsed, Stamp
from standpipe.dialects.engine_output import as_object, is_object
from standpipe.dialects.reading import decode, fields, is_null, unknown

TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "cache_control",
        "diagnostics",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "container": "No code is run on this server: `container` is not supported.",
    "mcp_servers": "No tools are called from this server: `mcp_servers` is not supported.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class Anthropic:
    """The dialect."""

    name = "anthropic"
    stream_type = "text/event-stream"

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall show thinking."""
        request, dropped = _read(body)
        present(request.max_tokens, "max_tokens")
        return Parsed(
            ask=ask(request),
            stream=bool(request.stream),
            echo=shows_thinking(request.thinking),
            dropped=dropped,
        )

    def parse_count(self, body: bytes) -> Ask:
        """The ask in a request to count tokens, which is that for a message without its limit. Raises as `parse`."""
        return ask(_read(body)[0])

    def encoder(self, parsed: Parsed, stamp: Stamp) -> Encoder:
        return Blocks(stamp, thinking=parsed.echo)

    def answer(self, parsed: Parsed, stamp: Stamp, answer: Answer) -> bytes:
        """A `message`. Raises EngineFailed for a call that no client could read."""
        content: list[wire.WrittenBlock] = []
        if answer.reasoning and parsed.echo:
            content.append(wire.ThinkingBlock(answer.reasoning, wire.SIGNATURE))
        content += [wire.TextBlock(text) for text in (answer.text, answer.refusal) if text]
        content += [_tool_use(call, answer.reason) for call in answer.tool_calls]
        message = wire.WrittenMessage(
            id=f"msg_{stamp.id}",
            role="assistant",
            model=stamp.model,
            content=tuple(content),
            stop_reason=wire.stop_reason(answer.reason, answer.stop),
            stop_sequence=answer.stop,
            usage=wire.message_usage(answer.usage),
        )
        return msgspec.json.encode(message)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def __repr__(self) -> str:
        return "<Anthropic>"


MESSAGES = Anthropic()
"""POST /v1/messages."""


def _read(body: bytes) -> tuple[wire.Request, tuple[str, ...]]:
    sent = fields(body)
    for name, message in REFUSED.items():
        if not is_null(sent.get(name)):
            raise Unsupported(message, param=name)
    return decode(body, _REQUEST), unknown(sent, _KNOWN)


def _tool_use(call: ToolCall, reason: FinishReason) -> wire.ToolUseBlock:
    """The input of a call that was cut off is empty, and the reason tells so: clients expect that block."""
    cut = reason is FinishReason.LENGTH and not is_object(call.arguments)
    return wire.ToolUseBlock(call.id, call.name, as_object("" if cut else call.arguments))
