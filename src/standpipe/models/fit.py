"""Fit: what a machine has, and how many slots of how much context a model gets on it.

`plan` is pure: facts in, a plan or a refusal out. `measure` reads the facts and knows nothing of models.

The theory: a model takes its files plus its KV cache (`slots` times `context` times the cost of one token), and a
tenth for everything else. The engine obeys any wish until the machine is out of memory and the system kills
whatever it likes, so the sum is done before anything is loaded. What nobody wished for shrinks until it fits: first
slots, because a long conversation is worth more than company, then context. What somebody wished for is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from standpipe.models.catalog import ModelUnavailable, Shape

OVERHEAD: Final = 1.1
SLOTS: Final = 4
"""More slots than this buy fairness, not speed, on a machine that computes with its processor."""
CONTEXT: Final = 8192
LEAST_CONTEXT: Final = 1024
LARGE: Final = 4 << 30
"""Bytes from which on a model counts as slow to read."""


class Machine(Struct, frozen=True):
    """`cores` are physical ones that this process may use, `memory` the bytes that can be had without swapping."""

    cores: int
    memory: int


class Plan(Struct, frozen=True):
    """How to load a model: `context` is the length in tokens of each slot, `bytes` what all of it takes."""

    slots: int
    context: int
    threads: int
    bytes: int


CACHE_BITS: Final = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5}
"""Bits of one number in a KV cache of each type."""


def need(shape: Shape, slots: int, context: int, cache_type: str = "f16") -> int:
    """Bytes that a model takes with this many slots of that many tokens."""
    cache = shape.kv_bytes * slots * context * CACHE_BITS[cache_type] / CACHE_BITS["f16"]
    return int((shape.bytes + cache) * OVERHEAD)


def plan(
    title: str,
    shape: Shape,
    machine: Machine,
    *,
    slots: int | None = None,
    context: int | None = None,
    threads: int | None = None,
    cache_type: str = "f16",
) -> Plan:
    """Choose what was not wished for. Raises ModelUnavailable, with both numbers, when the model cannot fit.

    `title` is what a refusal calls the model. `slots`, `context` (tokens of each slot) and `threads` are wishes.
    `cache_type` is one of `CACHE_BITS`.
    """
    trained = shape.context or CONTEXT
    if context is not None and context > trained:
        raise ModelUnavailable(f"{title} was trained for {trained} tokens of context; {context} is more than that.")
    for try_slots, try_context in _choices(slots, context, min(CONTEXT, max(trained // 4, LEAST_CONTEXT))):
        size = need(shape, try_slots, min(try_context, trained), cache_type)
        if size <= machine.memory:
            return Plan(try_slots, min(try_context, trained), threads or _threads(shape, machine), size)
    least = need(shape, slots or 1, context or min(LEAST_CONTEXT, trained), cache_type)
    raise ModelUnavailable(
        f"{title} needs {gigabytes(least)} of memory ({slots or 1} x {context or min(LEAST_CONTEXT, trained)} tokens "
        f"of context), and {gigabytes(machine.memory)} is available. Free some memory, choose a smaller model, or use "
        "an engine elsewhere: --engine http://host:8000/v1."
    )


def _choices(slots: int | None, context: int | None, usual: int) -> Iterator[tuple[int, int]]:
    """Slots and context to try, the best first."""
    for try_context in (usual >> n for n in range(8)) if context is None else (context,):
        if context is None and try_context < LEAST_CONTEXT:
            return
        for try_slots in (SLOTS, SLOTS // 2, 1) if slots is None else (slots,):
            yield try_slots, try_context


def _threads(shape: Shape, machine: Machine) -> int:
    """All cores for a small model; a large one computes all day, and leaves one core to everything else."""
    return max(1, machine.cores - 1) if shape.bytes >= LARGE and machine.cores > 2 else machine.cores


def gigabytes(size: int) -> str:
    """A size for people: 98 MB, 12.1 GB (decimal units, as file sizes are given elsewhere)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def measure(root: Path = Path("/")) -> Machine:
    """Read what this machine has, or what the container leaves of it. `root` is where /proc and /sys are."""
    return Machine(cores=_cores(root), memory=_memory(root))


def _cores(root: Path) -> int:
    """Physical cores: two threads of one core share the unit that does the arithmetic."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {
        _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed
    }
    return max(1, min(len(siblings), _quota(root)))


def _quota(root: Path) -> int:
    """Whole cores that the container may use, if it is limited."""
    quotas = [_ratio(_text(folder / "cpu.max")) for folder in _groups(root, "")]
    quotas += [
        _ratio(f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}")
        for folder in _groups(root, "cpu")
    ]
    return max(1, int(min((quota for quota in quotas if quota is not None), default=sys.maxsize)))


def _ratio(text: str | None) -> float | None:
    match (text or "").split():
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _memory(root: Path) -> int:
    """Bytes that can be had: what the kernel thinks is available, within what the container may still take."""
    found = [
        _meminfo(root),
        *(_left(folder, "memory.max", "memory.current", "inactive_file") for folder in _groups(root, "")),
        *(
            _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            for folder in _groups(root, "memory")
        ),
    ]
    return min((size for size in found if size is not None), default=_half_of_all())


def _meminfo(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _half_of_all() -> int:
    """For systems that do not say what is available."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """What one control group still allows. File cache that can be dropped does not count as used."""
    most, used = _text(folder / limit), _text(folder / usage)
    if most is None or used is None or not most.isdecimal() or not used.isdecimal():
        return None
    droppable = 0
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == cache and value.isdecimal():
            droppable = int(value)
    return max(0, int(most) - int(used) + droppable)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of all above it. `controller` "" is version 2.

    In a container the path may be the host's; then only the mount's own root exists, and is the right one.
    """
    mount = root / "sys/fs/cgroup" / controller
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            here = Path(path.lstrip("/"))
            yield from (mount / folder for folder in (here, *here.parents) if (mount / folder).is_dir())


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
