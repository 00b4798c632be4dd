"""Failures that name fields of Chat Completions, in the words of a sibling format.

An engine finds faults in what it was sent, which is always a chat; its failures name `messages` where a client of
another format sent `input` or `prompt`. A fault that a dialect found itself names that dialect's own fields already.
"""

from __future__ import annotations

from collections.abc import Mapping

from standpipe.chat.errors import Failure, InvalidAsk, TooLarge, Unsupported

RESPONSES = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "top_logprobs",
}
COMPLETIONS = {"messages": "prompt"}
EMBEDDINGS = {"messages": "input"}
"""For fields of a chat, what they are called here."""


def renamed(words: Mapping[str, str], failure: Failure) -> Failure:
    """The same failure in these words."""
    param = words.get(failure.param or "")
    if param is None or not isinstance(failure, InvalidAsk | TooLarge | Unsupported):
        return failure
    message = failure.message
    for chat, here in words.items():
        message = message.replace(f"`{chat}`", f"`{here}`")
    return type(failure)(message, param=param, retry_after=failure.retry_after)
