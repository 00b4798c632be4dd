"""Harmony's control tokens as text, and cutting a stream at them.

gpt-oss writes turns in Harmony: messages between control tokens such as `<|channel|>` and `<|end|>`. Engines that do
not parse it hand the tokens over as text, in pieces of any size. A `Cutter` turns such pieces into an alternation of
plain text and markers. It gives text away as soon as it cannot become a marker any more: what it keeps back is at most
one unfinished `<|name`, so it neither delays a stream nor grows. It knows nothing of what the markers mean.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Marker(StrEnum):
    """A control token that structures a turn."""

    START = "<|start|>"
    CHANNEL = "<|channel|>"
    CONSTRAIN = "<|constrain|>"
    MESSAGE = "<|message|>"
    END = "<|end|>"
    RETURN = "<|return|>"
    CALL = "<|call|>"
    ENDOFTEXT = "<|endoftext|>"
    OTHER = "<|other|>"
    """Any of the rest of the vocabulary's control tokens: never meant to be seen, and without a meaning here."""


ENDS_TURN: Final = frozenset({Marker.RETURN, Marker.CALL, Marker.ENDOFTEXT})

MARKERS: Final = (
    "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
    "<|startoftext|>", "<|endofprompt|>", "<|refusal|>", "<|untrusted|>", "<|end_untrusted|>", "<|meta_sep|>",
    "<|meta_end|>",
)  # fmt: skip
"""The named control tokens of the vocabulary (o200k_harmony) and the published encoder; `<|reserved_N|>` besides."""

_NAMED: Final = "|".join(re.escape(marker) for marker in MARKERS)
_MARKER: Final = re.compile(rf"{_NAMED}|<\|reserved_[0-9]{{1,6}}\|>")
_PREFIXES: Final = frozenset(marker[:end] for marker in (*MARKERS, "<|reserved_") for end in range(1, len(marker))) | {
    "<|reserved_"
}
_RESERVED: Final = re.compile(r"<\|reserved_[0-9]{1,6}\|?>?")
_LONGEST: Final = 24


def find(text: str) -> re.Match[str] | None:
    """The first whole marker in a text."""
    return _MARKER.search(text) if "|>" in text else None


def strip(text: str) -> str:
    """The text with a space for each whole marker, so that what stood around one never joins into another."""
    return _MARKER.sub(" ", text)


def unfinished(text: str) -> int:
    """How many characters at the end of the text may become a marker when more comes."""
    at = text.rfind("<", -_LONGEST)
    if at < 0:
        return 0
    tail = text[at:]
    return len(tail) if tail in _PREFIXES or _RESERVED.fullmatch(tail) else 0


def joins(tail: str, text: str) -> bool:
    """Whether a text goes on writing the marker that the tail begins: they were parted, and must stay so."""
    start = tail + text[0]
    return start in _PREFIXES or start in MARKERS or _RESERVED.fullmatch(start) is not None


def _known(text: str) -> Marker:
    try:
        return Marker(text)
    except ValueError:
        return Marker.OTHER


class Cutter:
    """Cuts pieces of a stream at markers. `feed` gives text and markers in order; text is never empty."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = ""

    @property
    def idle(self) -> bool:
        """Whether nothing is kept back: then a piece without `<` may pass by the cutter."""
        return not self._tail

    def feed(self, piece: str) -> list[str | Marker]:
        """Take a piece; give what is decided. A Marker is a str, too: look at the type before the value."""
        if not self._tail and "<" not in piece:
            return [piece] if piece else []
        text = self._tail + piece
        out: list[str | Marker] = []
        at = 0
        for match in _MARKER.finditer(text):
            if match.start() > at:
                out.append(text[at : match.start()])
            out.append(_known(match.group()))
            at = match.end()
        end = len(text) - unfinished(text[at:])
        if end > at:
            out.append(text[at:end])
        self._tail = text[end:]
        return out

    def flush(self) -> str:
        """What was kept back, now that nothing more comes: it is plain text after all."""
        tail, self._tail = self._tail, ""
        return tail

    def __repr__(self) -> str:
        return f"<Cutter keeps {len(self._tail)}>"
