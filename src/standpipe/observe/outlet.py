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
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        with suppress(OSError, ValueError):  # closed, or in memory
            self._open(-1 if stream is None else stream.fileno())

    def _open(self, descriptor: int) -> None:
        """Find out how to write without blocking. Raises OSError.

        A file takes everything, and a pipe that poll finds writable takes `_AT_ONCE` bytes. A terminal may take less,
        and is opened once more, so that only we do not wait for it; a socket can be asked each time.
        """
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif os.isatty(descriptor):
            with suppress(OSError, AttributeError):  # not on every system
                descriptor = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        elif stat.S_ISFIFO(kind) and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)
        self._descriptor = descriptor

    @property
    def terminal(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> None:
        """Write it now if that needs no waiting, else when there is room, else never."""
        if self._descriptor < 0:
            self._write_plainly(text)
            return
        data = text.encode(errors="backslashreplace")
        if self._waiting:
            self._drain()
        if not self._waiting:
            data = self._put(data)
        if data and self._waiting and self._size + len(data) > self._room:
            self.dropped += 1
        elif data:
            self._waiting.append(data)
            self._size += len(data)
            self._watch()

    def _write_plainly(self, text: str) -> None:
        """To memory, or to nothing."""
        try:
            if self._stream is None:
                raise OSError
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1

    def _put(self, data: bytes) -> bytes:
        """Write what is taken without waiting, and give back the rest. What cannot be written at all is lost."""
        try:
            while data and (self._poll is None or self._poll.poll(0)):
                if self._socket is not None:
                    taken = self._socket.send(data, socket.MSG_DONTWAIT)
                else:
                    taken = os.write(self._descriptor, data[:_AT_ONCE])
                data = data[taken:]
        except BlockingIOError:
            return data
        except OSError:  # nobody reads, the disk is full
            self.dropped += 1
            return b""
        if not data and self.dropped > self._reported and not self._waiting and self.on_flow is not None:
            self._reported = self.dropped
            self.on_flow()
        return data

    def _drain(self) -> None:
        """Write what waits."""
        while self._waiting:
            data = self._waiting.popleft()
            rest = self._put(data)
            self._size -= len(data) - len(rest)
            if rest:
                self._waiting.appendleft(rest)
                return
        self._unwatch()

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
        self._unwatch()
        self.on_flow = None
        until = time.monotonic() + patience
        while self._waiting and (left := until - time.monotonic()) > 0:
            select.select((), (self._descriptor,), (), left)
            self._drain()
        if self._socket is not None:
            self._socket.close()
