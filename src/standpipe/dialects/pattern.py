"""Regular expressions of JSON Schema (`pattern`, as ECMA 262 spells them): what they cost, and their GBNF.

Engines make a grammar or an automaton of a pattern, with its counts written out, and follow all ways through it at
once. `pattern_fault` bounds what makes that large: counts inside counts, repetitions of what may be empty, and long
rows of parts that may all be missing. It does not ask whether an engine knows all of a pattern.

`pattern_rule` writes a pattern as llama.cpp needs it, for the inside of a JSON string: characters that JSON escapes are
escaped, and `<` is, too, so that no control token can be written. What looks around, refers back, or anchors anywhere
but at the ends has no GBNF. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from standpipe.dialects.gbnf import literal

PATTERN: Final = 2048
"""Most characters that a `pattern` matches one by one, with its counts written out; and most that it has."""
OPTIONAL_RUN: Final = 12
"""Most parts of a pattern side by side that may all be missing."""
GROUPS: Final = 16
"""Most groups of a pattern inside each other."""


class _Refused(Exception):
    """A pattern costs too much; why, as the end of a sentence."""


class _Part(Struct, frozen=True):
    """A part of a pattern.

    `size` is how many characters it matches one by one, `run` the most parts of it side by side that may be missing,
    `lead` and `trail` how many such parts it begins and ends with. `empty`: all of it may be missing. `rule` is its
    GBNF, None when it has none.
    """

    size: int
    run: int = 0
    lead: int = 0
    trail: int = 0
    empty: bool = False
    rule: str | None = None


_ESCAPE: Final = re.compile(
    r"\\(?:u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[pP]\{[\w=]{1,40}\}|[^k1-9])", re.DOTALL
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*+\]", re.DOTALL)
_GROUP: Final = re.compile(r"\((?:\?(?::|<?[=!]|<[A-Za-z_$][\w$]*>))?")
_COUNTS: Final = re.compile(r"\{([0-9]{1,6})(,([0-9]{0,6}))?\}")
_LONGEST_RULE: Final = 16_384
"""Characters: an engine reads no more of one string's grammar."""
_MOST_REPEATS: Final = 256
"""Written out by llama.cpp, which refuses some more than these."""

Ranges = tuple[tuple[int, int], ...]
"""Characters, by their numbers: the first and the last of each stretch."""

_ESCAPED: Final = {
    0x22: '\\"', 0x5C: "\\\\", 0x3C: "\\u003c", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r",
}  # fmt: skip
"""What JSON writes, or we write in JSON, otherwise than as it is."""
_UNWRITTEN: Final = ((0, 0x1F), (0x22, 0x22), (0x3C, 0x3C), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF))
_ALL: Final = ((0, 0x10FFFF),)
_NAMED: Final = {"n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B, "f": 0x0C, "0": 0, "b": 0x08}
_SHORTHAND: Final[dict[str, Ranges]] = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x2000, 0x200A), (0x2028, 0x2029), (0x3000, 0x3000)),
}
_CLASS_ITEM: Final = re.compile(rf"({_ESCAPE.pattern}|[^\\])(?:-({_ESCAPE.pattern}|[^\\\]]))?", re.DOTALL)
_EDGES: Final = ("^", "$", "\\b", "\\B")


def pattern_fault(pattern: str) -> str | None:
    """Why a regular expression (ECMA 262's) costs too much, as the end of a sentence; None when it does not."""
    try:
        _read(pattern, writes=False)
    except _Refused as refused:
        return str(refused)
    return None


def pattern_rule(pattern: str) -> str | None:
    """The GBNF for the inside of the JSON strings that match; None for what has none, or costs too much."""
    try:
        rule = _read(pattern, writes=True).rule
    except _Refused:
        return None
    return rule if rule is not None and len(rule) <= _LONGEST_RULE else None


