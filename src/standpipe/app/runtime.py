"""What every process of ours does, whatever it is for: its loop, its signals, its log, its sockets and descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from standpipe.edge.listen import ListenError, inherited, open_tcp, open_unix, raise_descriptors
from standpipe.engines.llama.llama import LlamaFailed
from standpipe.models.catalog import ModelUnavailable
from standpipe.observe.log import Logger
from standpipe.observe.outlet import Outlet
from standpipe.settings import Settings, SettingsError

_OTHER_DESCRIPTORS = 512
"""What a process needs besides connections: files, pipes, listening sockets."""
_LONGEST_WARNING = 500
"""Characters of what a library says."""
_STOP = (signal.SIGINT, signal.SIGTERM)
_CALLS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) if hasattr(signal, "SIGHUP") else ()  # not on Windows
_LOOK = 0.5
"""Seconds after which a loop that no signal wakes looks for one."""
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}


FAILURES = (SettingsError, ModelUnavailable, LlamaFailed, ListenError)
"""What can be wrong at a start, each with a sentence for the operator."""


def told_why(failure: Exception) -> int:
    """Say why it cannot start; gives the exit status. There is no server to log for."""
    Outlet(sys.stderr).write(f"standpipe: {failure}\n")
    return 2 if isinstance(failure, SettingsError) else 1


class LibraryLog(logging.Handler):
    """What libraries log, in our log: standard error, where it went otherwise, may block."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("a library warns", library=record.name, text=record.getMessage()[:_LONGEST_WARNING])


def unraisable(log: Logger, what: sys.UnraisableHookArgs) -> None:
    """An exception where none can be raised, in a destructor for one: a bug like any other."""
    log.error("bug", message=what.err_msg, error=what.exc_value)


def hear_all(log: Logger) -> None:
    """What libraries log, and exceptions where none can be raised, go into this log from now on."""
    logging.getLogger().handlers = [LibraryLog(log)]
    sys.unraisablehook = partial(unraisable, log)


def occupy() -> None:
    """Let no socket get the number of a standard stream that was closed before we began: libraries write to those."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where there is one, else asyncio's own that tells when a socket can be read: on Windows not the usual."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


class Signals:
    """Ctrl-C and SIGTERM as two events: the first asks to drain, the second to leave at once. SIGHUP, SIGUSR1 and
    SIGUSR2 as calls of what is in `on`, which do nothing until there is something to do."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.leave = asyncio.Event()
        self.on: dict[int, Callable[[], None]] = {}
        loop = asyncio.get_running_loop()
        try:
            for number in _STOP:
                loop.add_signal_handler(number, self._stop)
            for number in _CALLS:
                loop.add_signal_handler(number, self._call, number)
        except NotImplementedError:  # Windows
            for number in _STOP:
                signal.signal(number, lambda *_: self._stop())
            self._look()

    def _look(self) -> None:
        """Turn the loop now and then: there, it sleeps through a signal."""
        asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _stop(self) -> None:
        (self.leave if self.drain.is_set() else self.drain).set()

    def _call(self, number: int) -> None:
        if number in self.on:
            self.on[number]()

    def end(self) -> None:
        """From now on there is nothing left to stop: a late signal must not spoil the exit status."""
        loop = asyncio.get_running_loop()
        for number in (*_STOP, *_CALLS):
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def first(work: asyncio.Future[Any], stop: asyncio.Event) -> bool:
    """Wait for the work, or for the event: then the work is cancelled and the answer is false."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    return not work.cancelled()


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have this done meanwhile, and stop it at the end."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def calm_collector() -> None:
    """What stands now stays: the garbage collector need not look at it again and again. What an ask leaves behind is
    free of cycles but for few, so it may wait for more than the 700 new objects that Python waits for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


class Sockets(NamedTuple):
    """Listening sockets. Both kinds are open before anybody is let in by either: who cannot have both has neither."""

    public: list[socket.socket]
    admin: list[socket.socket]


def open_sockets(settings: Settings) -> Sockets:
    """Public: passed sockets, if any; else the one UNIX socket; else host and port. Raises ListenError."""
    admin = open_tcp(settings.admin_host, settings.admin_port) if settings.admin_port else []
    try:
        return Sockets(_public(settings), admin)
    except ListenError:
        for sock in admin:
            sock.close()
        raise


def _public(settings: Settings) -> list[socket.socket]:
    if passed := inherited(os.environ, os.getpid()):
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # they are ours now, and no child's
        return passed
    if settings.unix_socket:
        return [open_unix(Path(settings.unix_socket))]
    return open_tcp(settings.host, settings.port, reuse_port=settings.reuse_port)


def enough_descriptors(settings: Settings, log: Logger) -> None:
    """One for each client, for a quarter more who are being told that there is no room, and for each running ask's
    connection to an engine."""
    wanted = settings.connections * 5 // 4 + settings.streams + _OTHER_DESCRIPTORS
    granted = raise_descriptors(wanted)
    if granted < wanted:
        log.warning(
            "the system allows fewer open files than `connections` and `streams` need (ulimit -n)",
            granted=granted,
            wanted=wanted,
        )


def unexpected(log: Logger, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught: a bug, or a socket that the system would not give."""
    message, error = context.get("message"), context.get("exception")
    if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
        log.error("out of file descriptors", message=message, reason=error.strerror)
    else:
        log.error("bug", message=message, error=error)
