"""Caps: an ask against the operator's bounds. Clamps what may be clamped, refuses nothing that can be served smaller.

The form of an ask (types, ranges, sizes of its parts) is the dialect's to check; these are the bounds that depend on
what the operator shares.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask


class Caps(Struct, frozen=True):
    """What one ask may use. `max_tokens` is output tokens, reasoning included."""

    max_tokens: int


def clamp(ask: Ask, caps: Caps) -> Ask:
    """The ask within the caps. No limit of the client's own becomes the operator's."""
    wanted = ask.sampling.max_tokens
    if wanted is not None and wanted <= caps.max_tokens:
        return ask
    return replace(ask, sampling=replace(ask.sampling, max_tokens=caps.max_tokens))
