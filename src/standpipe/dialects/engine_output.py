"""What engines and models put out, made fit for every format.

Here lies what the readers of engines' answers and the writers of ours share, whatever the dialect: counts that can be
true, a model's name that may be shown, why an answer ended, text in parts, and arguments of calls that are objects.
Engines are read kindly (a *tolerant reader*): what an answer does not need is left out where it cannot be read. Knows
no format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import FinishReason, ReasoningDelta, TextDelta, Timings, Usage

MOST_TOKENS: Final = 1 << 30
"""More than any context holds."""

_FOLDERS: Final = re.compile(r"\A(?:/|~|\.|[A-Za-z]:[\\/]).*[\\/]", re.DOTALL)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def usage(
    prompt: int | None, completion: int | None, *, reasoning: int | None = None, cached: int | None = None
) -> Usage | None:
    """What an engine counted, believed only where it can be true; a missing count is 0.

    Clients are charged by these tokens and estimates learn from them, so a faulty engine must neither give credit with
    a count below zero nor ruin a client with one beyond any context. None when one of the first two cannot be true:
    then our own count stands. A detail that cannot be is left out.
    """
    read, written = _told(prompt or 0), _told(completion or 0)
    if read is None or written is None:
        return None
    return Usage(read, written, _told(reasoning), _told(cached))


def timings(prompt_seconds: float | None, generation_seconds: float | None) -> Timings | None:
    """None when one is missing or below zero."""
    if prompt_seconds is None or generation_seconds is None or min(prompt_seconds, generation_seconds) < 0:
        return None
    return Timings(prompt_seconds, generation_seconds)


def _told(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= MOST_TOKENS else None


def shown_model(name: str) -> str:
    """A model that is named by the path of its file or folder, without the folders before it."""
    return _FOLDERS.sub("", name) or name


def count(told: Any) -> int | None:
    """A whole number in whatever type it came: some engines count in floats, or in text. None where it is none."""
    if isinstance(told, str):
        try:
            told = float(told)
        except ValueError:
            return None
    if isinstance(told, float) and math.isfinite(told):
        return round(told)
    return told if isinstance(told, int) and not isinstance(told, bool) else None


def is_error(told: Any) -> bool:
    """Whether an engine's `error` says anything: some engines send an empty one in every frame."""
    if isinstance(told, dict):
        return any(told.values())
    return bool(told)


# Why an answer ended -------------------------------------------------------------------------------------------------

_WORDS: Final = {
    FinishReason.STOP: "stop stop_sequence stop_string stop_strings stop_token end end_turn end_of_sequence "
    "end_of_text eos eos_token complete completed done finish finished natural normal pause_turn success turn_complete",
    FinishReason.LENGTH: "length length_limit max_length max_len max_tokens max_new_tokens max_output_tokens "
    "max_completion_tokens token_limit limit error_limit model_length context_length context_length_exceeded "
    "context_window_exceeded model_context_window_exceeded incomplete repetition truncated",
    FinishReason.TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls",
    FinishReason.CONTENT_FILTER: "content_filter content_filtered content_filtering filtered blocked blocklist "
    "error_toxic guardrail_intervened guardrails image_safety language moderation prohibited_content recitation "
    "refusal refused safety sensitive spii",
}
"""The words of the public APIs, whose spellings differ in case and in prefixes as well."""
_REASONS: Final = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_GAVE_UP: Final = frozenset({
    "abort", "aborted", "cancel", "cancelled", "canceled", "crash", "error", "error_internal", "failed",
    "failure", "insufficient_system_resource", "internal_error", "malformed_function_call",
    "malformed_model_output", "malformed_tool_use", "network_error", "other", "server_error", "time_limit",
    "timeout", "too_many_tool_calls", "unexpected_tool_call", "unspecified", "user_cancel",
})  # fmt: skip
_NOT_YET: Final = frozenset({"", "null", "none", "in_progress", "not_finished"})


def reason_word(told: Any) -> str:
    """Why an answer ended, as the table spells it; empty while an engine has told no reason."""
    if not isinstance(told, str):
        return ""
    word = told.strip().lower().replace("-", "_").replace(" ", "_")
    word = word.removeprefix("finish_reason_").removeprefix("reason_")
    return "" if word in _NOT_YET else word


def is_known(word: str) -> bool:
    """Whether this reason is one of the table."""
    return word in _REASONS or word in _GAVE_UP


def ending(word: str, *, spoke: bool, called: bool, thought: bool) -> FinishReason:
    """What a reason comes to for an answer that gave text, or called a tool, or only thought, or did nothing of it.

    Several engines do not tell of calls, and some tell of calls that they never made. A reason that nobody knows is no
    success for an answer that is none. Raises EngineFailed.
    """
    if word in _GAVE_UP:
        raise EngineFailed("The engine aborted this answer.")
    reason = _REASONS.get(word)
    if not (spoke or called):
        if reason is None:  # an Ollama that has only loaded its model says `load`
            raise EngineFailed("The engine ended without an answer.")
        if reason is FinishReason.TOOL_CALLS and not thought:
            raise EngineFailed("The engine announced a tool call but did not make one.")
    if reason in {None, FinishReason.STOP, FinishReason.TOOL_CALLS}:
        return FinishReason.TOOL_CALLS if called else FinishReason.STOP
    assert reason is not None
    return reason


# What was said -------------------------------------------------------------------------------------------------------


def said(content: Any) -> Iterator[TextDelta | ReasoningDelta]:
    """Text and reasoning in a content of any of the shapes that engines use: a text, or parts, parts in parts.

    Parts of other kinds (references, pictures) are passed over. Raises ValueError for what is no content at all.
    """
    match content:
        case None:
            return
        case str():
            yield TextDelta(content)
        case bool():
            raise ValueError("no content")
        case int() | float():
            yield TextDelta(str(content))
        case list():
            for part in content:
                yield from said(part)
        case dict():
            kind = str(content.get("type", "text"))
            for name in ("text", "content", "summary", kind):
                if content.get(name) is not None:
                    for delta in said(content[name]):
                        yield ReasoningDelta(delta.text) if kind in _THINKS else delta
                    return
        case _:
            raise ValueError("no content")


_THINKS: Final = frozenset({"thinking", "reasoning", "reasoning_text", "summary_text"})


# Calls ---------------------------------------------------------------------------------------------------------------


def is_object(arguments: str) -> bool:
    """Whether this is a whole JSON object."""
    try:
        _OBJECT.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def as_object(arguments: str) -> Raw:
    """The arguments of a call on one line, for formats in which they are an object and not a text.

    A model that has nothing to say to a tool may leave them empty. Raises EngineFailed for what is no object: a call
    with other arguments than the model's would be carried out.
    """
    text = arguments or "{}"
    if not is_object(text):
        raise no_object()
    return Raw(msgspec.json.format(text.encode(), indent=-1))


def earlier_arguments(arguments: str) -> str:
    """The arguments of a call in the history as a JSON object, for engines, of which most read nothing else.

    None at all is an empty object. What a model wrote that is none stands in one: a conversation with a call that went
    wrong can go on, and is read the same by every engine.
    """
    if is_object(arguments):
        return arguments
    return msgspec.json.encode({"arguments": arguments}).decode() if arguments.strip() else "{}"


def no_object() -> EngineFailed:
    """What a call is that no client could read."""
    return EngineFailed("The model called a tool with invalid arguments (not a JSON object). Please try again.")
