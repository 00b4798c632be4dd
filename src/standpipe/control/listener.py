"""The server's end of the operator's socket. Whoever may not open it cannot change anything here.

The socket file is 0600 before it can be seen, in a folder that is only its user's, and the kernel says who calls: the
server's user or root, nobody else. One order for a connection, a few connections at a time, and none is waited for
longer than seconds, so that nobody here can slow down who asks in front.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from standpipe.control.orders import LONGEST, Answer, Order, Refused
from standpipe.edge.listen import NO_UNIX_SOCKETS, ListenError, open_unix

PATIENCE = 5.0
"""Seconds within which a caller has said what it wants, and within which it has read what came of it."""
MOST = 16
"""Callers at a time."""
_SERVERS = 9
"""Servers that may be called the same: while one takes over from another, there are two."""

Command = Callable[[dict[str, Any], str], Awaitable[Any]]
"""Takes the order's arguments and who gave it, gives what JSON can tell. Raises Refused."""


class Listener:
    """Obeys whoever may give orders.

    Args:
        sock: listens, at `path`.
        commands: by name.
        on_bug: is told what nobody expected.
    """

    def __init__(
        self, sock: socket.socket, path: Path, commands: Mapping[str, Command], on_bug: Callable[[Exception], None]
    ) -> None:
        self.path = path
        self._sock = sock
        self._commands = commands
        self._on_bug = on_bug
        self._callers = 0

    async def listen(self) -> None:
        """For ever. Cancelled, it takes the socket's file away."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        caller, _ = await loop.sock_accept(self._sock)
                    except OSError:  # out of descriptors, for one
                        await asyncio.sleep(1.0)
                        continue
                    if self._callers < MOST:
                        group.create_task(self._meet(caller))
                    else:
                        caller.close()
        finally:
            self.path.unlink(missing_ok=True)
            self._sock.close()

    async def _meet(self, caller: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._callers += 1
        try:
            with caller, suppress(OSError, TimeoutError):
                caller.setblocking(False)
                answer = await self._hear(caller)
                async with asyncio.timeout(PATIENCE):
                    await loop.sock_sendall(caller, msgspec.json.encode(answer) + b"\n")
        finally:
            self._callers -= 1

    async def _hear(self, caller: socket.socket) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE):
                line = await _line(caller)
        except TimeoutError:
            return Answer(error=f"no command came within {PATIENCE:g} s: it is one line of JSON")
        uid = caller_of(caller)
        if uid not in {os.geteuid(), 0}:
            return Answer(error="only the server's own user and root may use this socket")
        return await self._obey(line, _name(uid))

    async def _obey(self, line: bytes, by: str) -> Answer:
        try:
            if not line.endswith(b"\n"):
                raise Refused(f"a command is one line of JSON, of at most {LONGEST} bytes")
            order = msgspec.json.decode(line, type=Order)
            if (command := self._commands.get(order.command)) is None:
                raise Refused(f"there is no command {order.command!r}; there are: {', '.join(self._commands)}")
            return Answer(result=await command(order.arguments, by))
        except Refused as refused:
            return Answer(error=str(refused))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Answer(error=f"the command cannot be read: {error}")
        except Exception as bug:  # noqa: BLE001 - whatever an order breaks, the server goes on
            self._on_bug(bug)
            return Answer(error="this is a fault of the server; its log has more")

    def __repr__(self) -> str:
        return f"<Listener {self.path}>"


async def _line(caller: socket.socket) -> bytes:
    """What the caller says, up to the end of the line, of its words, or of what may be said."""
    loop = asyncio.get_running_loop()
    said = b""
    while not said.endswith(b"\n") and len(said) < LONGEST:
        piece = await loop.sock_recv(caller, LONGEST - len(said))
        if not piece:
            break
        said += piece
    return said


def caller_of(sock: socket.socket) -> int:
    """The user at the other end, as the kernel knows it; our own where it does not tell, as the file's mode holds."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _name(uid: int) -> str:
    import pwd  # noqa: PLC0415 - not on Windows, where nobody calls

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def open_socket(folder: Path, label: str) -> tuple[socket.socket, Path]:
    """Listen at `folder/label.sock`, or at `label.2.sock` while another server is there. The folder is made where there
    is none, and must be nobody else's. What a dead server left behind is replaced. Raises ListenError."""
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(NO_UNIX_SOCKETS)
    import fcntl  # noqa: PLC0415 - not on Windows either

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid not in {os.geteuid(), 0} or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ListenError(f"{folder} is not this user's own")
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ListenError(f"{folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that start at once do not take each other's for a dead one's
        for number in count(1):
            path = folder / f"{label}{f'.{number}' if number > 1 else ''}.sock"
            try:
                return open_unix(path, mode=0o600), path
            except ListenError:
                if number == _SERVERS:
                    raise
    finally:
        os.close(lock)
    raise AssertionError
