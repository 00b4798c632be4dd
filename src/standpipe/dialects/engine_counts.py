"""Numbers that engines report about an answer, believed only where they can be true.

Clients are charged by these tokens and estimates learn from them, so a faulty engine must neither give credit with a
count below zero nor ruin a client with one beyond any context. What cannot be true counts as not told, and our own
count stands. Knows no format.
"""

from __future__ import annotations

from typing import Final

from standpipe.chat.events import Timings, Usage

MOST_TOKENS: Final = 1 << 30
"""More than any context holds."""


def usage(
    prompt: int | None, completion: int | None, *, reasoning: int | None = None, cached: int | None = None
) -> Usage | None:
    """None when one of the first two cannot be true. A detail that cannot be is left out; a missing count is 0."""
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
