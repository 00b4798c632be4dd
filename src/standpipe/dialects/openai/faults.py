"""Failures in OpenAI's shape, both ways: ours to a client, and an engine's to ours.

An engine's own words never reach a client: they may quote a prompt, a path, an address or a traceback. What they mean
is recognised by a few patterns and said in our words; what is not recognised is said in general. A client's fault is
told from an engine's because the first must not be tried again and the second may be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from standpipe.chat.errors import (
    ContextTooLong,
    EngineBusy,
    EngineDown,
    EngineFailed,
    Failure,
    ImagesRefused,
    InvalidAsk,
    TooLarge,
    Unsupported,
)


class _Error(Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class _Body(Struct, frozen=True):
    error: _Error
    request_id: str


def failure_body(failure: Failure, request_id: str) -> bytes:
    """The JSON body of a failure, and the data of the frame that ends a failed stream."""
    return msgspec.json.encode(
        _Body(_Error(failure.message, failure.type, failure.param, failure.code), request_id),
    )


RESPONSES = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "top_logprobs",
}
COMPLETIONS = {"messages": "prompt"}
EMBEDDINGS = {"messages": "input"}
"""For fields of Chat Completions, what its siblings call them."""


def renamed(words: Mapping[str, str], failure: Failure) -> Failure:
    """The same failure in the words of a sibling of Chat Completions.

    An engine finds faults in what it was sent, which is always a chat; its failures name `messages` where a client of
    another format sent `input` or `prompt`. A fault that a dialect found itself names its own fields already.
    """
    param = words.get(failure.param or "")
    if param is None or not isinstance(failure, InvalidAsk | TooLarge | Unsupported):
        return failure
    message = failure.message
    for chat, here in words.items():
        message = message.replace(f"`{chat}`", f"`{here}`")
    return type(failure)(message, param=param, retry_after=failure.retry_after)


class _KnownFault(Struct, frozen=True):
    """A client's fault that engines report: how to recognise it, what to call it, what to say."""

    pattern: re.Pattern[str]
    kind: type[InvalidAsk | Unsupported]
    param: str | None
    message: str


def _known(pattern: str, kind: type[InvalidAsk | Unsupported], param: str | None, message: str) -> _KnownFault:
    return _KnownFault(re.compile(pattern, re.IGNORECASE | re.DOTALL), kind, param, message)


_TEMPLATE = "This model's chat template does not take `messages` of this kind or in this order."
_MEDIA = "The model takes none of the images, audio or video in `messages`, or could not read one of them."
_ARGUMENTS = "A tool call in `messages` has arguments that are not valid JSON."
_SCHEMA = "The engine cannot enforce this schema."
_ANY_SCHEMA = "A JSON Schema in `tools` or `response_format` is one that the engine cannot use."

# The status says already that the client is at fault; only the field is looked for. The first match counts.
_KNOWN_400 = (
    # Before the template, which llama.cpp names in the same breath.
    _known(r"JSON schema error", Unsupported, None, _ANY_SCHEMA),
    _known(r"\b(image|audio|video|multimodal|mmproj)\b", ImagesRefused, "messages", _MEDIA),
    _known(
        r"alternat|raise_exception|jinja|template|tool role|assistant messages?|prefill|"
        r"system message|cannot continue|messages must",
        InvalidAsk,
        "messages",
        _TEMPLATE,
    ),
    _known(r"tool call arguments", InvalidAsk, "messages", _ARGUMENTS),
    _known(
        r"\btools?\b|tool[_ -]choice|function call",
        Unsupported,
        "tools",
        "The engine cannot use these `tools` or this `tool_choice` with this model.",
    ),
    _known(
        r"grammar|json[_ ]?schema|response_format|guided|structured output|cannot be enforced",
        Unsupported,
        "response_format",
        _SCHEMA,
    ),
    _known(r"logprobs", Unsupported, "logprobs", "The engine does not support these log probabilities."),
    _known(
        r"logit_bias|out of vocab",
        InvalidAsk,
        "logit_bias",
        "`logit_bias` has token ids that this model does not have.",
    ),
    _known(r"reasoning|think", Unsupported, "reasoning_effort", "This model does not take this `reasoning_effort`."),
    _known(
        r"max_(completion_|new_)?tokens",
        InvalidAsk,
        "max_tokens",
        "`max_tokens` is more than fits into this model's context.",
    ),
)

