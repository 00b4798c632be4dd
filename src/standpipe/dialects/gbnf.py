"""GBNF, the grammar language of llama.cpp: rules under construction, the rules of JSON itself, and ranges of integers.

No string of its JSON can hold a control token: a run of `<` is never followed by `|` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from standpipe.dialects.reading import DROPPED

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_PRIMITIVES: Final[Mapping[str, str]] = {
    "space": r'| " " | "\n" [ \t]{0,20}',
    "escape": r'"\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "plain": r'[^"\\<\x00-\x1F\x7F] | escape',
    # A run of < not followed by |, so that no control token can be written inside a string.
    "string": r'"\"" (plain | "<"+ ([^"\\<|\x00-\x1F\x7F] | escape))* "<"* "\""',
    "digits": r"[0-9]{1,15}",
    "integer": r'"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": r'integer ("." digits)? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": r'"true" | "false"',
    "null": r'"null"',
    "value": "object | array | string | number | boolean | null",
    "pair": r'string space ":" space value',
    "object": r'"{" space (pair space ("," space pair space)*)? "}"',
    "array": r'"[" space (value space ("," space value space)*)? "]"',
}
"""Each with what it needs among the others."""

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": ("escape",), "string": ("plain", "escape"), "number": ("integer", "digits"),
    "value": ("object", "array", "string", "number", "boolean", "null"), "pair": ("string", "space", "value"),
    "object": ("pair", "space"), "array": ("value", "space"),
}  # fmt: skip


def literal(text: str) -> str:
    """A text as a GBNF literal."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c >= " " else f"\\x{ord(c):02X}") for c in text) + '"'


class Grammar:
    """Rules under construction. `add` and `use` give the name of a rule, `text` the whole, `dropped` what it does
    without."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._dropped: dict[str, None] = {}

    def add(self, body: str) -> str:
        """A rule with this body, also one that is there already."""
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def use(self, name: str) -> str:
        """A rule that JSON itself has: `string`, `object`, `value`, ..."""
        if name not in self._rules:
            self._rules[name] = _PRIMITIVES[name]
            for needed in _NEEDS.get(name, ()):
                self.use(needed)
        return name

    def reserve(self) -> str:
        """The name of a rule whose body comes later."""
        return self.add("")

    def define(self, name: str, body: str) -> str:
        """The body of a reserved rule."""
        self._rules[name] = body
        return name

    def drop(self, place: str) -> None:
        """What stands at this place cannot be said in the grammar."""
        if len(self._dropped) < DROPPED:
            self._dropped[place] = None

    @property
    def dropped(self) -> tuple[str, ...]:
        """Places that were dropped, each once, as many as are reported."""
        return tuple(self._dropped)

    def __len__(self) -> int:
        """How many rules there are."""
        return len(self._rules)

    def text(self, root: str) -> str:
        """The grammar, with this body for its root."""
        return "\n".join(f"{name} ::= {body}" for name, body in {"root": root, **self._rules}.items()) + "\n"

    def __repr__(self) -> str:
        return f"<Grammar {len(self._rules)} rules>"


DIGITS: Final = 15
"""Most digits of an integer without a bound on that side: every reader of JSON holds those exactly."""


def integers(low: int | None, high: int | None) -> str:
    """The decimal texts of the integers from `low` to `high`, both included. None is no bound: at most 15 digits.

    A range is cut into stretches that one row of digit classes describes: 7 to 123 is 7-9, 10-99, 100-119, 120-123.
    """
    most = 10**DIGITS - 1
    least_, most_ = -most if low is None else low, most if high is None else high
    parts: list[str] = []
    if least_ < 0:
        parts += [f'"-" {part}' for part in _naturals(max(1, -most_), -least_)]
    if most_ >= 0:
        parts += _naturals(max(0, least_), most_)
    return " | ".join(parts)


def _naturals(low: int, high: int) -> list[str]:
    """The stretches of 0 <= low <= high."""
    parts: list[str] = []
    while low <= high:
        top = min(high, 10 ** len(str(low)) - 1)
        parts += _same_length(str(low), str(top))
        low = top + 1
    return parts


def _same_length(low: str, high: str) -> list[str]:
    """The stretches between two numbers of as many digits."""
    if not low:
        return ['""']
    rest = len(low) - 1
    if low[0] == high[0]:
        return [_row(low[0], part) for part in _same_length(low[1:], high[1:])]
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return [_row(f"{low[0]}-{high[0]}", f"[0-9]{{{rest}}}" if rest else '""')]
    parts: list[str] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        parts += [_row(low[0], part) for part in _same_length(low[1:], "9" * rest)]
        first += 1
    if high[1:] != "9" * rest:
        last -= 1
    if first <= last:
        parts.append(_row(f"{first}-{last}" if first < last else str(first), f"[0-9]{{{rest}}}" if rest else '""'))
    if high[1:] != "9" * rest:
        parts += [_row(high[0], part) for part in _same_length("0" * rest, high[1:])]
    return parts


def _row(digits: str, rest: str) -> str:
    return f"[{digits}]" if rest == '""' else f"[{digits}] {rest}"
