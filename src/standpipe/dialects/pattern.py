"""What a regular expression of a JSON Schema (`pattern`) costs the engine that enforces it.

Engines make a grammar or an automaton of it, with its counts written out, and follow all ways through it at once. A
parser of our own reads it as ECMA 262 spells it and bounds what makes that large: counts inside counts, repetitions of
what may be empty, and long rows of parts that may all be missing. It does not judge what a pattern means, or whether an
engine knows all of it. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

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
    `lead` and `trail` how many such parts it begins and ends with. `empty`: all of it may be missing.
    """

    size: int
    run: int = 0
    lead: int = 0
    trail: int = 0
    empty: bool = False


_ESCAPE: Final = re.compile(
    r"\\(?:u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[pP]\{[\w=]{1,40}\}|[^k1-9])", re.DOTALL
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*+\]", re.DOTALL)
_GROUP: Final = re.compile(r"\((?:\?(?::|<?[=!]|<[A-Za-z_$][\w$]*>))?")
_COUNTS: Final = re.compile(r"\{([0-9]{1,6})(,([0-9]{0,6}))?\}")
_EDGES: Final = ("^", "$", "\\b", "\\B")


def pattern_fault(pattern: str) -> str | None:
    """Why a regular expression (ECMA 262's) costs too much, as the end of a sentence; None when it does not."""
    if len(pattern) > PATTERN:
        return f"it has more than {PATTERN} characters"
    try:
        _, at = _alternation(pattern, 0, 0)
        if at < len(pattern):
            return "it has an unmatched `)`"
    except _Refused as refused:
        return str(refused)
    return None


def _alternation(pattern: str, at: int, depth: int) -> tuple[_Part, int]:
    """Alternatives up to a `)` or the end, and where that is."""
    if depth > GROUPS:
        raise _Refused(f"it has more than {GROUPS} nested groups")
    branches: list[_Part] = []
    while True:
        branch, at = _sequence(pattern, at, depth)
        branches.append(branch)
        if not pattern.startswith("|", at):
            break
        at += 1
    alike = {name: max(getattr(part, name) for part in branches) for name in ("run", "lead", "trail")}
    return _bounded(_Part(sum(part.size for part in branches), **alike, empty=any(p.empty for p in branches))), at


def _sequence(pattern: str, at: int, depth: int) -> tuple[_Part, int]:
    size = run = longest = 0
    lead: int | None = None
    while at < len(pattern) and pattern[at] not in "|)":
        if edge := next((edge for edge in _EDGES if pattern.startswith(edge, at)), None):
            at += len(edge)
            continue
        part, at = _atom(pattern, at, depth)
        part, at = _repeated(pattern, at, part)
        size += part.size
        if part.empty:
            run += max(1, part.lead)
        else:
            longest = max(longest, part.run, run + part.lead)
            lead, run = run + part.lead if lead is None else lead, part.trail
        longest = max(longest, run)
    return _bounded(_Part(size, longest, run if lead is None else lead, run, empty=lead is None)), at


def _atom(pattern: str, at: int, depth: int) -> tuple[_Part, int]:
    if group := _GROUP.match(pattern, at):
        part, at = _alternation(pattern, group.end(), depth + 1)
        if not pattern.startswith(")", at):
            raise _Refused("it has an unmatched `(`")
        looks = group.group().endswith(("=", "!"))
        return (_Part(part.size, part.run, empty=True) if looks else part), at + 1
    if (found := _CLASS.match(pattern, at) or _ESCAPE.match(pattern, at)) is not None:
        return _Part(1), found.end()
    if pattern[at] in "[\\":
        raise _Refused("it has a back-reference, or an incomplete escape or class")
    if pattern[at] in "*+?":
        raise _Refused(f"it repeats with `{pattern[at]}` what is not a character, class or group")
    return _Part(1), at + 1


def _repeated(pattern: str, at: int, part: _Part) -> tuple[_Part, int]:
    """The part with the quantifier behind it, if there is one, and where that ends."""
    counts = _COUNTS.match(pattern, at)
    if counts is not None:
        least = int(counts[1])
        most = least if counts[2] is None else int(counts[3]) if counts[3] else None
        at = counts.end()
    elif pattern[at : at + 1] in ("*", "+", "?"):
        least, most = int(pattern[at] == "+"), 1 if pattern[at] == "?" else None
        at += 1
    else:
        return part, at
    if pattern.startswith("?", at):
        at += 1  # lazy: the same texts match
    if part.empty and most != 1:
        raise _Refused("it repeats a part that may be empty")
    times = max(least, 1 if most is None else most)
    run = max(part.run, part.trail + part.lead) if most != 1 else part.run
    repeated = replace(part, size=part.size * times, run=run)
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
