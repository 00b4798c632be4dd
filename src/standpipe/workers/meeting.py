"""The meeting place: where workers find the keeper, whichever it is.

Two UNIX sockets in a folder that only this user can enter. The supervisor listens on them and every child inherits
them, so a worker that comes while no keeper is there waits in the kernel's backlog for the next one.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final

_BACKLOG: Final = 256
_LONGEST: Final = 100
"""Bytes of a socket's path, which the system bounds by little more."""


class Meeting:
    """Made before the children are; `close` it in the end."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._folder = Path(tempfile.mkdtemp(prefix="standpipe-"))
        if len(os.fsencode(self._folder / "visits")) > _LONGEST:
            self._folder.rmdir()
            self._folder = Path(tempfile.mkdtemp(prefix="standpipe-", dir="/tmp"))
        self.asks_at = self._folder / "asks"
        self.visits_at = self._folder / "visits"
        self.asks = _listening(self.asks_at, socket.SOCK_STREAM)
        """For what workers ask the keeper."""
        self.visits = _listening(self.visits_at, socket.SOCK_SEQPACKET)
        """For the connections that the keeper passes to workers."""

    def close(self) -> None:
        """Let nobody meet here any more."""
        self.asks.close()
        self.visits.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _listening(path: Path, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock
