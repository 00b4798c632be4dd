"""Backpressure: how whoever takes bytes holds back whoever sends them. One protocol for the client's side and for the
engine's, so that a reader who falls behind slows the engine down and nothing between has to buffer.
"""

from __future__ import annotations

from typing import Protocol


class Flow(Protocol):
    """A source that can be told to hold back."""

    def pause(self) -> None:
        """Stop reading from the source. May be called when paused already."""
        ...

    def resume(self) -> None:
        """Read on. May be called when not paused."""
        ...
