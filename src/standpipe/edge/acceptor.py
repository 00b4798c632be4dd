"""The acceptor: connections from listening sockets, a few in each turn of the loop, to whoever lets them in.

It accepts by itself instead of leaving that to the loop, because only so can a connection be counted, and cut, before a
transport or a TLS handshake is spent on it. Knows sockets, and nothing of limits or of what is said on a connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

from standpipe.edge.listen import BACKLOG, address_of

_AT_ONCE = 8
"""Connections that are accepted in one turn of the loop at most, so that a flood of them leaves time for everything
else. Each costs some 80 microseconds, so it is fewer where turns are short: one for each millisecond of the turn. With
eight in each, thousands that came back added a half to a polite client's 99th percentile."""
_LONGEST_TURN = 0.05
"""Seconds: what is longer than that was no turn, but a time in which nobody came."""
_PAUSE = 0.5
"""Seconds to wait when the system has no file descriptor left for another connection."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Any number of listening sockets. `admit` is given each connection, not blocking, and its peer's address, None
    where that is no IP address."""

    def __init__(self, admit: Callable[[socket.socket, str | None], None]) -> None:
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._accepted = 0.0
        """When a connection was accepted last."""
        self._holding = False

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on these from now on; they are ours to close."""
        for sock in sockets:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(BACKLOG)
            self._listening.append(sock)
            self._resume(sock)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens."""
        return tuple(address_of(sock) for sock in self._listening)

    def hold(self) -> None:
        """Accept nobody for now: they wait in the kernel's backlog."""
        self._holding = True
        for sock in self._listening:
            self._loop.remove_reader(sock)

    def go_on(self) -> None:
        """Accept again after `hold`."""
        self._holding = False
        for sock in self._listening:
            self._resume(sock)

    def let_go(self) -> None:
        """Close our descriptors and take nobody in: somebody else listens on the same sockets."""
        self.hold()
        for sock in self._listening:
            sock.close()
        self._listening.clear()

    def close(self) -> None:
        """Take in who is at the door already, as many as the kernel may hold: closing alone would reset them."""
        for sock in self._listening:
            self._loop.remove_reader(sock)
            self._take(sock, BACKLOG + 1)
            sock.close()
        self._listening.clear()

    def _accept(self, listening: socket.socket) -> None:
        turn = self._loop.time() - self._accepted
        self._accepted += turn
        self._take(listening, max(1, min(int(turn * 1000), _AT_ONCE)) if turn < _LONGEST_TURN else 1)

    def _take(self, listening: socket.socket, most: int) -> None:
        for _ in range(most):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(listening, error)
                return
            sock.setblocking(False)
            self._admit(sock, address[0] if isinstance(address, tuple) else None)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """No descriptor is left: say so, and try again in a moment instead of at once and for ever."""
        self._loop.call_exception_handler({"message": "cannot accept connections", "exception": error})
        self._loop.remove_reader(listening)
        self._loop.call_later(_PAUSE, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening and not self._holding:
            self._loop.add_reader(listening, self._accept, listening)
