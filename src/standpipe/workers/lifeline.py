"""The lifeline between a child and its parent, the supervisor: a pair of sockets that neither shares.

Through it a child says that it is ready, and beats while its loop turns; it leaves at once when the parent has gone,
however that ended. Signals do the rest: they need no loop at the other end.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

READY: Final = b"r"
BEAT: Final = b"."
EVERY: Final = 1.0
"""Seconds between two beats."""
SILENT: Final = 10.0
"""Seconds without one after which a child counts as hanging."""
ORPHANED: Final = 70
"""The exit status of a child whose parent has gone."""


class Lifeline:
    """The child's end. Made in its loop. `on_orphaned` tidies up what the parent could not."""

    def __init__(self, sock: socket.socket, on_orphaned: Callable[[], None] = lambda: None) -> None:
        self._on_orphaned = on_orphaned
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        self._beat()

    def ready(self) -> None:
        """The child serves."""
        self._say(READY)

    def _beat(self) -> None:
        self._say(BEAT)
        self._timer = self._loop.call_later(EVERY, self._beat)

    def _say(self, word: bytes) -> None:
        try:
            self._socket.send(word)
        except BlockingIOError:
            pass  # the parent is slow, and has enough to read
        except OSError:
            self._orphaned()

    def _read(self) -> None:
        try:
            if self._socket.recv(64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._orphaned()

    def _orphaned(self) -> None:
        """Nobody would restart or stop us: end as suddenly as the parent did."""
        try:
            self._on_orphaned()
        finally:
            os._exit(ORPHANED)

    def close(self) -> None:
        """Say nothing more."""
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