# llama.cpp and Ollama give status 500 to some faults of a client. Anchored, because other texts of that status quote
# the answer.
_KNOWN_500 = (
    _known(
        r"\A(.{0,20}\b(image|audio|video) input is not supported|"
        r".{0,60}\b(image: unknown format|cannot identify image|invalid image|failed to \w+ (the )?image))",
        ImagesRefused,
        "messages",
        _MEDIA,
    ),
    _known(r"\A.{0,40}tool call arguments as JSON", InvalidAsk, "messages", _ARGUMENTS),
    _known(r"\A.{0,20}JSON schema error", Unsupported, None, _ANY_SCHEMA),
    _known(r"\A.{0,20}empty grammar stack", Unsupported, "response_format", _SCHEMA),
    _known(r"\A1 validation error:.{0,80}'response_format'", Unsupported, "response_format", _SCHEMA),
    _known(
        r"\A(.{0,20}jinja|.{0,20}template|message has tool role|conversation roles|.{0,40}raise_exception|"
        r"you have passed a message|cannot pass both content and thinking|only user, |.{0,40}while executing \w+ at)",
        InvalidAsk,
        "messages",
        _TEMPLATE,
    ),
)

_CONTEXT = re.compile(
    r"context[ _](length|size|window)|exceed_context_size|max_model_len|(prompt|input) (is )?too long|"
    r"exceeds? the .{0,40}length|the model's context has",
    re.IGNORECASE,
)
_CONTEXT_LIMIT = re.compile(
    r"(?:context (?:length|size|window|has)|allowed length|n_ctx)[^0-9]{1,20}([0-9]{1,9})", re.IGNORECASE
)
_PROMPT = re.compile(
    r"([0-9]{1,9}) (?:input tokens|(?:tokens? )?in the (?:messages|prompt|input)|tokens from the input)|"
    r"(?:prompt|input) (?:contains|has|is)(?: at least)? ([0-9]{1,9})|"
    r"(?:request|input length) \(([0-9]{1,9}) tokens\)|"
    r"there are (?:more than )?([0-9]{1,9}) tokens in `",
    re.IGNORECASE,
)
"""How vLLM, SGLang and llama.cpp count a prompt when they refuse it, and another Standpipe."""
_LOADING = re.compile(r"\bloading\b.{0,20}\bmodel|\bmodel\b.{0,40}\bloading", re.IGNORECASE)
_NO_MODEL = re.compile(r"\Aserver is pinned to |invalid model name passed", re.IGNORECASE)
"""How `transformers serve` and LiteLLM say what others say with 404. Which model an engine is asked for is never the
client's doing."""
_OUTPUT = re.compile(r"max_(completion_|new_)?tokens\W.{0,60}too large", re.IGNORECASE)

_MESSAGES = {
    401: "The engine rejects this server's API key.",
    403: "The engine rejects this server's API key.",
    404: "The engine does not have this model or path.",
    408: "The engine timed out.",
    429: "The engine is overloaded.",
    503: "The engine is not ready.",
    504: "The engine timed out waiting for its backend.",
}
_READ = 64 * 1024
_SENTENCE = 300  # characters that name a field, before anything is quoted
_LOOKED_AT = 1000  # characters of a message: what comes later quotes the request


def failure_from(status: int, body: bytes, retry_after: str | None = None) -> Failure:
    """What an engine's HTTP error means.

    Args:
        status: its HTTP status, 400 or more.
        body: as much of the body as was read; it need not be whole, nor JSON.
        retry_after: its `Retry-After` header. Only a number of seconds counts: a date would need a clock.

    Returns:
        A client's fault (InvalidAsk, Unsupported, TooLarge), or EngineFailed with `upstream_status`. No word of the
        body is in its message.
    """
    text = _message(body[:_READ])
    match status:
        case 400 if _NO_MODEL.search(text):
            return EngineFailed(_MESSAGES[404], upstream_status=status)
        case 400 | 422:
            return _context_fault(text) or _fault(_KNOWN_400, text) or _unnamed()
        case 413:
            return TooLarge("The request is too large for the engine.", param="messages")
        case 500 if fault := _fault(_KNOWN_500, text):
            return fault
        case 503 if _LOADING.search(text):
            return EngineDown("The engine is loading its model.", upstream_status=status)
    kind = EngineBusy if status in {429, 503} else EngineFailed
    return kind(
        _MESSAGES.get(status, f"The engine failed with status {status}."),
        upstream_status=status,
        retry_after=_seconds(retry_after),
    )


