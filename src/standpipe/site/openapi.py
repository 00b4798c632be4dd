"""The API in the words of OpenAPI 3.1: GET /openapi.json. Only what is served is described.

Schemas come from the very types that requests are decoded into and answers are encoded from, so they cannot drift. What
is written piece by piece has its shape here, for the description alone; tests hold what is really written against it.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from standpipe import __version__
from standpipe.dialects.anthropic import wire as anthropic_wire
from standpipe.dialects.ollama import wire as ollama_wire
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.dialects.openai import wire as openai_wire
from standpipe.dialects.openai.responses import wire as openai_responses_wire
from standpipe.observe.about import About, Status
from standpipe.serve.limits import ClientLimits
from standpipe.site.facts import Facts
from standpipe.site.schemas import REF, Schema, Schemas

_HELLO = [{"role": "user", "content": "Hello!"}]
_OBJECT = dict[str, Any]
_SSE, _NDJSON, _JSON = "text/event-stream", "application/x-ndjson", "application/json"


# Shapes of what is written piece by piece ---------------------------------------------------------------------------


class ErrorDetail(Struct, frozen=True, forbid_unknown_fields=True):
    message: str
    type: str
    param: str | None
    code: str


class Error(Struct, frozen=True, forbid_unknown_fields=True):
    error: ErrorDetail
    request_id: str


class AnthropicErrorDetail(Struct, frozen=True):
    type: str
    message: str


class AnthropicError(Struct, frozen=True):
    type: Literal["error"]
    error: AnthropicErrorDetail


class OllamaError(Struct, frozen=True):
    error: str
    request_id: str


class CalledFunction(Struct, frozen=True, forbid_unknown_fields=True):
    arguments: str
    name: str | UnsetType = UNSET


class CallDelta(Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    function: CalledFunction
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class Delta(Struct, frozen=True, forbid_unknown_fields=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[CallDelta, ...] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: openai_wire.Logprobs | UnsetType | None = UNSET


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an ask stands: 1 is next. `eta_seconds` is None where it is not known."""

    position: int
    eta_seconds: float | None


class Chunk(Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a stream. The last one's data is `[DONE]`, which is no JSON; a failed stream ends in an Error."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    queue: Queue | UnsetType = UNSET
    usage: openai_wire.Usage | UnsetType | None = UNSET


class InputTokens(Struct, frozen=True):
    object: Literal["response.input_tokens"]
    input_tokens: int


class OllamaMessage(Struct, frozen=True):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: tuple[dict[str, Any], ...] | UnsetType = UNSET


class OllamaPiece(Struct, frozen=True):
    """One line of a stream, or the whole answer: then `done` is true."""

    model: str
    created_at: str
    done: bool
    message: OllamaMessage | UnsetType = UNSET
    response: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


# What can be served -------------------------------------------------------------------------------------------------


class Operation(Struct, frozen=True):
    """One method of one path. `prefix` names the format; `asks` is whether an engine is asked, and `refuses`
    has the statuses of failures of those that ask none."""

    id: str
    summary: str
    prefix: str = ""
    request: Any = None
    example: dict[str, Any] | None = None
    response: Any = _OBJECT
    stream: tuple[str, Any] | None = None
    error: type = Error
    asks: bool = True
    refuses: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    about: str = ""


def _chat(name: str, summary: str, samples: tuple[str, ...], about: str) -> Operation:
    example = {"messages": _HELLO, "stream": False}
    request, response = openai_wire.Request, openai_wire.Completion
    return Operation(name, summary, "Chat", request, example, response, (_SSE, Chunk), samples=samples, about=about)


def _responses(name: str, summary: str, response: Any, **more: Any) -> Operation:
    request = openai_responses_wire.Request
    return Operation(name, summary, "Responses", request, {"input": "Hello!"}, response, **more)


def _anthropic(name: str, summary: str, response: Any, example: dict[str, Any], **more: Any) -> Operation:
    example = {**example, "messages": _HELLO}
    return Operation(
        name, summary, "Anthropic", anthropic_wire.Request, example, response, error=AnthropicError, **more
    )


def _ollama(name: str, summary: str, request: Any, example: dict[str, Any], **more: Any) -> Operation:
    example = {**example, "stream": False}
    piece = OllamaPiece
    return Operation(name, summary, "Ollama", request, example, piece, (_NDJSON, piece), error=OllamaError, **more)


def _get(name: str, summary: str, response: Any = _OBJECT, about: str = "", **more: Any) -> Operation:
    return Operation(name, summary, response=response, about=about, asks=False, **more)


OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "/api": {
        "POST": _chat(
            "ask",
            "Ask",
            ("curl", "requests", "fetch", "stream"),
            "A chat completion in OpenAI's format with defaults of its own: streamed, temperature 0.8, top_p 0.9.",
        ),
        "GET": _get("health", "Health", About, "Always 200 while this server responds; see `status`."),
    },
    "/api/limits": {"GET": _get("limits", "Your limits and queued requests", ClientLimits)},
    "/api/status": {"GET": _get("status", "The last hour in numbers", Status)},
    "/api/status/events": {"GET": _get("statusEvents", "The same, live", None, stream=(_SSE, _OBJECT))},
    "/api/share": {"POST": _get("share", "A token that tells people behind one address apart")},
    "/v1/chat/completions": {
        "POST": _chat("chatCompletion", "OpenAI Chat Completions", ("openai",), "With OpenAI's own defaults."),
    },
    "/v1/responses": {
        "POST": _responses(
            "response",
            "OpenAI Responses",
            openai_responses_wire.Response,
            stream=(_SSE, _OBJECT),
            samples=("responses",),
        ),
    },
    "/v1/responses/input_tokens": {
        "POST": _responses(
            "countInputTokens", "OpenAI's token count, estimated", InputTokens, asks=False, refuses=("400",)
        ),
    },
    "/v1/responses/compact": {
        "POST": _get("compact", "Refused: conversations are not compacted here", refuses=("400",)),
    },
    "/v1/responses/{id}": {
        "GET": _get("keptResponse", "A stored response", refuses=("404",)),
        "DELETE": _get("forgetResponse", "Delete a stored response", refuses=("404",)),
    },
    "/v1/responses/{id}/input_items": {
        "GET": _get("inputItems", "What led to a stored response", refuses=("400", "404")),
    },
    "/v1/responses/{id}/cancel": {
        "POST": _get("cancelResponse", "Refused: no response runs in the background", refuses=("400", "404")),
    },
    "/v1/completions": {
        "POST": Operation(
            "completion",
            "OpenAI Completions (the older format)",
            "Completions",
            openai_completions.Request,
            {"prompt": "Once upon a time", "max_tokens": 20},
            stream=(_SSE, _OBJECT),
        ),
    },
    "/v1/embeddings": {
        "POST": Operation(
            "embeddings",
            "OpenAI Embeddings, where an engine offers them",
            "Embeddings",
            openai_embeddings.Request,
            {"input": "Hello!"},
        ),
    },
    "/v1/models": {"GET": _get("models", "Available models")},
    "/v1/models/{id}": {"GET": _get("model", "One model", refuses=("404",))},
    "/v1/messages": {
        "POST": _anthropic(
            "message",
            "Anthropic Messages",
            anthropic_wire.WrittenMessage,
            {"max_tokens": 100},
            stream=(_SSE, _OBJECT),
            samples=("anthropic",),
        ),
    },
    "/v1/messages/count_tokens": {
        "POST": _anthropic("countTokens", "Anthropic's token count, estimated", _OBJECT, {}),
    },
    "/api/chat": {
        "POST": _ollama(
            "ollamaChat", "Ollama chat", ollama_wire.ChatRequest, {"messages": _HELLO}, samples=("ollama",)
        ),
    },
    "/api/generate": {
        "POST": _ollama("ollamaGenerate", "Ollama generate", ollama_wire.GenerateRequest, {"prompt": "Hello!"}),
    },
    "/api/tags": {"GET": _get("ollamaTags", "Ollama's list of models", error=OllamaError)},
    "/api/ps": {"GET": _get("ollamaPs", "Ollama's list of loaded models", error=OllamaError)},
    "/api/show": {
        "POST": _get("ollamaShow", "Ollama's description of a model", error=OllamaError, refuses=("400", "404"))
    },
    "/api/version": {"GET": _get("ollamaVersion", "Ollama's version", error=OllamaError)},
}
"""Every operation that there can be."""

