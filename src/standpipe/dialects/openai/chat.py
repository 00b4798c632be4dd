"""OpenAI's Chat Completions as we offer them, in two flavours that differ in their defaults alone.

`/v1/chat/completions` has OpenAI's: a whole answer, and whatever sampling the engine prefers. `/api` has ours: a
stream, with temperature 0.8 and top_p 0.9. Both take the same fields, and drop what they do not know.
"""

from __future__ import annotations

from msgspec.json import Decoder

from standpipe.chat.errors import Failure, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.dialect import Encoder, Parsed, Stamp
from standpipe.dialects.openai import wire
from standpipe.dialects.openai.answer import Chunks, whole
from standpipe.dialects.openai.faults import failure_body
from standpipe.dialects.openai.request import Defaults, ask
from standpipe.dialects.reading import decode, fields, is_null, unknown

TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "audio": "Answers are text only.",
    "function_call": "`function_call` is not supported: use `tool_choice`.",
    "functions": "`functions` is not supported: use `tools`.",
    "moderation": "Nothing is moderated here.",
    "web_search_options": "No tools run on this server: `web_search_options` is not supported.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class OpenAIChat:
    """The dialect, with the defaults of one of its flavours."""

    stream_type = "text/event-stream"

    def __init__(self, name: str, defaults: Defaults) -> None:
        self.name = name
        self._defaults = defaults

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the stream shall tell its usage."""
        sent = fields(body)
        for name, message in REFUSED.items():
            if name in sent and not is_null(sent[name]):
                raise Unsupported(message, param=name)
        request = decode(body, _REQUEST)
        options = request.stream_options
        return Parsed(
            ask=ask(request, self._defaults),
            stream=self._defaults.stream if request.stream is None else request.stream,
            echo=bool(options and options.include_usage),
            dropped=unknown(sent, _KNOWN),
        )

    def encoder(self, parsed: Parsed, stamp: Stamp) -> Encoder:
        return Chunks(stamp, include_usage=parsed.echo)

    def answer(self, parsed: Parsed, stamp: Stamp, answer: Answer) -> bytes:  # noqa: ARG002 -- the protocol's
        return whole(stamp, answer)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def __repr__(self) -> str:
        return f"<OpenAIChat {self.name}>"


API = OpenAIChat("api", Defaults(stream=True, temperature=0.8, top_p=0.9))
"""POST /api."""
COMPLETIONS = OpenAIChat("openai_chat", Defaults())
"""POST /v1/chat/completions."""
