"""Images for tests, made by hand: nothing but headers, where nothing more is looked at."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

from standpipe.chat.ask import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def ihdr(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


def png(width: int, height: int, *before: bytes) -> bytes:
    """`before` are further chunks between the header and the pixels, which are all black."""
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height)) if width * height < 100_000 else b""
    pixels = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + ihdr(width, height) + b"".join(before) + pixels


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def frame(width: int, height: int, marker: int = 0xC0) -> bytes:
    return segment(marker, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")


def jpeg(width: int, height: int, *before: bytes) -> bytes:
    """`before` are further segments before the frame."""
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + b"\x7f\xff\xd9"
    return b"\xff\xd8" + segment(0xE0, b"JFIF\0" + bytes(9)) + b"".join(before) + frame(width, height) + scan


def gif(width: int, height: int, *, left: int = 0, wide: int | None = None, comment: bytes = b"") -> bytes:
    """`left` and `wide` are the first picture's."""
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x80, 0, 0) + bytes(6)
    said = b"!\xfe" + bytes([len(comment)]) + comment + b"\0" if comment else b""
    picture = struct.pack("<BHHHHB", 0x2C, left, 0, width if wide is None else wide, height, 0)
    return screen + said + picture + b"\2\2\x4c\1\0;"


def webp(width: int, height: int, kind: bytes = b"VP8 ") -> bytes:
    match kind:
        case b"VP8X":
            data = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        case b"VP8L":
            data = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(5)
        case _:
            data = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + struct.pack("<I", 12 + len(data)) + b"WEBP" + kind + struct.pack("<I", len(data)) + data


def text(data: bytes) -> str:
    return b64encode(data).decode()


PNG = text(png(4, 3))
PICTURE = Image("image/png", PNG, 4, 3)
