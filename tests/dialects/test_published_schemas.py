"""Everything that is written, held against the schemas that OpenAI, Anthropic and Ollama publish.

The schemas come as the types in their official packages, which are made from them. Three things are asked of every
body: that each value has its type, strictly; that each required field is there, also those that may be null, which the
types alone would let pass; and that nothing is there beyond the schema but what the documentation owns up to.
Responses are held in `test_openai_responses`, which asks the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from anthropic.types import message_create_params as message_params
from hypothesis import given, settings
from ollama import ChatResponse, GenerateResponse, ListResponse, ProcessResponse, ShowResponse
from ollama._types import ChatRequest, GenerateRequest
from openai.types import Completion, CompletionChoice, CreateEmbeddingResponse, ErrorObject, Model
from openai.types import completion_create_params as legacy_params
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionTokenLogprob,
    chat_completion,
    chat_completion_chunk,
)
from openai.types.chat import completion_create_params as chat_params
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses import response_create_params as response_params
from pydantic import BaseModel, TypeAdapter, ValidationError

from standpipe.chat import errors
from standpipe.chat.ask import Ask, EmbedAsk, Vectors
from standpipe.chat.events import NOTHING, AnswerBuilder
from standpipe.dialects.anthropic import request as anthropic
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.framing import NdjsonFrames, SseFrames
from standpipe.dialects.ollama import request as ollama
from standpipe.dialects.ollama import wire as ollama_wire
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai import wire as openai_wire
from standpipe.dialects.openai.responses import request as openai_responses
from standpipe.dialects.openai.to_engine import Extras, request_body
from tests import golden, openai_schema
from tests.streams import legal_streams
from tools import specimens, specimens_native
from tools.compatibility import BEYOND

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")

REQUIRED: dict[type[BaseModel], set[str]] = {
    ChatCompletionMessage: {"content", "refusal"},
    chat_completion.Choice: {"logprobs"},
    chat_completion.ChoiceLogprobs: {"content", "refusal"},
    chat_completion_chunk.Choice: {"finish_reason"},
    chat_completion_chunk.ChoiceLogprobs: {"content", "refusal"},
    ChatCompletionTokenLogprob: {"bytes"},
    TopLogprob: {"bytes"},
    CompletionChoice: {"logprobs"},
    ErrorObject: {"code", "param"},
}
"""What OpenAI's schema requires although it may be null."""

OMITTED = {"citations"}
"""What Anthropic's schema requires, its own answers leave out, and a validator (Vercel's AI SDK) refuses as null."""

CHAT = BEYOND["OpenAI Chat Completions"].keys()
COMPLETIONS = BEYOND["OpenAI Completions"].keys()
ANTHROPIC = {name.rpartition(".")[2] for name in BEYOND["Anthropic Messages"]}
OLLAMA = BEYOND["Ollama"].keys() | {
    *("id", "index"),  # of a call: Ollama's server has them, its Python package does not
    "bytes",  # of a log-probability: the same
    "tool_calls",  # of an answer to a question: the same
    "name",  # of a model: the same
}


class OpenAIError(BaseModel):
    """The body around OpenAI's error, for which the package has no type."""

    error: ErrorObject


class OllamaError(BaseModel):
    """Ollama's error, for which the package has no type."""

    error: str


