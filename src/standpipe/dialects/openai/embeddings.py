"""OpenAI's embeddings, both ways: a client's request and our answer, and the same towards an engine.

Only text is embedded: token ids differ from model to model. An engine is always asked for numbers, because not every
one knows base64; a client that asks for base64 gets the little-endian 32-bit floats that official clients unpack.
"""

from __future__ import annotations

import base64
import re
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.json import Decoder

from standpipe.chat.ask import EmbedAsk, JsonObject, Vectors
from standpipe.chat.errors import EngineFailed, Failure, Unsupported
from standpipe.dialects.asks import filled
from standpipe.dialects.engine_output import count, usage
from standpipe.dialects.openai.faults import EMBEDDINGS as WORDS
from standpipe.dialects.openai.faults import failure_from, renamed
from standpipe.dialects.reading import Reader

INPUTS = 2048
"""Most texts of one request."""

Encoding = Literal["float", "base64"]


class Request(Struct):
    input: str | Annotated[list[Any], Meta(min_length=1, max_length=INPUTS)]
    model: str | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    encoding_format: Encoding | None = None


class ParsedEmbedding(Struct, frozen=True):
    """A request as it was read: what to embed, and how the client wants its numbers."""

    ask: EmbedAsk
    encoding: Encoding
    dropped: tuple[str, ...] = ()


READER = Reader(Request, ignored={"user"})


def parse(body: bytes) -> ParsedEmbedding:
    """Raises InvalidAsk or Unsupported, with `param` naming the field."""
    request, dropped = READER.read(body)
    ask = EmbedAsk(_texts(request.input), request.model or None, request.dimensions)
    return ParsedEmbedding(ask, request.encoding_format or "float", dropped)


def _texts(sent: str | list[Any]) -> tuple[str, ...]:
    if isinstance(sent, str):
        return (filled(sent, "input"),)
    for i, text in enumerate(sent):
        if isinstance(text, int | list):
            raise Unsupported(
                "`input` must be text: token ids are not supported, since they differ between models.", param="input"
            )
        filled(text if isinstance(text, str) else None, f"input[{i}]")
    return tuple(sent)


class _Embedding(Struct, frozen=True):
    index: int
    embedding: str | tuple[float, ...]
    object: str = "embedding"


class _Usage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class _Embeddings(Struct, frozen=True):
    data: tuple[_Embedding, ...]
    model: str
    usage: _Usage
    object: str = "list"


def answer(parsed: ParsedEmbedding, vectors: Vectors, model: str) -> bytes:
    """The body of the answer. `usage` is required there: what nobody counted is 0."""
    tokens = vectors.prompt_tokens or 0
    written = (_base64(vector) if parsed.encoding == "base64" else vector for vector in vectors.vectors)
    data = tuple(_Embedding(i, vector) for i, vector in enumerate(written))
    return msgspec.json.encode(_Embeddings(data, model, _Usage(tokens, tokens)))


def _base64(vector: tuple[float, ...]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except OverflowError:
        raise EngineFailed("The engine sent numbers that do not fit into 32-bit floats.") from None


def in_our_words(failure: Failure) -> Failure:
    """A failure whose field may be one of a chat, naming the field of ours."""
    return renamed(WORDS, failure)


# Towards an engine --------------------------------------------------------------------------------------------------


class _Vector(Struct):
    """Some engines give base64 although numbers were asked for."""

    embedding: tuple[float, ...] | str
    index: Any = None


class _EngineAnswer(Struct):
    data: list[_Vector]
    model: Any = None
    usage: Any = None


NONE_HERE = "No engine on this server offers embeddings."

_ENGINE_ANSWER = Decoder(_EngineAnswer)
_NO_SUCH_PATH = frozenset({404, 405, 501})
_NO_EMBEDDINGS = re.compile(
    rb"\bnot support\w*\b.{0,40}\bembedding|\bno engine\b.{0,40}\bembedding|created with embedding=True",
    re.IGNORECASE | re.DOTALL,
)


def request_body(ask: EmbedAsk, model: str) -> JsonObject:
    """The body of POST /embeddings, for the engine's model of this name."""
    body: JsonObject = {"model": model, "input": ask.texts, "encoding_format": "float"}
    if ask.dimensions is not None:
        body["dimensions"] = ask.dimensions
    return body


def refusal_from(status: int, body: bytes, retry_after: str | None) -> Failure:
    """What an engine's HTTP error means; Unsupported where it, or its model, makes no embeddings at all."""
    if status in _NO_SUCH_PATH or (status >= 400 and _NO_EMBEDDINGS.search(body[:1000])):
        return Unsupported(NONE_HERE)
    return failure_from(status, body, retry_after)


def vectors_from(body: bytes, texts: int) -> Vectors:
    """What an engine answered to so many texts. Raises EngineFailed for anything but one vector for each."""
    try:
        found = _ENGINE_ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EngineFailed("The engine sent invalid embeddings.") from None
    ordered = sorted(found.data, key=lambda vector: count(vector.index) or 0)
    vectors = tuple(_numbers(vector.embedding) for vector in ordered)
    if len(vectors) != texts or len(set(map(len, vectors))) > 1:
        raise EngineFailed("The engine sent embeddings that do not match the request.")
    counted = usage(count(found.usage.get("prompt_tokens")), 0) if isinstance(found.usage, dict) else None
    model = found.model if isinstance(found.model, str) else None
    return Vectors(vectors, model, counted.prompt_tokens if counted and counted.prompt_tokens else None)


def _numbers(vector: tuple[float, ...] | str) -> tuple[float, ...]:
    """Raises EngineFailed for base64 that is no row of little-endian 32-bit floats."""
    if not isinstance(vector, str):
        return vector
    try:
        packed = base64.b64decode(vector, validate=True)
        return struct.unpack(f"<{len(packed) // 4}f", packed)
    except (ValueError, struct.error):
        raise EngineFailed("The engine sent invalid embeddings.") from None
