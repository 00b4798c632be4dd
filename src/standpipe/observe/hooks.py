"""Hooks: one frozen record per ask, handed to whoever wants to know. Subscribers render; the walk only reports.

A record carries no prompt, no answer, no Authorization and no plain address: what is not here cannot leak.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Record(Struct, frozen=True):
    """How one ask went. Times are seconds, None where that point was not reached."""

    id: str
    dialect: str
    client: str
    """A keyed hash of the client's address that changes daily."""
    status: int
    """The HTTP status; 499 when the client left; what the status would have been when a stream failed."""
    stream: bool
    model: str | None
    engine: str | None
    failure: str | None
    """The kind of failure, None for a whole answer."""
    waited: float
    """From the complete request to the slot, or to the end where there was no slot."""
    first_token: float | None
    """From the complete request to the first reasoning, text or tool call."""
    duration: float
    prompt_tokens: int | None
    completion_tokens: int | None
    attempts: int
    continued: int = 0
    """How often the stream went on at another engine, after the client had been sent some of the answer."""


Hook = Callable[[Record], None]
