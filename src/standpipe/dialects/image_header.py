"""What an image's header tells: its kind, and its size in pixels. Pure, and never larger than the header itself.

An engine makes a bitmap of whatever size a header claims, so it must be known before an engine sees it. Only what is
needed for that is read, a few bytes at a time; nothing is decoded, and nothing of a claimed size is set aside. Where an
image may claim its size more than once, what counts is what the greediest of decoders would believe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

Read = Callable[[int, int], bytes]
"""Gives the bytes at an offset, at most so many; fewer, or none, where the image ends."""

_STEPS: Final = 1024
"""Most blocks of an image that are looked at; what counts stands before that in any real one."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The markers of JPEG that begin a frame and tell its size."""
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Those that stand alone."""


class Header(NamedTuple):
    """An image's media type, and its size in pixels."""

    media_type: str
    width: int
    height: int


def header_of(read: Read) -> Header | None:
    """The header of a PNG, JPEG, GIF or WebP; None where it is none of these, or makes no sense."""
    start = read(0, 16)
    if start.startswith(_PNG):
        kind, size = "png", _png(read)
    elif start.startswith(b"\xff\xd8\xff"):
        kind, size = "jpeg", _jpeg(read)
    elif start.startswith((b"GIF87a", b"GIF89a")):
        kind, size = "gif", _gif(read)
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        kind, size = "webp", _webp(read)
    else:
        return None
    return None if size is None or not all(size) else Header(f"image/{kind}", *size)


def _png(read: Read) -> tuple[int, int] | None:
    """Of the one IHDR that comes first, before any pixels."""
    at, size = len(_PNG), None
    for _ in range(_STEPS):
        head = read(at, 16)
        name = head[4:8]
        if name == b"IDAT":
            return size
        if len(head) < 16 or (name == b"IHDR") is not (size is None):
            return None
        if size is None:
            size = _big(head[8:12]), _big(read(at + 12, 4))
        at += 12 + _big(head[:4])
    return None


def _jpeg(read: Read) -> tuple[int, int] | None:
    """The largest that any frame tells before the first scan."""
    at, width, height = 2, 0, 0
    for _ in range(_STEPS):
        head = read(at, 9)
        if len(head) < 2 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker == 0xDA:
            return width, height
        else:
            if marker in _FRAMES and len(head) == 9:
                height, width = max(height, _big(head[5:7])), max(width, _big(head[7:9]))
            at += 2 + max(2, _big(head[2:4]))
    return None


def _gif(read: Read) -> tuple[int, int] | None:
    """The screen, or the first picture on it where that reaches beyond."""
    screen = read(6, 7)
    if len(screen) < 7:
        return None
    width, height = _little(screen[:2]), _little(screen[2:4])
    at = 13 + _colours(screen[4])
    steps = iter(range(_STEPS))
    for _ in steps:
        head = read(at, 9)
        if head[:1] == b"," and len(head) == 9:
            left, top, wide, high = (_little(head[n : n + 2]) for n in (1, 3, 5, 7))
            return max(width, left + wide), max(height, top + high)
        if head[:1] != b"!":
            return None
        at += 2  # an extension and its label; blocks follow, the last of them empty
        for _ in steps:
            block = read(at, 1)
            at += 1 + _big(block)
            if block in {b"", b"\0"}:
                break
    return None


def _colours(flags: int) -> int:
    """Bytes of the table of colours that these flags tell of."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp(read: Read) -> tuple[int, int] | None:
    """The canvas, or the one picture."""
    head = read(12, 18)
    name, data = head[:4], head[8:]
    if name == b"VP8X" and len(data) == 10:
        return _little(data[4:7]) + 1, _little(data[7:10]) + 1
    if name == b"VP8 " and data[3:6] == b"\x9d\x01\x2a" and len(data) == 10:
        return _little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF
    if name == b"VP8L" and data[:1] == b"\x2f" and len(data) >= 5:
        bits = _little(data[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
