"""The two compiled programs, the mock engine and the load generator, and the folder where they are built.

They are compiled when a source is newer than its program, so a benchmark needs a C compiler and nothing more.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
ROOT = SOURCES.parent.parent
BUILD = ROOT / "build" / "bench"
FLAGS = ("-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE")


class CannotBuild(Exception):
    """There is no C compiler, or it failed."""


def build(name: str) -> Path:
    """Compile `NAME.c` where that is needed, and give the program's path. Raises CannotBuild."""
    source, program = SOURCES / f"{name}.c", BUILD / name
    newest = max(file.stat().st_mtime for file in (source, *SOURCES.glob("*.h")))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(".new")
    try:
        subprocess.run(["cc", *FLAGS, str(source), "-o", str(fresh)], check=True, timeout=120)
    except FileNotFoundError as error:
        raise CannotBuild("the benchmark needs a C compiler named cc") from error
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"cc could not compile {source.name}") from error
    fresh.replace(program)
    return program
