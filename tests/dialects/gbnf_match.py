"""A recogniser of GBNF for tests: does a text match a grammar? Enough of the language for ours, and strict about it.

    assert matches('root ::= "a"+ [0-9]', "aa1")

Each node of a grammar gives the set of positions at which it may end when it starts at one.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[0-9,]+\}|[()|*+?]|[A-Za-z0-9-]+)')
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)")
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else _NAMED.get(m[1], m[1]), text)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            assert match, f"not GBNF: {text[at : at + 40]!r}"
            self.tokens.append(match[1])
            at = match.end()
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def alternatives(self) -> Any:
        options = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            options.append(self.sequence())
        return ("or", tuple(options))

    def sequence(self) -> Any:
        parts = []
        while (token := self.peek()) not in (None, "|", ")"):
            assert token
            self.at += 1
            parts.append(self.repeated(self.atom(token)))
        return ("seq", tuple(parts))

    def atom(self, token: str) -> Any:
        if token == "(":
            inner = self.alternatives()
            assert self.peek() == ")"
            self.at += 1
            return inner
        if token[0] == '"':
            return ("text", _unescape(token[1:-1]))
        if token[0] == "[":
            return ("class", token)
        assert re.fullmatch(r"[A-Za-z0-9-]+", token), token
        return ("rule", token)

    def repeated(self, node: Any) -> Any:
        token = self.peek()
        bounds: dict[str | None, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if token in bounds:
            low, high = bounds[token]
        elif token and token[0] == "{":
            first, comma, last = token[1:-1].partition(",")
            low, high = int(first), int(last) if last else None if comma else int(first)
        else:
            return node
        self.at += 1
        return ("repeat", node, low, high)


def parse(grammar: str) -> dict[str, Any]:
    """The rules, each used one defined. Raises AssertionError for what is not GBNF."""
    rules = {}
    for line in filter(None, grammar.split("\n")):
        name, defined, body = line.partition(" ::= ")
        assert defined, line
        parser = _Parser(body)
        rules[name] = parser.alternatives()
        assert parser.peek() is None, line
    return rules


def matches(grammar: str, text: str) -> bool:
    """Whether the whole text is in the language of `root`."""
    rules = parse(grammar)

    @cache
    def ends(node: Any, start: int) -> frozenset[int]:
        match node:
            case ("text", literal):
                return frozenset([start + len(literal)] if text.startswith(literal, start) else [])
            case ("class", spec):
                return frozenset([start + 1] if start < len(text) and re.fullmatch(spec, text[start]) else [])
            case ("rule", name):
                return ends(rules[name], start)
            case ("or", options):
                return frozenset().union(*(ends(option, start) for option in options))
            case ("seq", parts):
                now = frozenset([start])
                for part in parts:
                    now = frozenset().union(*(ends(part, at) for at in now))
                return now
            case ("repeat", inner, low, high):
                return repeat(inner, low, high, start)
        raise AssertionError(node)

    def repeat(inner: Any, low: int, high: int | None, start: int) -> frozenset[int]:
        now, done, seen, count = frozenset([start]), set[int](), set[int](), 0
        while now and (high is None or count <= high):
            if count >= low:
                now -= seen
                seen |= now
                done |= now
            if count == high:
                break
            now = frozenset().union(*(ends(inner, at) for at in now))
            count += 1
        return frozenset(done)

    return len(text) in ends(("rule", "root"), 0)
