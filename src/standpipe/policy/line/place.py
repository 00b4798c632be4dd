"""A place: one ask's stay in the line, from joining until its slot is free again.

The handle that the line gives out and takes back. Callers read it; only the line and its order write it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from standpipe.policy.identity import ClientKey


class State(StrEnum):
    """Where a place is in its one-way life."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


class Place(Struct, eq=False, weakref=True):
    """One ask's stay. Times are seconds on the caller's clock; tokens are tokens; `size` is bytes of the request.

    `prompt_tokens` is the estimate that is charged when the slot is taken. `output_cap` is the most output tokens that
    may come, None for the operator's cap. `fingerprint` is the caller's digest of the ask, by which a retry finds the
    place again.
    """

    client: ClientKey
    number: int
    """In order of joining; a retry keeps the number of the place that it takes over."""
    eligible_at: float
    joined_at: float
    prompt_tokens: int
    output_cap: int | None = None
    size: int = 0
    fingerprint: bytes | None = None
    state: State = State.WAITING
    granted_at: float | None = None
    first_token_at: float | None = None
    output_tokens: int = 0
    """Charged so far."""
    expected: float = 0.0
    """Weighted tokens that it is expected to cost, for forecasts only."""
    charged: float = 0.0
    """Weighted tokens charged so far."""
    predicted: tuple[float, float] | None = None
    """When its wait was first predicted, and how many seconds of it."""
    fresh: bool = False
    """It came fresh: it goes before those who stand."""
    reserved: bool = False
    """It runs on a slot that was kept for those who come fresh."""
    flow: Any = None
    """The order's own: where it keeps this place."""

    @property
    def waited(self) -> float | None:
        """Seconds from joining to the slot; None before it."""
        return None if self.granted_at is None else self.granted_at - self.joined_at

    def __repr__(self) -> str:
        return f"<Place {self.number} {self.state}>"