_DEFAULTS: dict[str, Any] = {"stream": True, "temperature": 0.8, "top_p": 0.9, "max_tokens": -1}
"""Of POST /api."""

_FAILURES = {
    "400": "The request is invalid, or not supported here; `param` names the field.",
    "404": "No such model, or no such response.",
    "413": "The request is too large.",
    "415": "The request body is compressed.",
    "429": "You have reached your own limit: wait as long as `retry-after` says.",
    "500": "A bug in this server.",
    "502": "The engine failed on every attempt.",
    "503": "The server is at capacity, or no engine is up: wait as long as `retry-after` says.",
    "504": "The engine did not respond in time.",
}
_HEADERS: dict[str, Schema] = {
    "x-request-id": {"description": "The id of this request.", "schema": {"type": "string"}},
    "x-standpipe-waited": {"description": "Seconds spent in the queue.", "schema": {"type": "number"}},
    "x-standpipe-attempts": {"description": "How often engines were tried.", "schema": {"type": "integer"}},
    "x-standpipe-dropped": {"description": "Fields of the request that were ignored.", "schema": {"type": "string"}},
}
_COME_BACK: dict[str, Schema] = {
    "retry-after": {"description": "Seconds, 1 to 59.", "schema": {"type": "integer", "minimum": 1, "maximum": 59}},
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": {"type": "integer"}},
}


def document(facts: Facts, paths: Iterable[str], sample: Callable[[str], tuple[str, str, str]]) -> dict[str, Any]:
    """The description.

    Args:
        facts: what is told of this tap.
        paths: what is served; `*` stands for whatever a request has there.
        sample: the label, language and text of a sample, by its name.
    """
    served = {path.replace("*", "{id}") for path in paths}
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
            "version": __version__,
            "description": f"A free chat API without a key, serving {facts.model}. Any Authorization is ignored.",
        },
        "servers": [{"url": facts.address}],
        "security": [],
        "paths": found,
        "components": {"schemas": schemas.found, "headers": {**_HEADERS, **_COME_BACK}},
    }


def _ask(request: Schema) -> Schema:
    """POST /api takes a chat completion with defaults of its own."""
    properties = request["properties"]
    defaults = {name: {**properties[name], "default": default} for name, default in _DEFAULTS.items()}
    return {**request, "properties": {**properties, **defaults}}


def _operation(
    path: str, operation: Operation, schemas: Schemas, sample: Callable[[str], tuple[str, str, str]]
) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if operation.about:
        made["description"] = operation.about
    if "{id}" in path:
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
    for status, description in _FAILURES.items():
        if not operation.asks and status not in operation.refuses:
            continue
        made[status] = {"description": description, "content": shape}
        if status in {"429", "503"}:
            made[status]["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _COME_BACK}
    return made
