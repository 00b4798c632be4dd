"""What was found beside what is aimed at. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from bench.overhead.report import layout


class Finding(Struct, frozen=True):
    """One number. `aim` is the most that it may be, or with `at_least` the least; None: it is only told."""

    name: str
    value: float
    aim: float | None = None
    digits: int = 2
    at_least: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """NaN reaches no aim."""
        return self.aim is None or (self.value >= self.aim if self.at_least else self.value <= self.aim)


def table(findings: Iterable[Finding]) -> str:
    """A line for each, with its note behind it."""
    lines = [["", "found", "aim", "", ""]]
    for one in findings:
        aim = "" if one.aim is None else f"{'>=' if one.at_least else '<='} {one.aim:,.{one.digits}f}"
        verdict = "" if one.aim is None else "ok" if one.reached else "MISSED"
        lines.append([one.name, f"{one.value:,.{one.digits}f}", aim, verdict, one.note])
    widest = max(len(line[-1]) for line in lines)
    return layout([[*line[:-1], line[-1].ljust(widest)] for line in lines])
