"""Stop strings, found by us, for engines whose raw output is more than the answer.

Such an engine would look for them in headers and in reasoning, too: a blank line for a stop string would end the turn
before the answer began. Text is given as soon as it cannot become a stop string; the string itself is not. Of several,
the one counts that is whole first.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """One answer's text. `done` once a stop string has come: nothing after it is given."""

    __slots__ = ("_kept", "_stops", "done")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._kept = ""
        self.done = False

    def take(self, piece: str) -> str:
        """Take a piece; give what is decided."""
        if self.done or not self._stops:
            return "" if self.done else piece
        text = self._kept + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.done, self._kept = True, ""
            return text[: min(found)[1]]
        longest = max(map(len, self._stops)) - 1
        start = max(0, len(text) - longest)
        at = next((n for n in range(start, len(text)) if self._may_begin(text[n:])), len(text))
        self._kept = text[at:]
        return text[:at]

    def flush(self) -> str:
        """What was kept back, now that no more text comes."""
        kept, self._kept = self._kept, ""
        return kept

    def __repr__(self) -> str:
        return f"<StopText {len(self._stops)} stops{' done' if self.done else ''}>"

    def _may_begin(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._stops)
