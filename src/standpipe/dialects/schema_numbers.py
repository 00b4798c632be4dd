"""The decimal texts of the integers between two bounds, as GBNF. Pure text; knows no schema.

A range is cut into stretches that one row of digit classes describes: 7 to 123 is 7-9, 10-99, 100-119, 120-123.
"""

from __future__ import annotations

from typing import Final

DIGITS: Final = 15
"""Most digits of an integer without a bound on that side: every reader of JSON holds those exactly."""


def integers(low: int | None, high: int | None) -> str:
    """The integers from `low` to `high`, both included. None is no bound: then at most 15 digits."""
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