_NO_RAW = re.compile(r"support.{0,20}\bcompletions\b", re.IGNORECASE)


def has_no_completions(status: int, body: bytes) -> bool:
    """Whether this HTTP error says that the path for completions is not there, or not for this model."""
    return status in {404, 405, 501} or (status == 400 and _NO_RAW.search(_message(body[:_READ])) is not None)


_REFUSES = re.compile(
    r"unrecogni|unknown|unsupported|unexpected|not (permitted|supported|allowed|recognized|valid)|extra|forbid|invalid"
    r"|does not support",
    re.IGNORECASE,
)


def refused_fields(status: int, body: bytes, sent: Iterable[str]) -> frozenset[str]:
    """The fields, among those that were sent, whose mere presence this HTTP error seems to be about."""
    text = _message(body[:_READ])[:_SENTENCE]
    if status not in {400, 422} or not _REFUSES.search(text):
        return frozenset()
    return frozenset(name for name in sent if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))


def answer_room(status: int, body: bytes) -> int:
    """Tokens that an answer may have, where this HTTP error tells the context and the prompt's size; 0 where not."""
    if status not in {400, 422}:
        return 0
    text = _message(body[:_READ])
    limit, prompt = _CONTEXT_LIMIT.search(text), _PROMPT.search(text)
    return max(0, int(limit[1]) - int(prompt[prompt.lastindex or 0])) if limit and prompt else 0


def failure_in_stream(frame: bytes) -> Failure:
    """What a frame with an error means, when its stream began with status 200."""
    status = 500
    error = _decoded(frame)
    if isinstance(error, dict):
        inner = error.get("error")
        error = inner if isinstance(inner, dict) else error
        code, type_ = error.get("code"), str(error.get("type"))
        if isinstance(code, int) and 400 <= code <= 599:
            status = code
        elif re.search(r"invalid_request|badrequest|context", type_, re.IGNORECASE):
            status = 400
    return failure_from(status, frame)


def _context_fault(text: str) -> Failure | None:
    if _OUTPUT.search(text) or not _CONTEXT.search(text):
        return None
    limit = _CONTEXT_LIMIT.search(text)
    prompt = _PROMPT.search(text)
    tokens = None if prompt is None else int(prompt[prompt.lastindex or 0])
    return ContextTooLong.of(tokens, int(limit[1]) if limit else None)


def _fault(known: tuple[_KnownFault, ...], text: str) -> Failure | None:
    for one in known:
        if one.pattern.search(text):
            return one.kind(one.message, param=one.param)
    return None


def _unnamed() -> Failure:
    return InvalidAsk("The engine rejected this request as invalid; it may not support one of its fields.")


def _message(body: bytes) -> str:
    """The sentence in an error body of any of the shapes that engines use, with its type, or the body as text."""
    found = _decoded(body)
    if found is None:
        return body.decode(errors="replace")[:_LOOKED_AT]
    if isinstance(found, dict):
        error = found.get("error", found)
        if isinstance(error, dict):
            sizes = f" n_ctx {error['n_ctx']}" if isinstance(error.get("n_ctx"), int) else ""
            text = error.get("message") or error.get("detail") or ""
            return f"{str(text)[:_LOOKED_AT]} {error.get('type')} {error.get('code')}{sizes}"
        return str(error)[:_LOOKED_AT]
    return str(found)[:_LOOKED_AT]


def _decoded(body: bytes) -> Any:
    """None when it is not JSON, or deeper than can be read."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _seconds(retry_after: str | None) -> float | None:
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
