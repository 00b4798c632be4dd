"""A channel: messages, each whole, and descriptors beside them, over a UNIX socket between two processes.

Sequenced packets keep messages apart, so nothing is framed here. A message without a descriptor waits in memory for a
slow reader, which is a process of ours; one with a descriptor is refused then, so that somebody else may have it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

_LARGEST = 65_536
"""Bytes of one message."""
_AT_ONCE = 16
"""Messages that are read in one turn of the loop: each may begin a connection."""
_MUCH = 8
"""Messages that wait when a peer counts as slow."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel(Generic[_In, _Out]):
    """One end. `on_message` gets each message, with the socket that came with it; `on_end` is called once, when the
    other side has gone. Closing it by oneself calls nothing."""

    def __init__(
        self,
        sock: socket.socket,
        understood: Any,
        on_message: Callable[[_In, socket.socket | None], None],
        on_end: Callable[[], None],
    ) -> None:
        """`understood` is the type of messages that come: a union of tagged structs. What is none of them is skipped,
        so that neighbours may be one version apart."""
        sock.setblocking(False)
        self._socket = sock
        self._decode = msgspec.msgpack.Decoder(understood).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        self.closed = False

    @property
    def slow(self) -> bool:
        """Whether the other side does not read what it is sent."""
        return len(self._waiting) > _MUCH

    def send(self, message: _Out) -> None:
        """Send it now, or when there is room."""
        if self.closed:
            return
        data = self._encode(message)
        if self._waiting or not self._put(data):
            if not self._waiting:
                self._loop.add_writer(self._socket, self._flush)
            self._waiting.append(data)

    def give(self, message: _Out, sock: socket.socket) -> bool:
        """Send it with a socket, which is closed here then. False if there is no room for it now."""
        if self.closed or self._waiting:
            return False
        try:
            socket.send_fds(self._socket, [self._encode(message)], [sock.fileno()])
        except BlockingIOError:
            return False
        except OSError:
            self._ended()
            return False
        sock.close()
        return True

    def _put(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError:
            self._ended()
        return True

    def _flush(self) -> None:
        while self._waiting and not self.closed:
            if not self._put(self._waiting[0]):
                return
            if not self.closed:
                self._waiting.popleft()
        if not self.closed:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self.closed:
                return
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._ended()
                return
            if not data:
                self._ended()
                return
            came = socket.socket(fileno=descriptors[0]) if descriptors else None
            try:
                message = self._decode(data)
            except msgspec.ValidationError:
                if came is not None:
                    came.close()
                continue
            self._on_message(message, came)

    def _ended(self) -> None:
        if not self.closed:
            self.close()
            self._on_end()

    def close(self) -> None:
        """Let go of the socket. What waits is lost. Idempotent."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._waiting.clear()

    def __repr__(self) -> str:
        return f"<Channel {'closed' if self.closed else 'open'}, {len(self._waiting)} waiting>"
