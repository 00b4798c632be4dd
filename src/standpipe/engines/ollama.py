"""A native Ollama as an engine: `ollama://host[:port]`.

Its own path tells more than its OpenAI-compatible one: durations, levels of thinking, and a conversation that does not
fit is an error there and not a conversation without its beginning. Everything but the format is an upstream's.
"""

from __future__ import annotations

import secrets
from typing import ClassVar

from standpipe.chat.ask import Ask
from standpipe.dialects.ollama.from_engine import Decoder
from standpipe.dialects.ollama.to_engine import request_body
from standpipe.dialects.openai.faults import failure_in_stream
from standpipe.engines.upstream import StreamDecoder, Upstream

PORT = 11434
"""Where an Ollama listens unless told otherwise."""

_SCHEME = "ollama://"


def http_url(url: str) -> str:
    """Where `ollama://host[:port]` is reached. Raises ValueError for any other path or scheme."""
    place = url.removeprefix(_SCHEME).removesuffix("/")
    if not url.startswith(_SCHEME) or not place or "/" in place:
        raise ValueError("a native Ollama is named by ollama://host or ollama://host:port, without a path")
    host = place.rpartition("@")[2]
    has_port = ":" in host.rpartition("]")[2]
    return f"http://{place}" if has_port else f"http://{place}:{PORT}"


class Ollama(Upstream):
    """One Ollama. Its client's base URL has no path."""

    CHAT: ClassVar[str] = "/api/chat"
    MODELS: ClassVar[str] = "/api/tags"
    EMBEDDINGS: ClassVar[str] = "/v1/embeddings"

    def _body(self, ask: Ask, model: str) -> bytes:
        return request_body(ask, model)

    def _decoder(self) -> StreamDecoder:
        return Decoder(secrets.token_hex(4), failure_in_stream)

    @staticmethod
    def _as_stream(body: bytes) -> bytes:
        return body  # a whole answer is the last line of a stream