def hold(kind: Any, data: bytes, beyond: Collection[str] = ()) -> set[str]:
    """Hold JSON against a type. Gives back the fields beyond it, all of which must be among those expected."""
    value = _adapter(kind).validate_json(data, strict=True)
    found: set[str] = set()
    for model, raw in _pairs(value, msgspec.json.decode(data)):
        assert _required(type(model)) <= raw.keys(), f"{type(model).__name__} in {raw}"
        found |= raw.keys() - {field.alias or name for name, field in type(model).model_fields.items()}
    assert found <= set(beyond), data
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Making one takes much longer than using it."""
    return TypeAdapter(kind)


@cache
def _required(kind: type[BaseModel]) -> set[str]:
    if kind.__module__.startswith("anthropic."):
        return openai_schema.required(kind) - OMITTED  # the same generator, so the same order of fields
    named = {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}
    return named | REQUIRED.get(kind, set())


def _pairs(value: Any, raw: Any) -> Iterator[tuple[BaseModel, dict[str, Any]]]:
    """Each object with the JSON that it was read from."""
    if isinstance(value, BaseModel):
        yield value, raw
        for name, field in type(value).model_fields.items():
            if (field.alias or name) in raw:
                yield from _pairs(getattr(value, name), raw[field.alias or name])
    elif isinstance(value, list | tuple):
        for one, written in zip(value, raw, strict=True):
            yield from _pairs(one, written)


def chat_frames(stream: bytes) -> set[str]:
    found: set[str] = set()
    for data in SseFrames().feed(stream):
        if b'"error"' in data[:9]:
            found |= hold(OpenAIError, data, {"request_id"})
        elif data != b"[DONE]":
            found |= hold(ChatCompletionChunk, data, CHAT)
    return found


def legacy_frames(stream: bytes) -> set[str]:
    found: set[str] = set()
    for data in SseFrames().feed(stream):
        if b'"error"' in data[:9]:
            found |= hold(OpenAIError, data, {"request_id"})
        elif data != b"[DONE]":
            found |= hold(Completion, as_if_whole(data), COMPLETIONS)
    return found


def as_if_whole(chunk: bytes) -> bytes:
    """In a stream, a reason and a usage are null until they are known. The schema tells of whole answers only."""
    completion = msgspec.json.decode(chunk)
    for choice in completion["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    if completion.get("usage", ...) is None:
        del completion["usage"]
    return msgspec.json.encode(completion)


def anthropic_frames(stream: bytes) -> set[str]:
    found: set[str] = set()
    for name, data in openai_schema.events(stream):
        match name:
            case "ping":
                found |= msgspec.json.decode(data).keys() - {"type"}
                assert found <= ANTHROPIC
            case "error":
                found |= hold(ErrorResponse, data, ANTHROPIC)
            case _:
                found |= hold(RawMessageStreamEvent, data, ANTHROPIC)
        assert msgspec.json.decode(data)["type"] == name
    return found


def ollama_lines(stream: bytes, kind: Any) -> set[str]:
    found: set[str] = set()
    for data in NdjsonFrames().feed(stream):
        found |= hold(OllamaError, data, {"request_id"}) if data.startswith(b'{"error"') else hold(kind, data, OLLAMA)
    return found


def ollama_chat_lines(stream: bytes) -> set[str]:
    return ollama_lines(stream, ChatResponse)


def ollama_generate_lines(stream: bytes) -> set[str]:
    return ollama_lines(stream, GenerateResponse)


FORMATS: dict[str, tuple[Dialect, Any, Collection[str], Any]] = {
    "openai_chat": (openai_chat.COMPLETIONS, ChatCompletion, CHAT, chat_frames),
    "openai_completions": (openai_completions.LEGACY, Completion, COMPLETIONS, legacy_frames),
    "anthropic": (anthropic.MESSAGES, Message, ANTHROPIC, anthropic_frames),
    "ollama_chat": (ollama.CHAT, ChatResponse, OLLAMA, ollama_chat_lines),
    "ollama_generate": (ollama.GENERATE, GenerateResponse, OLLAMA, ollama_generate_lines),
}
"""The dialect, the type of a whole answer, what may be beyond it, and who holds a stream."""
ECHO = {"openai_completions": openai_completions.Echo(usage=True)}
"""What a dialect remembers of a request, where that is more than a yes."""
TRANSCRIPTS = [
    (name, path.relative_to(golden.FOLDER).as_posix())
    for name in FORMATS
    for path in sorted((golden.FOLDER / name).iterdir())
]


@pytest.mark.parametrize(
    ("name", "path", "written", "wrong"),
    [
        ("openai_chat", "text.json", b'"logprobs": null,', b""),  # required, although it may be null
        ("openai_chat", "text.json", b'"created": 1700000000', b'"created": "1700000000"'),
        ("openai_chat", "text.json", b'"stop"', b'"ended"'),
        ("openai_chat", "text.json", b'"index": 0', b'"index": 0, "place": 0'),
        ("openai_chat", "text.sse", b',"finish_reason":null', b""),
        ("anthropic", "text.json", b'"container": null', b'"contained": null'),
        ("anthropic", "text.sse", b"text_delta", b"text_piece"),
        ("ollama_chat", "text.json", b'"done": true', b'"done": "true"'),
        ("ollama_chat", "text.json", b'"done": true', b'"done": true, "whole": true'),
    ],
)
def test_what_is_not_by_the_schema_is_found(name, path, written, wrong):
    _, whole, beyond, frames = FORMATS[name]
    told = golden.read(f"{name}/{path}")
    assert written in told
    with pytest.raises((AssertionError, ValidationError)):
        if path.endswith(".json"):
            hold(whole, told.replace(written, wrong), beyond)
        else:
            frames(told.replace(written, wrong))


@pytest.mark.parametrize(("name", "path"), TRANSCRIPTS)
def test_every_transcript_is_by_the_schema(name, path):
    _, whole, beyond, frames = FORMATS[name]
    if path.endswith(".json"):
        hold(whole, golden.read(path), beyond)
    else:
        frames(golden.read(path))


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("openai_chat", CHAT | {"request_id"}),
        ("openai_completions", COMPLETIONS | {"request_id"}),
        ("anthropic", ANTHROPIC - {"estimated"}),
        ("ollama_chat", {"queue", "id", "index", "bytes", "request_id"}),
        ("ollama_generate", {"queue", "bytes", "request_id"}),
    ],
)
def test_the_documentation_names_what_goes_beyond_the_schema_and_nothing_else(name, beyond):
    found = set()
    for format_name, path in TRANSCRIPTS:
        if format_name == name and not path.endswith(".json"):
            found |= FORMATS[name][3](golden.read(path))
    assert found == beyond


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=50)
@given(events=legal_streams(objects=True))
def test_whatever_an_engine_says_is_streamed_by_the_schema(name, events):
    dialect, _, _, frames = FORMATS[name]
    frames(dialect.encoder(Parsed(Ask(()), stream=True, echo=ECHO.get(name, True)), META).encode(events))


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=50)
@given(events=legal_streams(objects=True, failing=False))
def test_whatever_an_engine_says_is_answered_by_the_schema(name, events):
    dialect, whole, beyond, _ = FORMATS[name]
    fold = AnswerBuilder()
    fold.add(events)
    assert fold.answer is not None
    hold(whole, dialect.answer(Parsed(Ask(()), stream=False, echo=ECHO.get(name, True)), META, fold.answer), beyond)


def kinds(failure: type[errors.Failure]) -> Iterator[type[errors.Failure]]:
    """All kinds of a failure in the vocabulary, but those that only stand for others."""
    if not failure.__name__.startswith("_") and failure.__module__ == errors.__name__:
        yield failure
    for kind in failure.__subclasses__():
        yield from kinds(kind)


FAILURES = [
    kind("What happened.", allowed=("GET",)) if kind is errors.MethodNotAllowed else kind("What happened.", param=param)
    for kind in kinds(errors.Failure)
    for param in (None, "messages[0]")
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure.kind}-{failure.param}")
def test_every_failure_is_told_by_the_schemas(failure):
    for dialect in (openai_chat.API, openai_completions.LEGACY, openai_responses.OpenAIResponses()):
        assert hold(OpenAIError, dialect.failure(failure, "7Yd2k"), {"request_id"}) == {"request_id"}
    assert hold(OllamaError, ollama.CHAT.failure(failure, "7Yd2k"), {"request_id"}) == {"request_id"}
    told = anthropic.MESSAGES.failure(failure, "7Yd2k")
    if failure.status == 413:  # Anthropic documents its type for this status, but publishes no schema of it
        assert msgspec.json.decode(told)["error"]["type"] == "request_too_large"
    else:
        assert hold(ErrorResponse, told, {"details"}) == {"details"}


def test_embeddings_are_told_by_the_schema():
    vectors = Vectors(((0.5, -1.0), (0.25, 2.0)), "embedder", 7)
    for encoding in ("float", "base64"):
        body = msgspec.json.encode({"input": ["a", "b"], "encoding_format": encoding})
        told = openai_embeddings.answer(openai_embeddings.parse(body), vectors, "embedder")
        # The package unpacks base64 before it holds an answer against its type.
        unpacked = msgspec.json.decode(told)
        for one, vector in zip(unpacked["data"], vectors.vectors, strict=True):
            assert isinstance(one["embedding"], str) is (encoding == "base64")
            one["embedding"] = vector
        assert hold(CreateEmbeddingResponse, msgspec.json.encode(unpacked)) == set()


def test_models_are_told_by_the_schemas():
    models = [openai_wire.model(name, 1, None, sees=False) for name in "ab"]
    listed = msgspec.json.decode(openai_wire.models_list(models))
    beyond = {"input_modalities", "max_model_len"}
    assert {**listed, "data": [hold(Model, msgspec.json.encode(one), beyond) for one in listed["data"]]} == {
        "object": "list",
        "data": [{"input_modalities"}] * 2,
    }
    assert hold(ListResponse, ollama_wire.tags(["a"], 1), OLLAMA) == {"name"}
    assert hold(ProcessResponse, ollama_wire.running(["a"])) == set()
    assert hold(ShowResponse, ollama_wire.show("gpt-oss", 1, window=8192, sees=True)) == set()
    assert hold(ChatResponse, ollama.CHAT.answer(ollama.CHAT.parse(b"{}"), META, NOTHING)) == set()
    assert hold(GenerateResponse, ollama.GENERATE.answer(ollama.GENERATE.parse(b"{}"), META, NOTHING)) == set()


REQUESTS = [
    (section, number, kind)
    for section, whole, streamed in (
        (specimens.CHAT, chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming),
        (
            specimens.RESPONSES,
            response_params.ResponseCreateParamsNonStreaming,
            response_params.ResponseCreateParamsStreaming,
        ),
        (
            specimens.LEGACY,
            legacy_params.CompletionCreateParamsNonStreaming,
            legacy_params.CompletionCreateParamsStreaming,
        ),
        (specimens.EMBEDDINGS, EmbeddingCreateParams, EmbeddingCreateParams),
        (
            specimens_native.ANTHROPIC,
            message_params.MessageCreateParamsNonStreaming,
            message_params.MessageCreateParamsStreaming,
        ),
        (specimens_native.OLLAMA_CHAT, ChatRequest, ChatRequest),
        (specimens_native.OLLAMA_GENERATE, GenerateRequest, GenerateRequest),
    )
    for number, specimen in enumerate(section.specimens)
    for kind in [streamed if specimen.get("stream") else whole]
]


@pytest.mark.parametrize(("section", "number", "kind"), REQUESTS, ids=lambda value: getattr(value, "path", None))
def test_what_the_tables_of_compatibility_were_made_from_are_requests_by_the_schemas(section, number, kind):
    """So the tables tell of what official clients send, and not of what only we take."""
    specimen = section.specimens[number]
    if kind is GenerateRequest:  # whose type has images before they are written
        specimen = {**specimen, "images": [{"value": image} for image in specimen.get("images", ())]}
    hold_request(kind, specimen)


@pytest.mark.parametrize("specimen", specimens.CHAT.specimens)
def test_an_engine_is_asked_by_the_schema(specimen):
    asked = openai_chat.COMPLETIONS.parse(msgspec.json.encode(specimen)).ask
    body = msgspec.json.decode(msgspec.json.encode(request_body(asked, "gpt-oss", extras=Extras())))
    hold_request(chat_params.CompletionCreateParamsStreaming, body)
    assert body.keys() <= chat_params.CompletionCreateParamsStreaming.__annotations__.keys()


def test_an_engine_is_asked_for_embeddings_by_the_schema():
    hold_request(
        EmbeddingCreateParams,
        msgspec.json.decode(msgspec.json.encode(openai_embeddings.request_body(EmbedAsk(("a",), None, 8), "m"))),
    )


def hold_request(kind: Any, body: dict[str, Any]) -> None:
    """Hold a request against the type of its parameters, to the last element of its lists, which are read lazily."""
    exhaust(_adapter(kind).validate_python({"model": "gpt-oss:latest", "max_tokens": 1, **body}))


def exhaust(value: Any) -> None:
    if isinstance(value, dict):
        for one in value.values():
            exhaust(one)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes | BaseModel):
        for one in value:
            exhaust(one)
