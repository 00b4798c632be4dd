"""Ollama's native format on the wire, as types: what is read from a client, and what is written to one.

What these structs do not declare is not read: of `options`, only those that say how to sample. Types are checked here.
Fields that a client may leave out may also be null. The names are Ollama's.

Which models there are is not known here. A tap knows their names and nothing of their files, so sizes are 0 and
details empty. A digest stands for the name alone: clients insist on 64 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct
from msgspec.json import encode

from standpipe.chat.ask import JsonObject, ToolCall
from standpipe.chat.events import FinishReason, Timings, TokenLogprob, Usage
from standpipe.dialects import bounds
from standpipe.dialects.engine_output import as_object, is_object

# Read ---------------------------------------------------------------------------------------------------------------


class CalledFunction(Struct):
    name: str | None = None
    arguments: Raw = Raw()


class Call(Struct):
    function: CalledFunction
    id: str | None = None


class Message(Struct):
    """Of any role: which fields count is the role's business."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Function(Struct):
    name: bounds.Name
    description: str | None = None
    parameters: JsonObject | None = None


class Tool(Struct):
    type: str = "function"
    function: Function | None = None


class Options(Struct):
    """Whole numbers may be spelled as any others; what is out of range is not refused here."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    min_p: float | None = None
    seed: int | float | None = None
    num_predict: float | None = None
    stop: bounds.Stop | bounds.Stops | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class Request(Struct):
    """What both paths take."""

    model: str | None = None
    stream: bool | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    format: str | JsonObject | None = None
    options: Options | None = None
    logprobs: bool | None = None
    top_logprobs: bounds.TopLogprobs | None = None
    keep_alive: Any = None


class ChatRequest(Request):
    messages: Annotated[list[Message], Meta(max_length=bounds.MESSAGES)] | None = None
    tools: bounds.Tools[Tool] | None = None


class GenerateRequest(Request):
    """Those without an effect are read to be refused."""

    prompt: str | None = None
    system: str | None = None
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    context: list[Any] | None = None
    images: list[Any] | None = None


# Written ------------------------------------------------------------------------------------------------------------


def timestamp(created: int) -> str:
    """An instant in Unix seconds, as RFC 3339."""
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def done_reason(reason: FinishReason) -> str:
    """Ollama's word for why a model stopped: it has none of its own for calls."""
    return "stop" if reason is FinishReason.TOOL_CALLS else reason.value


def calls(made: Iterable[ToolCall], reason: FinishReason) -> list[JsonObject]:
    """Ollama's spelling of tool calls, which has objects for arguments. A call that was cut off is none.

    Raises EngineFailed for arguments that are no object although nothing was cut off.
    """
    return [
        {"id": call.id, "function": {"index": index, "name": call.name, "arguments": as_object(call.arguments)}}
        for index, call in enumerate(made)
        if reason is not FinishReason.LENGTH or is_object(call.arguments)
    ]


def logprobs(tokens: Iterable[TokenLogprob]) -> list[JsonObject]:
    """Ollama's spelling of log-probabilities."""
    return [{**_logprob(token), "top_logprobs": [_logprob(rival) for rival in token.top]} for token in tokens]


def _logprob(token: TokenLogprob) -> JsonObject:
    told = {} if token.bytes is None else {"bytes": token.bytes}
    return {"token": token.token, "logprob": token.logprob, **told}


def metrics(usage: Usage | None, timings: Timings | None) -> dict[str, int]:
    """Ollama's spelling of tokens and timings. What the engine did not tell is left out.

    Durations are in nanoseconds, and 1 at least: clients divide by them.
    """
    told: dict[str, int] = {}
    if timings is not None:
        reading, writing = (max(1, round(t * 1e9)) for t in (timings.prompt_seconds, timings.generation_seconds))
        told |= {"total_duration": reading + writing, "load_duration": 0}
        told |= {"prompt_eval_duration": reading, "eval_duration": writing}
    if usage is not None:
        told |= {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
    return told


API_VERSION = "0.13.0"
"""The version of Ollama whose paths and fields these are. Clients refuse to talk to one that is too old."""

_NEVER = "9999-12-31T23:59:59Z"
_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def tags(names: Sequence[str], since: int) -> bytes:
    """The body of GET /api/tags. `since` is when the tap began to serve, in Unix seconds."""
    return encode({"models": [{**_model(name), "modified_at": timestamp(since)} for name in names]})


def running(names: Sequence[str]) -> bytes:
    """The body of GET /api/ps: every model is there, and stays."""
    return encode({"models": [{**_model(name), "expires_at": _NEVER, "size_vram": 0} for name in names]})


def show(name: str, since: int, *, sees: bool, window: int | None = None) -> bytes:
    """The body of POST /api/show. Any ask may have tools; only of gpt-oss it is known that it thinks. `window` is told
    as the model's own most, because `num_ctx` would be its operator's."""
    more = [word for word, can in (("vision", sees), ("thinking", is_gpt_oss(name))) if can]
    told = {} if window is None else {"general.architecture": "standpipe", "standpipe.context_length": window}
    return encode(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _DETAILS,
            "model_info": told,
            "capabilities": ["completion", "tools", *more],
            "modified_at": timestamp(since),
        }
    )


def version(own: str) -> bytes:
    """The body of GET /api/version. `own` is our own version."""
    return encode({"version": API_VERSION, "standpipe": own})


def is_gpt_oss(name: str) -> bool:
    """Whether a model's name says so: `gpt-oss:20b`, `someone/gpt-oss-120b`."""
    return name.rpartition("/")[2].lower().startswith("gpt-oss")


def _model(name: str) -> JsonObject:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": 0, "digest": digest, "details": _DETAILS}
