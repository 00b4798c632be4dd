"""The meter: what one answer has used so far, counted while it passes.

Every delta counts as one token, which is what engines send; the engine's own count replaces the sum at the end. It
charges the client as the tokens pass, so that hanging up buys nothing, and it knows when the cap is reached although
the engine goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)


class Meter:
    """Counts one answer. `charge` is told of every batch's tokens, and of the instant, in the loop's seconds."""

    __slots__ = ("_cap", "_charge", "first_token_at", "full", "model", "tokens", "usage")

    def __init__(self, cap: int, charge: Callable[[int, float], None]) -> None:
        """`cap` is the most output tokens that may pass."""
        self._cap = cap
        self._charge = charge
        self.tokens = 0
        self.first_token_at: float | None = None
        self.model: str | None = None
        self.usage: Usage | None = None
        self.full = False
        """The cap was reached before the engine finished: nothing more may pass."""

    def restart(self) -> None:
        """The engine failed, and the client has seen nothing of its answer: count the next one from the start. What
        was charged stays, unless the next engine's own count replaces it."""
        self.tokens = 0
        self.first_token_at = self.model = self.usage = None
        self.full = False

    def count(self, events: list[Event], now: float) -> list[Event]:
        """Count a batch that came now and give it back, cut and closed with LENGTH where the cap is passed."""
        before = self.tokens
        for place, event in enumerate(events):
            kind = type(event)
            if kind is TextDelta or kind is ReasoningDelta or kind is ToolCallDelta:
                if self.tokens == self._cap:
                    self.full = True
                    events = [*events[:place], Finished(FinishReason.LENGTH)]
                    break
                self.tokens += 1
            elif isinstance(event, Finished):
                self.usage = event.usage
            elif isinstance(event, Started):
                self.model = event.model
        if self.tokens > before:
            self._charge(self.tokens - before, now)
            if self.first_token_at is None:
                self.first_token_at = now
        return events
