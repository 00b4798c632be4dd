"""The API in the words of OpenAPI 3.1: GET /openapi.json. Only what is served is described.

Schemas come from the very types that requests are decoded into, so they cannot drift; ranges and defaults, which types
do not carry, are noted here. Each operation names its samples, which are those of the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from standpipe.dialects.anthropic import wire as anthropic_wire
from standpipe.dialects.ollama import wire as ollama_wire
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.dialects.openai import wire as openai_wire
from standpipe.dialects.openai.responses import wire as openai_responses_wire
from standpipe.serve.limits import WhyLimited
from standpipe.site import openapi_shapes as shapes
from standpipe.site.facts import Facts
from standpipe.site.openapi_schemas import REF, Schema, Schemas, bounded

_HELLO = [{"role": "user", "content": "Hello!"}]
_SSE, _NDJSON, _JSON = "text/event-stream", "application/x-ndjson", "application/json"


class Operation(Struct, frozen=True):
    """One method of one path. `prefix` names the format; `asks` is whether an engine is asked."""

    id: str
    summary: str
    prefix: str = ""
    request: Any = None
    example: dict[str, Any] | None = None
    response: Any = None
    stream: tuple[str, Any] | None = None
    error: type = shapes.Error
    asks: bool = True
    samples: tuple[str, ...] = ()
    about: str = ""


def _chat(name: str, summary: str, samples: tuple[str, ...], about: str) -> Operation:
    return Operation(
        id=name,
        summary=summary,
        prefix="Chat",
        request=openai_wire.Request,
        example={"messages": _HELLO, "stream": False},
        response=openai_wire.Completion,
        stream=(_SSE, shapes.Chunk),
        samples=samples,
        about=about,
    )


def _anthropic(name: str, summary: str, response: Any, example: dict[str, Any], **more: Any) -> Operation:
    request = anthropic_wire.Request
    error = shapes.AnthropicError
    return Operation(
        name, summary, "Anthropic", request, {**example, "messages": _HELLO}, response, error=error, **more
    )


def _ollama(name: str, summary: str, request: Any = None, example: Any = None, **more: Any) -> Operation:
    return Operation(name, summary, "Ollama", request, example, error=shapes.OllamaError, **more)


def _told(name: str, summary: str, response: Any, about: str = "", **more: Any) -> Operation:
    return Operation(name, summary, "", response=response, about=about, asks=False, **more)


OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/api": {
        "POST": _chat(
            "ask",
            "Ask",
            ("curl", "requests", "fetch", "stream"),
            "A chat completion in OpenAI's shape, with this tap's own defaults: a stream, temperature 0.8, top_p 0.9.",
        ),
        "GET": _told("health", "Health", shapes.Health, "Always 200 while this server answers; see `status`."),
    },
    "/api/limits": {"GET": _told("limits", "What the tap sees of you", WhyLimited)},
    "/api/status": {"GET": _told("status", "The last hour in numbers", shapes.Status)},
    "/api/status/events": {
        "GET": _told("statusEvents", "The same, live", None, stream=(_SSE, shapes.Status)),
    },
    "/api/share": {
        "GET": _told("shareChallenge", "What is to be done for a note", dict[str, Any]),
        "POST": _told("share", "A note that tells people behind one address apart", dict[str, Any]),
    },
    "/v1/chat/completions": {
        "POST": _chat("chatCompletion", "OpenAI Chat Completions", ("openai",), "With OpenAI's own defaults."),
    },
    "/v1/responses": {
        "POST": Operation(
            "response",
            "OpenAI Responses",
            "Responses",
            openai_responses_wire.Request,
            {"input": "Hello!"},
            openai_responses_wire.Response,
            (_SSE, dict[str, Any]),
            samples=("responses",),
        ),
    },
    "/v1/responses/{id}": {
        "GET": _told("keptResponse", "A response that was kept", dict[str, Any]),
        "DELETE": _told("forgetResponse", "Forget a response that was kept", dict[str, Any]),
    },
    "/v1/completions": {
        "POST": Operation(
            "completion",
            "OpenAI Completions (the older format)",
            "Completions",
            openai_completions.Request,
            {"prompt": "Once upon a time", "max_tokens": 20},
            dict[str, Any],
            (_SSE, dict[str, Any]),
        ),
    },
    "/v1/embeddings": {
        "POST": Operation(
            "embeddings",
            "OpenAI Embeddings, where an engine offers them",
            "Embeddings",
            openai_embeddings.Request,
            {"input": "Hello!"},
            dict[str, Any],
        ),
    },
    "/v1/models": {"GET": _told("models", "The models that can be asked for", dict[str, Any])},
    "/v1/models/{id}": {"GET": _told("model", "One model", dict[str, Any])},
    "/v1/messages": {
        "POST": _anthropic(
            "message",
            "Anthropic Messages",
            anthropic_wire.WrittenMessage,
            {"max_tokens": 100},
            stream=(_SSE, dict[str, Any]),
            samples=("anthropic",),
        ),
    },
    "/v1/messages/count_tokens": {
        "POST": _anthropic("countTokens", "Anthropic's count of tokens, estimated", dict[str, Any], {}),
    },
    "/api/chat": {
        "POST": _ollama(
            "ollamaChat",
            "Ollama chat",
            ollama_wire.ChatRequest,
            {"messages": _HELLO, "stream": False},
            response=shapes.OllamaPiece,
            stream=(_NDJSON, shapes.OllamaPiece),
            samples=("ollama",),
        ),
    },
    "/api/generate": {
        "POST": _ollama(
            "ollamaGenerate",
            "Ollama generate",
            ollama_wire.GenerateRequest,
            {"prompt": "Hello!", "stream": False},
            response=shapes.OllamaPiece,
            stream=(_NDJSON, shapes.OllamaPiece),
        ),
    },
    "/api/tags": {"GET": _ollama("ollamaTags", "Ollama's list of models", response=dict[str, Any], asks=False)},
    "/api/ps": {"GET": _ollama("ollamaPs", "Ollama's list of loaded models", response=dict[str, Any], asks=False)},
    "/api/show": {"POST": _ollama("ollamaShow", "Ollama's word on a model", response=dict[str, Any], asks=False)},
    "/api/version": {"GET": _ollama("ollamaVersion", "Ollama's version", response=dict[str, Any], asks=False)},
}
"""Every operation that there can be."""

_NOTES: dict[str, Schema] = {
    "messages": {"minItems": 1, "maxItems": 128},
    "temperature": {"minimum": 0, "maximum": 2},
    "top_p": {"minimum": 0, "maximum": 1},
    "max_tokens": {"minimum": -1, "description": "-1 is no limit of your own; the operator's cap applies."},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "top_logprobs": {"minimum": 0, "maximum": 5},
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", None]},
    "n": {"const": 1},
}
_DEFAULTS: dict[str, Any] = {"stream": True, "temperature": 0.8, "top_p": 0.9, "max_tokens": -1}
"""Of POST /api."""

_FAILURES = {
    "400": "The ask is wrong, or something that it wants cannot be done here; `param` names the field.",
    "404": "There is no such model.",
    "413": "The request is too large.",
    "429": "Your own quota is used up: wait as long as `retry-after` says.",
    "500": "Our fault.",
    "502": "The engine failed, on every attempt.",
    "503": "Our capacity is used up, or no engine is up: wait as long as `retry-after` says.",
    "504": "The engine was silent for too long.",
}
_HEADERS: dict[str, Schema] = {
    "x-request-id": {"description": "The id of this ask.", "schema": {"type": "string"}},
    "x-standpipe-waited": {"description": "Seconds until an engine took it.", "schema": {"type": "number"}},
    "x-standpipe-attempts": {"description": "Attempts that it took.", "schema": {"type": "integer"}},
    "x-standpipe-dropped": {"description": "Fields that were not used.", "schema": {"type": "string"}},
}
_COME_BACK: dict[str, Schema] = {
    "retry-after": {"description": "Seconds, 1 to 59.", "schema": {"type": "integer", "minimum": 1, "maximum": 59}},
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": {"type": "integer"}},
}


def document(facts: Facts, paths: Iterable[str], sample: Callable[[str], tuple[str, str, str]]) -> dict[str, Any]:
    """The description.

    Args:
        facts: what is told of this tap.
        paths: what is served; `/*` at an end takes everything below.
        sample: the label, language and text of a sample, by its name.
    """
    served = {path.replace("/*", "/{id}") for path in paths}
    schemas = Schemas()
    found = {
        path: {method.lower(): _operation(path, operation, schemas, sample) for method, operation in methods.items()}
        for path, methods in OPERATIONS.items()
        if path in served
    }
    if "/api" in found:
        schemas.found["Ask"] = _ask(schemas.found["ChatRequest"])
        found["/api"]["post"]["requestBody"]["content"][_JSON]["schema"] = {"$ref": REF + "Ask"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": facts.name,
            "version": facts.version,
            "description": f"A free chat API without a key, serving {facts.model}. Any Authorization is ignored.",
        },
        "servers": [{"url": facts.address}],
        "security": [],
        "paths": found,
        "components": {"schemas": schemas.found, "headers": {**_HEADERS, **_COME_BACK}},
    }


def _ask(request: Schema) -> Schema:
    noted = bounded(request, _NOTES)
    properties = {name: {**schema, "default": _DEFAULTS[name]} if name in _DEFAULTS else schema
                  for name, schema in noted["properties"].items()}  # fmt: skip
    return {**noted, "properties": properties}


def _operation(
    path: str, operation: Operation, schemas: Schemas, sample: Callable[[str], tuple[str, str, str]]
) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if operation.about:
        made["description"] = operation.about
    if path.endswith("/{id}"):
        made["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    if operation.request is not None:
        content = {"schema": schemas.add(operation.request, operation.prefix), "example": operation.example}
        made["requestBody"] = {"required": True, "content": {_JSON: content}}
    made["responses"] = {"200": _answer(operation, schemas), **_failures(operation, schemas)}
    if operation.samples:
        made["x-codeSamples"] = [
            {"label": label, "lang": language, "source": source}
            for label, language, source in map(sample, operation.samples)
        ]
    return made


def _answer(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response is not None:
        content[_JSON] = {"schema": schemas.add(operation.response, operation.prefix)}
    if operation.stream is not None:
        kind, shape = operation.stream
        content[kind] = {"schema": schemas.add(shape, operation.prefix)}
    answer: dict[str, Any] = {"description": "The answer.", "content": content}
    if operation.asks:
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    return answer


def _failures(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    shape = {_JSON: {"schema": schemas.add(operation.error, "")}}
    made: dict[str, Any] = {}
    for status, description in _FAILURES.items() if operation.asks else ():
        made[status] = {"description": description, "content": shape}
        if status in {"429", "503"}:
            made[status]["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _COME_BACK}
    return made
