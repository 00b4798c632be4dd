"""Newline-delimited JSON, incrementally: bytes in at any split, whole lines out.

A line ends with LF; a CR before it and blank lines are dropped. The last line may lack its LF, which only the end of
the stream can tell: `end` gives it.
"""

from __future__ import annotations

from standpipe.dialects.framing import LIMIT, FrameTooLarge


def frame(data: bytes) -> bytes:
    """One line. `data` has no line end in it, as encoded JSON never has."""
    return data + b"\n"


class Frames:
    """The lines of one stream. `feed` it every read, in order, then `end` it."""

    __slots__ = ("_line", "_size")

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of an unfinished line
        self._size = 0  # their bytes

    def feed(self, read: bytes) -> list[bytes]:
        """Every line that these bytes complete. Raises FrameTooLarge."""
        *lines, rest = read.split(b"\n")
        if lines and self._line:
            self._check(self._size + len(lines[0]))
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
            self._size = 0
        if rest:
            self._line.append(rest)
            self._size += len(rest)
            self._check(self._size)
        if len(read) > LIMIT:
            self._check(max(map(len, lines), default=0))
        return [line for line in map(_trimmed, lines) if line]

    def end(self) -> list[bytes]:
        """The last line, if the stream ended without an LF."""
        line = _trimmed(b"".join(self._line))
        self._line.clear()
        self._size = 0
        return [line] if line else []

    @staticmethod
    def _check(size: int) -> None:
        if size >= LIMIT:  # the LF counts
            raise FrameTooLarge

    def __repr__(self) -> str:
        return f"<ndjson.Frames {self._size} bytes of an unfinished line>"


def _trimmed(line: bytes) -> bytes:
    return line.removesuffix(b"\r")
