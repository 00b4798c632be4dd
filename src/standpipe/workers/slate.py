"""A slate: what one keeper writes, so that the next one can read it however the first ended.

A piece of memory that the supervisor makes and every child shares. It has two halves, written in turn, each with its
length and its checksum: whoever is killed while it writes leaves the other half whole.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Final

_ROOM: Final = 1_048_576
"""Bytes of a half."""
_HEAD: Final = struct.Struct("<QII")
"""The number of the writing, the length, and the checksum of both and of what follows."""


class Slate:
    """Made before the children are."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * _ROOM)
        self._written = 0

    def write(self, data: bytes) -> bool:
        """Remember this from now on. False if it is too long, and the former stays."""
        if len(data) > _ROOM - _HEAD.size:
            return False
        self._written = max(self._written, self._latest()[0]) + 1
        at = self._written % 2 * _ROOM
        self._memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        self._memory[at : at + _HEAD.size] = _HEAD.pack(self._written, len(data), _sum(self._written, data))
        return True

    def read(self) -> bytes:
        """What was written last and wholly; nothing at first."""
        return self._latest()[1]

    def _latest(self) -> tuple[int, bytes]:
        found = 0, b""
        for at in (0, _ROOM):
            number, size, checksum = _HEAD.unpack(self._memory[at : at + _HEAD.size])
            data = self._memory[at + _HEAD.size : at + _HEAD.size + min(size, _ROOM)]
            if number > found[0] and checksum == _sum(number, data):
                found = number, data
        return found


def _sum(number: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<QI", number, len(data))))
