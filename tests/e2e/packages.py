"""Other people's packages for end-to-end tests, installed once: those for Node, and those for Python that would not fit
beside ours.

The packages for Node are those of `node/package-lock.json`, in `node/node_modules`; those for Python are those of
`python/requirements.lock`, in `python/.venv`. Where they cannot be had, tests are skipped with the reason; with CI=true
that is a failure.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

NODE = Path(__file__).parent / "node"
PYTHON = Path(__file__).parent / "python"
INTERPRETER = PYTHON / ".venv" / "bin" / "python"
PATIENCE = 300
"""Seconds for an installation."""


def run_node(script: str, *arguments: str) -> None:
    """Run one of the scripts in `node`. What it prints is the reason when it fails."""
    node()
    done = subprocess.run(
        ["node", script, *arguments], cwd=NODE, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def node() -> None:
    """Make sure that the packages for Node are there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _absent("node or npm is not installed")
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    _install(NODE / "package-lock.json", NODE / "node_modules", [install])


@functools.cache
def python() -> None:
    """Make sure that the packages for Python are there."""
    uv = [sys.executable, "-m", "uv", "--quiet", "--no-config"]
    environment = str(PYTHON / ".venv")
    install = ["pip", "sync", "--python", environment, "--require-hashes", "requirements.lock"]
    make = [*uv, "venv", "--clear", "--python", sys.executable, environment]
    _install(PYTHON / "requirements.lock", PYTHON / ".venv", [make, [*uv, *install]])


def _install(lock: Path, into: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run the commands beside the lock file, unless what it names is there."""
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = into / ".installed"
    with lock.open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # tests may run in several processes
        if stamp.exists() and stamp.read_text() == wanted:
            return
        for command in commands:
            done = subprocess.run(
                command, cwd=lock.parent, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            if done.returncode != 0:
                _absent(f"{' '.join(command[:4])} failed: {done.stderr[-500:]}")
        stamp.write_text(wanted)


def _absent(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
