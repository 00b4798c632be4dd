"""A timer that is set again and again, and costs a call of the loop only when its instant changes.

Who waits for the next instant of anybody (seats, and the line before them) has one of these. Knows nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls `ring` at one instant of the running loop's clock."""

    __slots__ = ("_handle", "_ring")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due: float | None) -> None:
        """Ring at this instant, and not at the one before; None: not at all."""
        if self._handle is not None:
            if due == self._handle.when():
                return
            self._handle.cancel()
            self._handle = None
        if due is not None:
            self._handle = asyncio.get_running_loop().call_at(due, self._due)

    def _due(self) -> None:
        self._handle = None
        self._ring()
