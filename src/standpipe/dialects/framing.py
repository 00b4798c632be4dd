"""Server-sent events, incrementally: bytes in at any split, the data of whole events out.

It follows the event stream format of the WHATWG HTML standard: lines end with LF, CR or CRLF, a blank line ends an
event, lines that start with a colon are comments, several `data` lines are joined by LF, one leading byte order mark
is skipped, and an event that is cut off by the end of the stream is dropped. Event names and ids are not reported:
none of the formats spoken here needs them, as their payloads name themselves.

Nearly every read from an engine holds whole events of one `data` line each. Those are cut with one `split`, and only
what does not fit that picture goes line by line.
"""

from __future__ import annotations

from standpipe.dialects.framing import LIMIT, FrameTooLarge

_BOM = b"\xef\xbb\xbf"


def frame(data: bytes) -> bytes:
    """One event of one `data` line. `data` has no line end in it, as encoded JSON never has."""
    return b"data: %b\n\n" % data


class Frames:
    """The events of one stream. `feed` it every read, in order."""

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

    def __repr__(self) -> str:
        return f"<sse.Frames {self._size} bytes of an unfinished event>"
