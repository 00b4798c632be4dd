"""Watching an engine's text for leaked Harmony, without touching it.

A delta is kept back only while its end may become a control token or a stripped header, which in running text is next
to never; then it is let go as the same object. Once a whole one has come there is a `Leak`, and the watch is over: what
was kept back goes with it. Reasoning and answer are watched one after the other, as they come.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from standpipe.chat.events import ReasoningDelta, TextDelta
from standpipe.dialects.harmony import header, markup, stripped

Said = TextDelta | ReasoningDelta

_CONTEXT: Final = 40
"""Characters said before in which a marker or a stripped header may have begun."""
_BEGINNING: Final = 64
"""Characters in which a text shows whether it begins like a stripped turn."""


class Leak(Struct, frozen=True):
    """Text with Harmony in it, and where it came: as reasoning or answer, and whether any of that had passed before.

    `headless`: the text begins like a turn does, before any header. `stripped`: it is words, not markers, that leaked.
    """

    text: str
    reasoning: bool
    resumed: bool
    headless: bool
    stripped: bool


class Watch:
    """One answer's text. `passed` has the last characters that were let go, by the kind of their delta."""

    __slots__ = ("_beginning", "_context", "_kept", "_kind", "_suspect", "passed")

    def __init__(self) -> None:
        self.passed: dict[type[Said], str] = {}
        self._kind: type[Said] = TextDelta
        self._kept: list[Said] = []
        self._context = ""
        self._beginning: str | None = ""
        """What the text began with; None once it is known not to begin like a stripped turn."""
        self._suspect = False
        """It begins with *analysis* glued to a word: all is kept until a second header confirms it."""

    def take(self, event: Said) -> tuple[list[Said], Leak | None]:
        """Take a delta. Give the deltas that are clean, and the leak when there is one."""
        clean = self._turn_to(type(event))
        window = self._context + event.text
        marker = markup.find(window) is not None
        if marker or stripped.glued(window) or self._begins_stripped(event.text):
            return clean, self._leak(event, words_only=not marker)
        self._kept.append(event)
        self._context = window[-_CONTEXT:]
        if self._beginning is None and not self._suspect:
            clean += self._let_go(max(markup.unfinished(window), stripped.unfinished(window)))
        return clean, None

    def release(self) -> list[Said]:
        """What was kept back, now that no more comes: it was clean after all."""
        return self._let_go(0)

    def cut_off(self) -> Leak | None:
        """The stream was cut off while all of it was kept: then what began like analysis was."""
        return self._leak(TextDelta(""), words_only=True, headless=True) if self._suspect else None

    def __repr__(self) -> str:
        return f"<Watch keeps {len(self._kept)}>"

    def _turn_to(self, kind: type[Said]) -> list[Said]:
        """From reasoning to answer or back: what was kept of the one is decided."""
        if kind is self._kind and (self._kept or kind in self.passed):
            return []
        kept = self.release()
        self._kind = kind
        self._context = self.passed.get(kind, "")
        self._beginning = None if kind in self.passed else ""
        self._suspect = False
        return kept

    def _begins_stripped(self, text: str) -> bool:
        if self._beginning is None or self._suspect:
            return False
        self._beginning += text
        begins = stripped.begins(self._beginning)
        self._suspect = begins is None and len(self._beginning) > _BEGINNING
        if begins is not None:
            self._beginning = None
        return begins is True

    def _let_go(self, keep: int) -> list[Said]:
        """The deltas before those that hold the last `keep` characters."""
        at = len(self._kept)
        while keep > 0 and at:
            at -= 1
            keep -= len(self._kept[at].text)
        clean, self._kept = self._kept[:at], self._kept[at:]
        for said in clean:
            self.passed[self._kind] = (self.passed.get(self._kind, "") + said.text)[-_CONTEXT:]
        return clean

    def _leak(self, event: Said, *, words_only: bool, headless: bool = False) -> Leak:
        text = "".join(said.text for said in (*self._kept, event))
        self._kept.clear()
        resumed = self._kind in self.passed
        if not resumed and not headless:
            marker = markup.find(text)
            opens = marker is not None and header.is_header(text[: marker.start()], ())
            headless = opens or stripped.begins(text) is True
        return Leak(text, self._kind is ReasoningDelta, resumed, headless, words_only)
