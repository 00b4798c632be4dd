"""The operator's terms: what every ask is made to keep to before it goes on. Its prompt is joined, its length clamped.

Chat templates disagree about system messages: many know one, at the start, and drop or refuse others. So the operator's
prompt and the client's leading system message become one message, the operator's words first. The form of an ask
(types, ranges, sizes of its parts) is the dialect's to check; this depends on what the operator offers.
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec.structs import replace

from standpipe.chat.ask import Ask, Message, Role, Text

Mode = Literal["prepend", "default", "off"]

_SPARE = 16
"""Tokens that a chat template may add to what was counted."""
_SYSTEM = frozenset({Role.SYSTEM, Role.DEVELOPER})


def join(ask: Ask, prompt: str, mode: Mode) -> Ask:
    """The ask with the operator's prompt.

    1. off, or an empty prompt: as it came.
    2. default: only if the client sends no system message of its own, anywhere.
    3. prepend: before the client's leading system message, in one message with it.
    """
    if mode == "off" or not prompt:
        return ask
    own = any(message.role in _SYSTEM for message in ask.messages)
    if mode == "default" and own:
        return ask
    first = ask.messages[0]
    if first.role in _SYSTEM:
        merged = replace(first, parts=(Text(f"{prompt}\n\n{first.text}"),))
        return replace(ask, messages=(merged, *ask.messages[1:]), operator_prompt=prompt)
    return replace(ask, messages=(Message(Role.SYSTEM, (Text(prompt),)), *ask.messages), operator_prompt=prompt)


def fit(ask: Ask, window: int, prompt_tokens: float) -> Ask:
    """The ask with no more output tokens than a window has left beside a prompt of about so many.

    An estimate may be too high: an eighth of the window is left in any case, and the engine's own count decides.
    """
    return clamp(ask, max(window - math.ceil(prompt_tokens) - _SPARE, window // 8, 1))


def clamp(ask: Ask, max_tokens: int) -> Ask:
    """The ask with at most so many output tokens, reasoning included. No limit of the client's own becomes this one.

    Refuses nothing that can be served shorter.
    """
    wanted = ask.sampling.max_tokens
    if wanted is not None and wanted <= max_tokens:
        return ask
    return replace(ask, sampling=replace(ask.sampling, max_tokens=max_tokens))
