"""A script: what a scripted engine does, written as one URL.

    scripted:?first=0.2&rate=50&tokens=64&reasoning=8&tool=get_weather&fault=cut:12&faults=2

Reading only. Every key is in the table `KEYS`, with its bounds in words; whatever is not in it is an error that names
the key, the value and what is allowed. This module knows nothing of asks or engines.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

SCHEME = "scripted:"


class FaultKind(StrEnum):
    """How an engine can fail."""

    REFUSE = "refuse"
    """As a refused connection; the engine says of its health that it is down."""
    STATUS = "status"
    """As an HTTP status instead of an answer."""
    HANG = "hang"
    """Never a first token."""
    EMPTY = "empty"
    """Finished without a word."""
    STALL = "stall"
    """Silent for ever after some tokens."""
    CUT = "cut"
    """The connection breaks after some tokens."""
    MALFORMED = "malformed"
    """Nonsense after some tokens."""


class Fault(Struct, frozen=True):
    """One fault. `at` is the HTTP status of STATUS, the tokens before STALL, CUT and MALFORMED, and 0 for the rest."""

    kind: FaultKind
    at: int = 0


class Script(Struct, frozen=True):
    """What a scripted engine does. The bounds are in `KEYS`."""

    name: str = "scripted"
    """The engine's name."""
    model: str = "scripted"
    """The one model that it lists, and says it is."""
    slots: int = 4
    """Asks that it works on at a time."""
    first: float = 0.0
    """Seconds before the first token."""
    rate: float = 0.0
    """Tokens per second after that; 0 is as fast as possible, without any sleep."""
    tokens: int = 64
    """Tokens of the text, where the text is not given."""
    reasoning: int = 0
    """Tokens of reasoning before anything else."""
    seed: int = 0
    """Another seed gives other words."""
    text: str | None = None
    """The text; `echo` repeats the last user message; None makes up words."""
    tool: str | None = None
    """The tool that is called without being required, when an ask declares it."""
    calls: int = 1
    """Turns in a row that call a tool, each with the results of the one before, until it answers."""
    fault: Fault | None = None
    faults: int | None = None
    """Asks that the fault strikes, from the first on; None is every ask."""


def _number(kind: type[int | float], low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read


def _words(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _fault(text: str) -> Fault:
    kind, colon, at = text.partition(":")
    fault = Fault(FaultKind(kind), int(at) if colon else 0)
    low, high = _FAULT_BOUNDS.get(fault.kind, (0, 0))
    if bool(colon) != (fault.kind in _FAULT_BOUNDS) or not low <= fault.at <= high:
        raise ValueError(text)
    return fault


_MOST = 100_000
_FAULT_BOUNDS: dict[FaultKind, tuple[int, int]] = {
    FaultKind.STATUS: (400, 599),
    FaultKind.STALL: (0, _MOST),
    FaultKind.CUT: (0, _MOST),
    FaultKind.MALFORMED: (0, _MOST),
}

KEYS: dict[str, tuple[Callable[[str], Any], str]] = {
    "name": (_words, "any text that is not empty"),
    "model": (_words, "any text that is not empty"),
    "slots": (_number(int, 1, 4096), "an integer from 1 to 4096"),
    "first": (_number(float, 0, 3600), "seconds from 0 to 3600"),
    "rate": (_number(float, 0, _MOST), f"tokens per second from 0 to {_MOST}"),
    "tokens": (_number(int, 1, _MOST), f"an integer from 1 to {_MOST}"),
    "reasoning": (_number(int, 0, _MOST), f"an integer from 0 to {_MOST}"),
    "seed": (_number(int, 0, 2**63), "an integer from 0"),
    "text": (_words, "echo, or any text that is not empty"),
    "tool": (_words, "the name of a tool"),
    "calls": (_number(int, 1, _MOST), f"an integer from 1 to {_MOST}"),
    "fault": (
        _fault,
        f"refuse, hang, empty, status:400 to status:599, or stall:N, cut:N, malformed:N with N from 0 to {_MOST}",
    ),
    "faults": (_number(int, 1, _MOST), f"an integer from 1 to {_MOST}"),
}
"""Each field of a Script: how its text is read, and what is allowed."""


def read_script(url: str) -> Script:
    """Read `scripted:` or `scripted:?key=value&...`. Raises ValueError, naming key, value and what is allowed."""
    if not url.startswith(SCHEME):
        raise ValueError(f"{url!r} does not begin with {SCHEME}")
    path, _, query = url.removeprefix(SCHEME).partition("?")
    if path:
        raise ValueError(f"{path!r} has no meaning behind {SCHEME}; allowed is {SCHEME}?key=value&...")
    fields: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in KEYS:
            raise ValueError(f"{SCHEME} knows no key {key!r} (value {value!r}); allowed are {', '.join(KEYS)}")
        if key in fields:
            raise ValueError(f"{SCHEME} has {key!r} twice (value {value!r}); allowed is once")
        read, allowed = KEYS[key]
        try:
            fields[key] = read(value)
        except ValueError:
            raise ValueError(f"{SCHEME} has {key}={value!r}; allowed is {allowed}") from None
    return Script(**fields)
