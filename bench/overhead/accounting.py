"""What a process and its descendants have used, as Linux tells it under /proc.

CPU is user + system time, in ticks of 10 ms on most systems: divide it by the work of a second or more. Memory is the
resident set, shared pages counted once for each process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(Struct, frozen=True):
    """One process: its parent, and the ticks of CPU that it has used."""

    parent: int
    ticks: int


class Use(Struct, frozen=True):
    """A process tree at one instant."""

    cpu: float
    """Seconds of user and system time."""
    rss: int
    """Bytes."""


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat. The command's name in it may contain anything, so fields count from its last parenthesis."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), ticks=int(fields[11]) + int(fields[12]))


def descendants(root: int, parents: Mapping[int, int]) -> set[int]:
    """`root` and all whose line of parents leads to it; `parents` maps each process to its parent."""
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def _stats() -> dict[int, Stat]:
    stats = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stats[int(entry.name)] = parse_stat((entry / "stat").read_text(encoding="latin-1"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return stats


def tree(root: int) -> set[int]:
    """The living processes below `root`, itself included."""
    return descendants(root, {pid: stat.parent for pid, stat in _stats().items()})


def _rss(pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def cpu(pid: int) -> float:
    """Seconds of user and system time of one process. Raises OSError when it has gone."""
    return parse_stat((PROC / str(pid) / "stat").read_text(encoding="latin-1")).ticks * TICK


def proportional(pid: int) -> int:
    """Bytes of one process's memory, of shared pages its part (PSS). Raises OSError when it has gone."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def use(root: int) -> Use:
    """What the tree below `root` has used until now."""
    stats = _stats()
    pids = descendants(root, {pid: stat.parent for pid, stat in stats.items()})
    return Use(cpu=sum(stats[pid].ticks for pid in pids if pid in stats) * TICK, rss=_rss(pids))
