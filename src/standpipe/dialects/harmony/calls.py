"""Tool calls of an engine that reads Harmony itself, held against what was declared.

Such engines let markup into names (`get_weather<|channel|>commentary`) and call tools that nobody declared. A clean
call passes as the same objects; a name loses its markup; a call that names no declared tool is left out and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from standpipe.chat.events import ToolCallDelta
from standpipe.dialects.harmony.header import tool_named
from standpipe.dialects.harmony.markup import Cutter, Marker, strip, unfinished

_NAME_END: Final = re.compile(r"<\||\s|\{")
_LONGEST_NAME: Final = 64


class Scrub:
    """Takes markers out of a text that has none to have."""

    __slots__ = ("_cutter", "_last")

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._last = ""

    def feed(self, piece: str) -> str:
        """The piece without markers; the start of one is kept back."""
        out: list[str] = []
        for text in self._cutter.feed(piece):
            if not isinstance(text, Marker):
                out.append(text)
                self._last = text
            elif unfinished(self._last):
                out.append(" ")
                self._last = " "
        return "".join(out)

    def flush(self) -> str:
        """What was kept back, now that no more comes."""
        return self._cutter.flush()


class Calls:
    """One answer's calls. `count` is how many were given out, `undeclared` names those that were not."""

    __slots__ = ("_open", "_tools", "count", "undeclared")

    def __init__(self, tools: Collection[str]) -> None:
        self.count = 0
        self.undeclared: list[str] = []
        self._tools = tools
        self._open: dict[int, tuple[int, Scrub] | None] = {}

    def take(self, delta: ToolCallDelta) -> list[ToolCallDelta]:
        """Take a delta of the engine's; give it, mended where it needs it, or nothing."""
        name = delta.name
        if delta.index not in self._open:
            name = self._begin(delta)
        call = self._open[delta.index]
        if call is None:
            return []
        index, scrub = call
        arguments = scrub.feed(delta.arguments)
        if (index, name, arguments) == (delta.index, delta.name, delta.arguments):
            return [delta]
        return [replace(delta, index=index, name=name, arguments=arguments)]

    def adopt(self, delta: ToolCallDelta) -> ToolCallDelta:
        """A whole call that somebody else found, in its place among the others."""
        index = self.count
        self.count += 1
        return delta if delta.index == index else replace(delta, index=index)

    def finish(self) -> list[ToolCallDelta]:
        """What was kept back."""
        rest = [(call[0], call[1].flush()) for call in self._open.values() if call]
        return [ToolCallDelta(index, text) for index, text in rest if text]

    def __repr__(self) -> str:
        return f"<Calls {self.count} undeclared={len(self.undeclared)}>"

    def _begin(self, delta: ToolCallDelta) -> str | None:
        written = delta.name or ""
        name = tool_named(_NAME_END.split(written.strip(), maxsplit=1)[0], self._tools)
        if name is None:
            self._open[delta.index] = None
            self.undeclared.append(strip(written)[:_LONGEST_NAME])
            return None
        self._open[delta.index] = (self.count, Scrub())
        self.count += 1
        return name