def _read(pattern: str, *, writes: bool) -> _Part:
    if len(pattern) > PATTERN:
        raise _Refused(f"it has more than {PATTERN} characters")
    part, at = _Reader(pattern, writes=writes).alternation(0, 0)
    if at < len(pattern):
        raise _Refused("it has an unmatched `)`")
    return part


class _Reader:
    """Reads one pattern by recursive descent. `writes`: its rules are wanted, too, and not only what it costs."""

    def __init__(self, pattern: str, *, writes: bool) -> None:
        self._pattern = pattern
        self._writes = writes

    def alternation(self, at: int, depth: int) -> tuple[_Part, int]:
        """Alternatives up to a `)` or the end, and where that is."""
        if depth > GROUPS:
            raise _Refused(f"it has more than {GROUPS} nested groups")
        branches: list[_Part] = []
        while True:
            branch, at = self._sequence(at, depth)
            branches.append(branch)
            if not self._pattern.startswith("|", at):
                break
            at += 1
        alike = {name: max(getattr(part, name) for part in branches) for name in ("run", "lead", "trail")}
        size, empty = sum(part.size for part in branches), any(part.empty for part in branches)
        return _bounded(_Part(size, **alike, empty=empty, rule=_choice([part.rule for part in branches]))), at

    def _sequence(self, at: int, depth: int) -> tuple[_Part, int]:
        size = run = longest = 0
        lead: int | None = None
        begin, rules, ends = at, list[str | None](), [_ANYTHING, _ANYTHING]
        while at < len(self._pattern) and self._pattern[at] not in "|)":
            if edge := next((edge for edge in _EDGES if self._pattern.startswith(edge, at)), None):
                if edge == "^" and at == begin and not depth:
                    ends[0] = ""
                elif edge == "$" and self._pattern[at + 1 : at + 2] in ("", "|") and not depth:
                    ends[1] = ""
                else:
                    rules.append(None)
                at += len(edge)
                continue
            part, at = self._atom(at, depth)
            part, at = self._repeated(at, part)
            rules.append(part.rule)
            size += part.size
            if part.empty:
                run += max(1, part.lead)
            else:
                longest = max(longest, part.run, run + part.lead)
                lead, run = run + part.lead if lead is None else lead, part.trail
            longest = max(longest, run)
        rule = _row(rules if depth else [ends[0], *rules, ends[1]])
        return _bounded(_Part(size, longest, run if lead is None else lead, run, empty=lead is None, rule=rule)), at

    def _atom(self, at: int, depth: int) -> tuple[_Part, int]:
        if group := _GROUP.match(self._pattern, at):
            part, at = self.alternation(group.end(), depth + 1)
            if not self._pattern.startswith(")", at):
                raise _Refused("it has an unmatched `(`")
            looks = group.group().endswith(("=", "!"))
            return (_Part(part.size, part.run, empty=True) if looks else part), at + 1
        if (found := _CLASS.match(self._pattern, at) or _ESCAPE.match(self._pattern, at)) is not None:
            return _Part(1, rule=_class_rule(found.group()) if self._writes else None), found.end()
        if self._pattern[at] in "[\\":
            raise _Refused("it has a back-reference, or an incomplete escape or class")
        if self._pattern[at] in "*+?":
            raise _Refused(f"it repeats with `{self._pattern[at]}` what is not a character, class or group")
        ranges = _NO_LINE_END if self._pattern[at] == "." else ((ord(self._pattern[at]), ord(self._pattern[at])),)
        return _Part(1, rule=_one_of(ranges) if self._writes else None), at + 1

    def _repeated(self, at: int, part: _Part) -> tuple[_Part, int]:
        """The part with the quantifier behind it, if there is one, and where that ends."""
        counts = _COUNTS.match(self._pattern, at)
        if counts is not None:
            least = int(counts[1])
            most = least if counts[2] is None else int(counts[3]) if counts[3] else None
            at = counts.end()
        elif self._pattern[at : at + 1] in ("*", "+", "?"):
            least, most = int(self._pattern[at] == "+"), 1 if self._pattern[at] == "?" else None
            at += 1
        else:
            return part, at
        if self._pattern.startswith("?", at):
            at += 1  # lazy: the same texts match
        if part.empty and most != 1:
            raise _Refused("it repeats a part that may be empty")
        times = max(least, 1 if most is None else most)
        run = max(part.run, part.trail + part.lead) if most != 1 else part.run
        rule = None
        if part.rule is not None and times <= _MOST_REPEATS:
            rule = f"({part.rule}){{{least},{'' if most is None else most}}}"
        repeated = replace(part, size=part.size * times, run=run, rule=rule)
        if least or part.empty:
            return _bounded(repeated), at
        missing = 1 + part.lead + part.trail
        return _bounded(replace(repeated, lead=missing, trail=missing, empty=True)), at


