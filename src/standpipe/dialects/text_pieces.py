"""Text that comes in pieces, cut anywhere: stop strings and characters that lie across the cuts.

Pure text; knows no format and no engine.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Final

_LONE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of UTF-16 pairs, but those that stand for a byte (see `Halves`)."""


def whole(text: str) -> str:
    """A text of which no more comes, with whatever is half a character in it shown as unknown."""
    return Halves().take(text, last=True)


class StopText:
    """Stop strings, found by us in one answer's text, for engines whose raw output is more than the answer.

    Such an engine would look for them in headers and in reasoning, too: a blank line for a stop string would end the
    turn before the answer began. Text is given as soon as it cannot become a stop string; the string itself is not. Of
    several, the one counts that is whole first. Once one has come, `found` is it, and nothing after it is given.
    """

    __slots__ = ("_kept", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._kept = ""
        self.found: str | None = None

    @property
    def done(self) -> bool:
        return self.found is not None

    def take(self, piece: str) -> str:
        """Take a piece; give what is decided."""
        if self.done or not self._stops:
            return "" if self.done else piece
        text = self._kept + piece
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.found = min(found)
            self._kept = ""
            return text[:at]
        longest = max(map(len, self._stops)) - 1
        start = max(0, len(text) - longest)
        at = next((n for n in range(start, len(text)) if self._may_begin(text[n:])), len(text))
        self._kept = text[at:]
        return text[:at]

    def flush(self) -> str:
        """What was kept back, now that no more text comes."""
        kept, self._kept = self._kept, ""
        return kept

    def _may_begin(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._stops)


class Halves:
    """Joins characters that an engine cut in half between two pieces of one text; a half that stays alone is U+FFFD.

    Engines that write token by token cut in two ways: an escaped UTF-16 pair between its halves, or UTF-8 between its
    bytes. The first comes as lone surrogates, the second as what `surrogateescape` makes of bytes that are no UTF-8.
    """

    __slots__ = ("_decode", "_high")

    def __init__(self) -> None:
        self._high = ""  # the first half of a pair
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def take(self, piece: str, *, last: bool = False) -> str:
        """The whole characters so far. `last` tells that no more comes."""
        text = (self._high + piece).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        self._high = ""
        if not last and "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return self._decode(_LONE.sub("\ufffd", text).encode("utf-8", "surrogateescape"), last)
