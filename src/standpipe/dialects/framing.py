"""What every framing shares: how large one frame may be, and how it says that one is larger.

A framing cuts a stream of bytes into frames at any byte split. It is pure: it reads no socket, and it knows nothing
of what its frames mean.
"""

from __future__ import annotations

LIMIT = 1 << 20
"""The largest frame in bytes, line ends included."""


class FrameTooLarge(Exception):
    """A frame has more than `LIMIT` bytes. The framing must not be fed any further."""

    def __init__(self) -> None:
        super().__init__(f"a frame of more than {LIMIT} bytes")