def _bounded(part: _Part) -> _Part:
    if part.size > PATTERN:
        raise _Refused(f"it matches more than {PATTERN} characters once its counts are expanded")
    if part.run > OPTIONAL_RUN:
        raise _Refused(f"it has more than {OPTIONAL_RUN} optional parts in a row")
    return part


# GBNF


def _choice(rules: list[str | None]) -> str | None:
    found = [rule for rule in rules if rule is not None]
    return None if len(found) < len(rules) else found[0] if len(found) == 1 else f"({' | '.join(found)})"


def _row(rules: list[str | None]) -> str | None:
    found = [rule for rule in rules if rule is not None]
    return None if len(found) < len(rules) else " ".join(filter(None, found)) or '""'


def _class_rule(text: str) -> str | None:
    """The rule for a class or an escape, as it stands in the pattern."""
    ranges = _escaped(text) if text.startswith("\\") else _class(text)
    return None if ranges is None else _one_of(ranges)


def _class(text: str) -> Ranges | None:
    """The characters of `[...]`; None with something in it that has no GBNF."""
    negated = text.startswith("[^")
    ranges: list[tuple[int, int]] = []
    for item in _CLASS_ITEM.finditer(text, 1 + negated, len(text) - 1):
        first, last = (None if one is None else _escaped(one) for one in item.groups())
        if first is None or (item[2] is not None and (last is None or len(first) + len(last) > 2)):
            return None
        ranges += first if last is None else [(first[0][0], last[0][1])]
    return _without(_ALL, ranges) if negated else tuple(ranges)


def _escaped(text: str) -> Ranges | None:
    """The characters of an escape, or of a character that is none."""
    if not text.startswith("\\"):
        return ((ord(text), ord(text)),)
    letter, rest = text[1], text[2:].strip("{}")
    if letter.lower() in _SHORTHAND:
        ranges = _SHORTHAND[letter.lower()]
        return ranges if letter.islower() else _without(_ALL, ranges)
    if letter in "pP" and rest:
        return None
    code = int(rest, 16) if letter in "ux" and rest else ord(rest) % 32 if letter == "c" and rest else None
    code = _NAMED.get(letter, ord(letter)) if code is None else code
    return ((code, code),) if code <= _ALL[0][1] else None


def _without(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> Ranges:
    """The characters of one that are not in the other."""
    left = list(ranges)
    for low, high in taken:
        parts = [((a, min(b, low - 1)), (max(a, high + 1), b)) for a, b in left]
        left = [(a, b) for pair in parts for a, b in pair if a <= b]
    return tuple(dict.fromkeys(left))


_NO_LINE_END: Final = _without(_ALL, ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)))


def _one_of(ranges: Ranges) -> str | None:
    """The rule for one of these characters in a JSON string; None where none of them can be written."""
    plain = "".join(_written(a) if a == b else f"{_written(a)}-{_written(b)}" for a, b in _without(ranges, _UNWRITTEN))
    special = [literal(text) for code, text in _ESCAPED.items() if any(a <= code <= b for a, b in ranges)]
    return _choice([*([f"[{plain}]"] if plain else []), *special]) if plain or special else None


def _written(code: int) -> str:
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


_ANYTHING: Final = f"{_one_of(_ALL)}*"
