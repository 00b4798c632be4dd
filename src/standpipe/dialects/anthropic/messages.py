"""Anthropic's Messages, as we offer them at `/v1/messages`.

`x-api-key` and `anthropic-version` are headers, which no dialect sees. Reasoning becomes blocks of thinking where the
client asked for thinking. Where it did not, it is not told, as with Anthropic: programs that never heard of thinking
take the first block for text.
"""

from __future__ import annotations

from msgspec.json import Decoder

from standpipe.chat.ask import Ask
from standpipe.chat.errors import Failure, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.anthropic import wire
from standpipe.dialects.anthropic.answer import Blocks, whole
from standpipe.dialects.anthropic.faults import failure_body
from standpipe.dialects.anthropic.request import ask, shows_thinking
from standpipe.dialects.bounds import present
from standpipe.dialects.dialect import Encoder, Parsed, Stamp
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
        """Raises EngineFailed for a call that no client could read."""
        return whole(stamp, answer, thinking=parsed.echo)

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
