"""Node for end-to-end tests: the official clients' packages, installed once, and scripts that use them.

The packages are those of `tests/e2e/node/package-lock.json`, installed beside it into `node_modules`, which git
ignores. Where there is no Node, or its packages cannot be had, tests are skipped with the reason; with CI=true that is
a failure.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

FOLDER = Path(__file__).parent / "node"
PATIENCE = 300
"""Seconds for an installation."""


def run(script: str, *arguments: str) -> None:
    """Run one of the scripts. What it prints is the reason when it fails."""
    installed()
    done = subprocess.run(
        ["node", script, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def installed() -> None:
    """Make sure that the packages are there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _absent("node or npm is not installed")
    lock = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = FOLDER / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == lock:
        return
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        _absent(f"npm ci failed: {done.stderr[-500:]}")
    stamp.write_text(lock)


def _absent(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
