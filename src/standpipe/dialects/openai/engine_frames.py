"""The frames of an OpenAI-compatible engine: as types, and as they are read when they are not what they should be.

A frame that does not fit the types is read a second time, kindly: side fields (names, ids, counts, timings,
log-probabilities) that cannot be read are left out, and only what can be no content makes a frame unreadable. Texts may
then hold halves of characters, as lone surrogates, which is for the reader of the whole answer to join.
"""

from __future__ import annotations

from collections.abc import Callable
from json import loads
from typing import Any

import msgspec
from msgspec import Struct, json

from standpipe.chat.events import ReasoningDelta
from standpipe.dialects.engine_output import count, said
from standpipe.dialects.openai.calls import Piece, PieceFunction
from standpipe.dialects.text_pieces import whole

Odd = Callable[[str], None]
"""Is told the name of a field that had to be left out."""


class Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Piece] | None = None
    function_call: PieceFunction | None = None  # the old way to call a function


class PromptDetails(Struct, gc=False):
    cached_tokens: int | None = None


class CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Timings(Struct, gc=False):
    """llama.cpp's."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None
    cache_n: int | None = None
    prompt_n: int | None = None
    predicted_n: int | None = None


class Choice(Struct):
    """A whole answer has a `message`, and legacy completions a `text`; some engines stream them."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's: the stop string, or the id of a token
    logprobs: Any = None
    usage: Usage | None = None


class Frame(Struct):
    choices: list[Choice] | None = None
    model: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: Any = None


FRAME = json.Decoder(Frame)
"""Reads a frame as the format says."""


def read_kindly(data: bytes, odd: Odd) -> Frame | None:
    """A frame that does not fit the types. None when it cannot be read at all."""
    try:
        found = loads(data.decode(errors="surrogateescape"), strict=False)
        if not isinstance(found, dict) or not isinstance(found.get("choices"), list | None):
            return None
        return Frame(
            [_choice(choice, odd) for choice in found.get("choices") or () if isinstance(choice, dict)]
            if found.get("choices") is not None
            else None,
            model=_name(found.get("model"), "model", odd),
            usage=_usage(found.get("usage"), odd),
            timings=_timings(found.get("timings"), odd),
            error=found.get("error"),
        )
    except (ValueError, RecursionError):
        return None


def _choice(found: dict[str, Any], odd: Odd) -> Choice:
    text = found.get("text")
    return Choice(
        _number(found.get("index"), "index", odd) or 0,
        delta=_delta(found.get("delta"), odd),
        message=_delta(found.get("message"), odd),
        text=text if isinstance(text, str) else None,
        finish_reason=_name(found.get("finish_reason"), "finish_reason", odd),
        stop_reason=found.get("stop_reason"),
        logprobs=_encodable(found.get("logprobs"), odd),
        usage=_usage(found.get("usage"), odd),
    )


def _delta(found: Any, odd: Odd) -> Delta | None:
    """Raises ValueError for a content that is none."""
    if found is None:
        return None
    if not isinstance(found, dict):
        if found:
            raise ValueError("no delta")
        found = {}  # an empty map, as PHP writes it
    text: list[str] = []
    thought: list[str] = []
    for part in said(found.get("content")):
        (thought if isinstance(part, ReasoningDelta) else text).append(part.text)
    for name in ("reasoning_content", "reasoning"):
        if not thought:
            thought += [part.text for part in _said_aside(found.get(name), name, odd)]
    calls, call = found.get("tool_calls"), found.get("function_call")
    calls = [calls] if isinstance(calls, dict) else calls if isinstance(calls, list) else []
    return Delta(
        "".join(text) if found.get("content") is not None else None,
        reasoning="".join(thought),
        refusal="".join(part.text for part in _said_aside(found.get("refusal"), "refusal", odd)),
        tool_calls=[_piece(piece, odd) for piece in calls if isinstance(piece, dict)],
        function_call=_function(call, odd) if isinstance(call, dict) else None,
    )


def _said_aside(found: Any, name: str, odd: Odd) -> list[Any]:
    try:
        return list(said(found))
    except ValueError:
        odd(name)
        return []


def _piece(found: dict[str, Any], odd: Odd) -> Piece:
    function = found.get("function")
    return Piece(
        _number(found.get("index"), "tool_calls.index", odd),
        _name(found.get("id"), "tool_calls.id", odd),
        _function(function if isinstance(function, dict) else found, odd),
    )


def _function(found: dict[str, Any], odd: Odd) -> PieceFunction:
    return PieceFunction(_name(found.get("name"), "tool_calls.name", odd), found.get("arguments"))


def _usage(found: Any, odd: Odd) -> Usage | None:
    if not isinstance(found, dict):
        _left_out(found, "usage", odd)
        return None
    cached, thought = found.get("prompt_tokens_details"), found.get("completion_tokens_details")
    return Usage(
        _number(found.get("prompt_tokens"), "usage.prompt_tokens", odd),
        _number(found.get("completion_tokens"), "usage.completion_tokens", odd),
        PromptDetails(count(cached.get("cached_tokens"))) if isinstance(cached, dict) else None,
        CompletionDetails(count(thought.get("reasoning_tokens"))) if isinstance(thought, dict) else None,
    )


def _timings(found: Any, odd: Odd) -> Timings | None:
    try:
        return None if found is None else msgspec.convert(found, Timings)
    except msgspec.ValidationError:
        _left_out(found, "timings", odd)
        return None


def _number(found: Any, name: str, odd: Odd) -> int | None:
    number = count(found)
    if number is None:
        _left_out(found, name, odd)
    return number


def _name(found: Any, name: str, odd: Odd) -> str | None:
    """A text without halves of characters. Some engines name things by numbers."""
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        _left_out(found, name, odd)
        return None
    return whole(found)


def _encodable(found: Any, odd: Odd) -> Any:
    try:
        json.encode(found)
    except (UnicodeEncodeError, RecursionError):
        _left_out(found, "logprobs", odd)
        return None
    return found


def _left_out(found: Any, name: str, odd: Odd) -> None:
    if found is not None:
        odd(name)
