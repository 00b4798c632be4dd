"""Shapes: the types of what is written piece by piece, for the description of the API alone.

Nothing is encoded with these; tests hold what is really written against them.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from standpipe.dialects.openai import wire as openai_wire
from standpipe.observe.history import Hour

# Errors -------------------------------------------------------------------------------------------------------------


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


# Streams of chat completions ----------------------------------------------------------------------------------------


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


# Ollama -------------------------------------------------------------------------------------------------------------


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


# The state of the tap -----------------------------------------------------------------------------------------------


class Engine(Struct, frozen=True):
    name: str
    up: bool
    slots: int
    busy: int
    models: tuple[str, ...]


class Pace(Struct, frozen=True):
    interval_seconds: float
    waiting: int


class LineState(Struct, frozen=True):
    waiting: int
    running: int
    slots: int
    order: str


class Limits(Struct, frozen=True):
    max_tokens: int
    body_bytes: int


class Health(Struct, frozen=True):
    """`reason` tells why it is down."""

    status: Literal["ok", "down"]
    name: str
    version: str
    model: str
    engines: tuple[Engine, ...]
    pace: Pace
    line: LineState
    limits: Limits
    reason: str | UnsetType = UNSET


class Status(Health, frozen=True, kw_only=True):
    """Health, and the last hour."""

    uptime_seconds: int
    hour: Hour
