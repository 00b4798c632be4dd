"""The hops that forwarding headers tell of, nearest first.

`Forwarded` (RFC 7239) and `X-Forwarded-For` grow on their right end, and over several lines downwards. Only the right
end was written by somebody whom we may know; what stands left of it may be anything, quotes without end included. So
both are read from the right, one hop at a time, and only as far as the caller asks. Trusts nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from standpipe.policy.address import Address, parse_node


def x_forwarded_for(lines: Sequence[str]) -> Iterator[Address | None]:
    """The hops of all X-Forwarded-For lines, nearest first; None for one that is no address."""
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = line.rfind(",", 0, end)
            yield parse_node(line[comma + 1 : end])
            end = comma


def forwarded(lines: Sequence[str]) -> Iterator[Address | None]:
    """The hops of all Forwarded lines, nearest first; None for one without a `for` that is an address."""
    for line in reversed(lines):
        for element in _split(line, ","):
            yield _hop(element)


def _hop(element: str) -> Address | None:
    """The `for` of one element. Two of them are nobody's."""
    found = [value for name, _, value in (pair.partition("=") for pair in _split(element, ";")) if _is_for(name)]
    if len(found) != 1:
        return None
    value = found[0].strip(" \t")
    if value.startswith('"'):
        if len(value) < 2 or not value.endswith('"'):
            return None
        value = value[1:-1].replace("\\", "")
    return parse_node(value)


def _is_for(name: str) -> bool:
    return name.strip(" \t").lower() == "for"


def _split(text: str, separator: str) -> Iterator[str]:
    """The pieces between separators that stand outside of quotes, rightmost first, read no further than asked."""
    end = at = len(text)
    quoted = False
    while at > 0:
        at -= 1
        char = text[at]
        if char == '"' and not (quoted and _escaped(text, at)):
            quoted = not quoted
        elif char == separator and not quoted:
            yield text[at + 1 : end]
            end = at
    yield text[:end]


def _escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before this character."""
    start = at
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return (at - start) % 2 == 1
