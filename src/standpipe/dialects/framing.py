"""Framings: how a stream of bytes is cut into frames, and how a frame is written.

Server-sent events and newline-delimited JSON, both as incremental parsers without I/O (*sans-I/O*): bytes in at any
split, whole frames out. And `quote`,
which writes JSON that neither framing, nor a client's own way of cutting lines, can break. Pure: nothing here reads a
socket, and nothing here knows what its frames mean.

Server-sent events follow the event stream format of the WHATWG HTML standard: lines end with LF, CR or CRLF, a blank
line ends an event, lines that start with a colon are comments, several `data` lines are joined by LF, one leading byte
order mark is skipped. An event that is cut off by the end of the stream is given by `end` alone. Event names and ids
are not reported: none of the formats spoken here needs them, as their payloads name themselves.

Of newline-delimited JSON, a line ends with LF; a CR before it and blank lines are dropped. The last line may lack its
LF, which only the end of the stream can tell.
"""

from __future__ import annotations

from typing import Final

from msgspec.json import Encoder

LIMIT: Final = 1 << 20
"""The largest frame in bytes, line ends included."""

_BOM: Final = b"\xef\xbb\xbf"
_encode = Encoder().encode


class FrameTooLarge(Exception):
    """A frame has more than `LIMIT` bytes. The framing must not be fed any further."""

    def __init__(self) -> None:
        super().__init__(f"a frame of more than {LIMIT} bytes")


def quote(value: object) -> bytes:
    """Any value that msgspec can encode, as JSON on one line by anybody's reckoning.

    JSON leaves three characters unescaped that Unicode calls line ends: U+0085, U+2028 and U+2029. The framings do not
    see them as such, but clients that cut a stream with a Unicode-aware `splitlines` do, and then fail on half a frame.
    Escaped they mean the same to every JSON parser.
    """
    encoded = _encode(value)
    if encoded.isascii():
        return encoded
    # Outside of strings JSON is ASCII, so these bytes are characters of a string.
    return (
        encoded.replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
        .replace(b"\xc2\x85", b"\\u0085")
    )


def sse_frame(data: bytes) -> bytes:
    """One event of one `data` line. `data` has no line end in it, as encoded JSON never has."""
    return b"data: %b\n\n" % data


class SseFrames:
    """The server-sent events of one stream. `feed` it every read, in order.

    Nearly every read from an engine holds whole events of one `data` line each. Those are cut with one `split`, and
    only what does not fit that picture goes line by line.
    """

    __slots__ = ("_after_cr", "_between", "_data", "_first", "_line", "_size")

    def __init__(self) -> None:
        self._first = True  # no line has ended yet: the next may begin with a byte order mark
        self._between = True  # between two events, nothing kept
        self._after_cr = False  # a CR has ended the last line: an LF right after it belongs to it
        self._line: list[bytes] = []  # the pieces of an unfinished line
        self._data: list[bytes] = []  # the data lines of an unfinished event
        self._size = 0  # bytes of the unfinished event, with everything that is not data

    def feed(self, read: bytes) -> list[bytes]:
        """The data of every event that these bytes complete. Raises FrameTooLarge."""
        if self._between and len(read) <= LIMIT and read.startswith(b"data: ") and read.endswith(b"\n\n"):
            found = read[6:-2].split(b"\n\ndata: ")
            if read.count(b"\n") == 2 * len(found) and b"\r" not in read:
                self._first = False
                return found
        return self._feed_lines(read)

    def end(self) -> list[bytes]:
        """The last event, if the stream ended without the blank line that ends an event. The standard drops it; who
        needs to know whether it came whole looks into it."""
        found: list[bytes] = []
        if self._line:
            self._end_line(found)
        last = b"\n".join(self._data)
        self._data.clear()
        return [*found, last] if last else found

    def _feed_lines(self, read: bytes) -> list[bytes]:
        if self._after_cr and read:
            read = read.removeprefix(b"\n")
            self._after_cr = False
        found: list[bytes] = []
        for line in read.splitlines(keepends=True):
            self._size += len(line)
            if self._size > LIMIT:
                raise FrameTooLarge
            self._line.append(line)
            if line.endswith((b"\n", b"\r")):
                self._end_line(found)
        self._after_cr = self._after_cr or read.endswith(b"\r")
        self._between = not (self._line or self._data or self._after_cr)
        return found

    def _end_line(self, found: list[bytes]) -> None:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._first:
            line = line.removeprefix(_BOM)
            self._first = False
        if not line:
            if self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
            self._size = 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":  # a comment has an empty field name
            self._data.append(value.removeprefix(b" "))


def ndjson_frame(data: bytes) -> bytes:
    """One line. `data` has no line end in it, as encoded JSON never has."""
    return data + b"\n"


class NdjsonFrames:
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


def _trimmed(line: bytes) -> bytes:
    return line.removesuffix(b"\r")
