"""An outlet: text to standard error or output, without ever waiting for whoever reads it.

A pipe that nobody empties, a stopped terminal and a stalled journal all look alike: a write to them blocks, and with it
the loop and every client. So text is written only as far as it is taken at once. The rest waits in a bounded buffer;
what finds no room there, or cannot be written at all, is dropped and counted. The stream itself is not made
non-blocking: other processes may share it. Knows nothing of what is written.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

ROOM = 1_048_576
"""Bytes that may wait for a reader: some thousand lines."""
_AT_ONCE: int = getattr(select, "PIPE_BUF", 512)
"""Bytes of one write: so many a pipe takes without blocking, once it is found writable."""


class Outlet:
    """One stream, used by the loop's thread alone; None is a stream that was closed before we began."""

    def __init__(self, stream: TextIO | None, *, room: int = ROOM) -> None:
        self.dropped = 0
        """Texts that were lost since the start."""
        self.on_flow: Callable[[], None] | None = None
        """Called when text is written again after some was dropped."""
        self._stream = stream
        self._room = room
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._reported = 0
        self._watched: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._poll = select.poll() if hasattr(select, "poll") else None
        try:
            self._open(-1 if stream is None else stream.fileno())
        except (OSError, ValueError):  # closed, or in memory
            self._poll = None

    def _open(self, descriptor: int) -> None:
        """Find out how to write without blocking to what poll finds writable.

        A pipe takes `_AT_ONCE` bytes then, and a file everything. A terminal may take less, and is opened once more,
        so that only we do not wait for it; a socket can be asked each time. Raises OSError.
        """
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif os.isatty(descriptor):
            with suppress(OSError):
                descriptor = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        self._descriptor = descriptor
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLOUT)

    def _put(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    @property
    def terminal(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> None:
        """Write it now if that needs no waiting, else when there is room, else never."""
        if self._poll is None:
            self._write_plainly(text)
            return
        data = text.encode(errors="backslashreplace")
        if self._size and self._size + len(data) > self._room:
            self.dropped += 1
            return
        self._waiting.append(data)
        self._size += len(data)
        self._drain()

    def _write_plainly(self, text: str) -> None:
        """Where the system cannot be asked, or the stream is memory."""
        try:
            if self._stream is None:
                raise OSError
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1

    def _drain(self, until: float = 0.0) -> None:
        """Write what waits, as far as it is taken at once, or until that instant of the system's monotonic clock."""
        assert self._poll is not None
        wrote = False
        while self._waiting:
            data = self._waiting[0]
            try:
                if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000 if until else 0):
                    raise BlockingIOError
                taken = self._put(data[:_AT_ONCE])
            except BlockingIOError:
                self._watch()
                return
            except OSError:  # nobody reads, the disk is full: all that waits is as lost as this
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self._size = 0
                break
            wrote = True
            self._size -= taken
            if taken < len(data):
                self._waiting[0] = data[taken:]
            else:
                self._waiting.popleft()
        self._unwatch()
        if wrote and self.dropped > self._reported and self.on_flow is not None:
            self._reported = self.dropped
            self.on_flow()

    def _watch(self) -> None:
        """Go on as soon as the reader has taken something; without a loop, when the next text is written."""
        if self._watched is None:
            with suppress(RuntimeError, OSError):
                loop = asyncio.get_running_loop()
                loop.add_writer(self._descriptor, self._drain)
                self._watched = loop

    def _unwatch(self) -> None:
        if self._watched is not None:
            loop, self._watched = self._watched, None
            if not loop.is_closed():
                loop.remove_writer(self._descriptor)

    def close(self, patience: float = 1.0) -> None:
        """Give the reader that many seconds to take what still waits."""
        if self._poll is not None:
            self.on_flow = None
            self._drain(time.monotonic() + patience)
            self._unwatch()
        if self._socket is not None:
            self._socket.close()
