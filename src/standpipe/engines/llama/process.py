"""A child process: started, heard out, and ended for certain.

Knows nothing of what the child does, only the manners that are asked of it: it reads one line from its standard input,
prints one line when it is ready, logs to its standard error, and ends when its standard input closes. Both its outputs
are always read, so that it never waits for us; what it logs is passed on, and the last of it kept, because that is
where the reason stands when it dies.

It must be started from a thread that stays, which is the event loop's: on Linux a child may have asked the kernel to
be killed when the thread that started it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

KEPT: Final = 50
"""Lines of its log that are remembered."""
_LONGEST: Final = 1000
"""Characters of a line that are worth keeping."""
_LAST_WORDS: Final = 1.0
"""Seconds to wait for the rest of what a child that ended has said."""


class ChildFailed(Exception):
    """It did not get ready. `code` is its exit code, None when it was too slow; `lines` the last that it logged."""

    def __init__(self, message: str, code: int | None, lines: tuple[str, ...]) -> None:
        super().__init__(message)
        self.code = code
        self.lines = lines


class Child:
    """One run of a program. Made by `start`."""

    def __init__(self, transport: asyncio.SubprocessTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener
        self.said = b""
        """The line that it printed when it was ready."""

    @classmethod
    async def start(cls, command: Sequence[str], told: bytes, *, within: float, log: Callable[[str], None]) -> Child:
        """Run `command`, tell it one line, and wait until it is ready.

        `log` is called with each line that it logs, for as long as it lives. Cancelling this ends the child. Raises
        ChildFailed when it ends before it is ready, or is not ready in so many seconds; and OSError.
        """
        loop = asyncio.get_running_loop()
        # A session of its own: a Ctrl-C at the terminal is for us, and we tell the child.
        transport, listener = await loop.subprocess_exec(lambda: _Listener(loop, log), *command, start_new_session=True)
        child = cls(transport, listener)
        try:
            _write(transport, told + b"\n")
            async with asyncio.timeout(within):
                waited: set[asyncio.Future[Any]] = {listener.ready, listener.ended}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await child._abandon()
            raise ChildFailed(f"it was not ready within {within:g} s", None, child.recent) from None
        except BaseException:
            await child._abandon()
            raise
        if not listener.ready.done():
            await asyncio.wait({listener.heard_out}, timeout=_LAST_WORDS)
            code = listener.ended.result()
            transport.close()
            raise ChildFailed(describe(code), code, child.recent)
        child.said = listener.ready.result()
        return child

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._listener.ended.result() if self._listener.ended.done() else None

    @property
    def recent(self) -> tuple[str, ...]:
        """The last lines that it logged."""
        return tuple(self._listener.recent)

    def computed(self) -> float | None:
        """Seconds of processor time that it has used; None where the system does not tell."""
        try:
            # proc(5): what follows the name, which may hold anything, in its brackets.
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return None

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call this when it has ended, before whoever waits for that goes on."""
        self._listener.ended.add_done_callback(lambda _: call())

    async def wait(self, timeout: float | None = None) -> int | None:  # noqa: ASYNC109  # running out is no fault here
        """Its exit code as soon as it ends; None when it has not ended after so many seconds."""
        await asyncio.wait({self._listener.ended}, timeout=timeout)
        return self.code

    def kill(self) -> None:
        """End it at once. Does nothing when it has ended already."""
        self._send(signal.SIGKILL)

    async def stop(self, grace: float) -> None:
        """End it: ask, then insist after `grace` seconds. Idempotent."""
        self._send(signal.SIGTERM)
        if await self.wait(grace) is None:
            self.kill()
            await self.wait()
        self._transport.close()

    async def _abandon(self) -> None:
        """It is no use any more. Shielded, because this also happens while we are being cancelled."""
        self.kill()
        await asyncio.shield(self.wait())
        self._transport.close()

    def _send(self, what: signal.Signals) -> None:
        if not self._listener.ended.done():
            with suppress(ProcessLookupError):  # it has ended, and we are about to be told
                self._transport.send_signal(what)

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'alive' if self.code is None else describe(self.code)}>"


def describe(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def _write(transport: asyncio.SubprocessTransport, data: bytes) -> None:
    pipe = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))  # no class of uvloop's says that it is one
    if not pipe.is_closing():  # it may have ended already, which is told elsewhere
        pipe.write(data)


class _Listener(asyncio.SubprocessProtocol):
    """Takes what the child says, line by line."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Callable[[str], None]) -> None:
        self.ready: asyncio.Future[bytes] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.heard_out: asyncio.Future[None] = loop.create_future()
        self.recent: deque[str] = deque(maxlen=KEPT)
        self._log = log
        self._transport: asyncio.SubprocessTransport
        self._rest = {1: b"", 2: b""}

    def connection_made(self, transport: asyncio.SubprocessTransport) -> None:  # type: ignore[override]  # it is one
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._rest[fd] + data).split(b"\n")
        self._rest[fd] = rest[:_LONGEST]
        for line in lines:
            self._take(fd, line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if fd == 2:
            if self._rest[fd]:
                self._take(fd, self._rest[fd])
            if not self.heard_out.done():
                self.heard_out.set_result(None)

    def process_exited(self) -> None:
        code = self._transport.get_returncode()
        if not self.ended.done():
            self.ended.set_result(-1 if code is None else code)

    def _take(self, fd: int, line: bytes) -> None:
        if fd == 1:
            if not self.ready.done():
                self.ready.set_result(line)
            return
        text = line[:_LONGEST].decode(errors="replace").rstrip()
        if text:
            self.recent.append(text)
            self._log(text)
