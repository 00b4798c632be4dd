"""An order and its answer: one line of JSON each. And the folders in which a server's socket lies.

The socket is called by where its server listens, `8080.sock`, so that several servers of one user can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

LONGEST = 65_536
"""Bytes of an order, its line's end included."""


class Refused(Exception):
    """An order is not obeyed. The message is a sentence for the operator."""


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted: `{"command": "engines drain", "arguments": {"name": "gpu-a"}}`."""

    command: str
    arguments: dict[str, Any] = {}


class Answer(Struct, frozen=True, omit_defaults=True):
    """What came of it: a result, whatever the command gives, or why it was refused."""

    result: Any = None
    error: str | None = None


def folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where a server puts its socket: systemd's RuntimeDirectory, else the user's own runtime folder, else state."""
    if given := environ.get("RUNTIME_DIRECTORY"):
        return Path(given.partition(":")[0])
    return _own(environ, home)[0]


def folders(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Where to look for servers: also where systemd's services have theirs."""
    return [*_own(environ, home), Path("/run/standpipe")]


def _own(environ: Mapping[str, str], home: Path) -> list[Path]:
    state = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "standpipe"
    runtime = environ.get("XDG_RUNTIME_DIR")
    return [Path(runtime) / "standpipe", state] if runtime else [state]
