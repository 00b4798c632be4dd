"""Harmony whose markers were stripped: `analysisWe think.assistantfinalHello`.

Some engines drop control tokens when they turn tokens into text, and the words of a header run into those of a message.
Words that only a header can have brought there are found and their markers put back, so that the parser reads it like
any other turn. Trusted that much are the very beginning of a text, `assistant` with a channel word glued to it, and
`commentary to=functions.`. `analysis` alone is not: many an honest answer begins with it, so it needs the second word.
"""

from __future__ import annotations

import re
from typing import Final

_HEADERS: Final = ("assistantfinal", "assistantanalysis", "assistantcommentary to=", "commentary to=functions.")
_BEGINNINGS: Final = (*_HEADERS, "to=functions.")
_HEADER: Final = re.compile(
    r"assistant(final|analysis)|(?:assistant)?(commentary)(?= to=functions\.)|assistant(commentary)(?= to=)"
)
_GLUED: Final = re.compile(r"(?<=\S)assistant(?:final|analysis|commentary to=)|(?<![a-z])commentary to=functions\.")
_BEGINS: Final = re.compile(r"\s*(?:assistant(?:final|analysis|commentary to=)|(?:commentary )?to=functions\.)")
_ANALYSIS: Final = re.compile(r"\s*analysis(?=[A-Z0-9\"'(<\[{*`#\u0080-\U0010ffff])")
_LONGEST: Final = max(map(len, _BEGINNINGS))
_MAY_BE_UNFINISHED: Final = re.compile(r"assistant|commentary|[^\w\s]a[a-z]*\Z")


def begins_stripped(text: str) -> bool | None:
    """Whether a text begins like a stripped turn. None while it is too short to tell, or only *analysis* says so."""
    if _BEGINS.match(text):
        return True
    if _ANALYSIS.match(text):
        return True if _GLUED.search(text) else None
    bare = text.lstrip()
    return None if any(word.startswith(bare) for word in (*_BEGINNINGS, "analysis")) else False


def has_stripped_header(text: str) -> bool:
    """Whether there is a stripped header in the middle of a text."""
    return ("assistant" in text or "commentary to=" in text) and _GLUED.search(text) is not None


def unfinished_header(text: str) -> int:
    """How many characters at the end of a text may become a stripped header when more comes.

    A word of running text is not held for its first letters: `assistant` counts from its first letter only behind
    punctuation, else when it is whole and glued; `commentary` when it is whole.
    """
    start = max(0, len(text) - _LONGEST)
    if not _MAY_BE_UNFINISHED.search(text, start):
        return 0
    for at in range(start, len(text)):
        tail = text[at:]
        if text[at] not in "ac" or not any(word.startswith(tail) for word in _HEADERS):
            continue
        before = text[at - 1 : at]
        enough = 9 if tail[0] == "a" else 10
        punctuated = tail[0] == "a" and before != "" and not before.isalnum() and not before.isspace()
        if punctuated or (len(tail) >= enough and (tail[0] == "c" or before.strip())):
            return len(tail)
    return 0


def restore_markers(text: str) -> str:
    """A whole text with its markers put back. For a text that `begins_stripped` like a stripped turn."""
    restorer = MarkerRestorer(at_start=True)
    return restorer.feed(text) + restorer.flush()


class MarkerRestorer:
    """Puts markers back piece by piece, once a stream is known to have lost them.

    `at_start`: the first piece is the beginning of a text, long enough to tell that it `begins_stripped` so.
    """

    __slots__ = ("_at_start", "_tail")

    def __init__(self, *, at_start: bool) -> None:
        self._at_start = at_start
        self._tail = ""

    def feed(self, piece: str) -> str:
        """Take a piece, give what is decided of it."""
        text = self._tail + piece
        opening = ""
        if self._at_start:
            self._at_start = False
            opening, text = _opened(text)
        found = max((match.end() for match in _HEADER.finditer(text)), default=0)
        start = max(found, len(text) - _LONGEST)
        at = next((n for n in range(start, len(text)) if _is_prefix(text[n:])), len(text))
        self._tail = text[at:]
        return opening + _HEADER.sub(_restored, text[:at])

    def flush(self) -> str:
        """What was kept back, now that nothing more comes."""
        tail, self._tail = self._tail, ""
        return tail

    def __repr__(self) -> str:
        return f"<MarkerRestorer keeps {len(self._tail)}>"


def _opened(text: str) -> tuple[str, str]:
    """The markers of a header that only the beginning of a text shows, and the text behind it."""
    if first := _ANALYSIS.match(text):
        return "<|channel|>analysis<|message|>", text[first.end() :]
    bare = text.lstrip()
    return ("<|channel|>commentary ", bare) if bare.startswith("to=") else ("", text)


def _is_prefix(text: str) -> bool:
    return any(word.startswith(text) and word != text for word in _HEADERS)


def _restored(match: re.Match[str]) -> str:
    channel = match[1] or match[2] or match[3]
    message = "" if channel == "commentary" else "<|message|>"
    return f"<|start|>assistant<|channel|>{channel}{message}"
