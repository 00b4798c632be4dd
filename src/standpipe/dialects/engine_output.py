"""What engines and models put out, made fit for every format.

Here lies what the readers of engines' answers and the writers of ours share, whatever the dialect: counts that can be
true, a model's name that may be shown, arguments of calls that are objects, and stop strings. Knows no format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Timings, Usage

MOST_TOKENS: Final = 1 << 30
"""More than any context holds."""

_FOLDERS: Final = re.compile(r"\A(?:/|~|\.|[A-Za-z]:[\\/]).*[\\/]", re.DOTALL)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def usage(
    prompt: int | None, completion: int | None, *, reasoning: int | None = None, cached: int | None = None
) -> Usage | None:
    """What an engine counted, believed only where it can be true; a missing count is 0.

    Clients are charged by these tokens and estimates learn from them, so a faulty engine must neither give credit with
    a count below zero nor ruin a client with one beyond any context. None when one of the first two cannot be true:
    then our own count stands. A detail that cannot be is left out.
    """
    read, written = _told(prompt or 0), _told(completion or 0)
    if read is None or written is None:
        return None
    return Usage(read, written, _told(reasoning), _told(cached))


def timings(prompt_seconds: float | None, generation_seconds: float | None) -> Timings | None:
    """None when one is missing or below zero."""
    if prompt_seconds is None or generation_seconds is None or min(prompt_seconds, generation_seconds) < 0:
        return None
    return Timings(prompt_seconds, generation_seconds)


def _told(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= MOST_TOKENS else None


def shown_model(name: str) -> str:
    """A model that is named by the path of its file or folder, without the folders before it."""
    return _FOLDERS.sub("", name) or name


def is_object(arguments: str) -> bool:
    """Whether this is a whole JSON object."""
    try:
        _OBJECT.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def as_object(arguments: str) -> Raw:
    """The arguments of a call on one line, for formats in which they are an object and not a text.

    A model that has nothing to say to a tool may leave them empty. Raises EngineFailed for what is no object: a call
    with other arguments than the model's would be carried out.
    """
    text = arguments or "{}"
    if not is_object(text):
        raise no_object()
    return Raw(msgspec.json.format(text.encode(), indent=-1))


def no_object() -> EngineFailed:
    """What a call is that no client could read."""
    return EngineFailed("The model called a tool with arguments that are not a JSON object. Please try again.")


class StopText:
    """Stop strings, found by us in one answer's text, for engines whose raw output is more than the answer.

    Such an engine would look for them in headers and in reasoning, too: a blank line for a stop string would end the
    turn before the answer began. Text is given as soon as it cannot become a stop string; the string itself is not. Of
    several, the one counts that is whole first. `done` once one has come: nothing after it is given.
    """

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

    def _may_begin(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._stops)
