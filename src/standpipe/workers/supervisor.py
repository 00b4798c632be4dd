"""The supervisor: the parent of the keeper and of the workers. It serves nobody, and so has next to nothing to fail at.

It holds what must outlive any of them: the listening sockets, to which connections come while a keeper is replaced. It
starts each child as a fork of itself, starts it again when it ends, later each time; ends it when it hangs; and writes
what all of them log to its own standard error, line by line, so that none is torn.

SIGTERM and Ctrl-C let everybody finish, and at the second time leave. SIGHUP is passed on once `check` finds nothing
wrong. SIGUSR1 is passed on. SIGUSR2 replaces the workers one by one, then the keeper, if `check` finds nothing wrong: a
new worker serves before the old one takes no more, which ends when its last connection has ended.

No event loop runs here: a fork in the middle of one would be a copy of it.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, cast

from msgspec import Struct

from standpipe.workers.lifeline import EVERY, READY, SILENT

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds before a child that has ended is started again: twice as long each time, and from the beginning once it has
lived for some."""
_LIVED: Final = 10.0
_OVERTIME: Final = 5.0
"""Seconds beyond `grace` after which children that do not end are ended."""
_LINE: Final = 65_536
"""Bytes of one line of the log at most."""
_NAMES = {"SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD"}
_SIGNALS: Final = tuple(number for number in signal.Signals if number.name in _NAMES)
"""All of them, where there are workers; elsewhere this can be imported, no more."""


class Role(StrEnum):
    """What a child is for."""

    KEEPER = "keeper"
    WORKER = "worker"


class Part(Struct, frozen=True):
    """What a child is told at its start. `number` is its own, from 0; `first`: nothing has been served yet."""

    role: Role
    number: int
    lifeline: socket.socket
    first: bool


class _Child:
    """One process."""

    def __init__(self, part: Part, pid: int, lifeline: socket.socket, log: socket.socket) -> None:
        self.part = part
        self.pid = pid
        self.lifeline = lifeline
        self.log = log
        self.partial = b""
        """The beginning of a line."""
        self.ready = False
        self.leaving = False
        """It has been told to end: nobody starts it again."""
        self.since = self.heard = time.monotonic()

    @property
    def name(self) -> str:
        return f"{self.part.role} {self.part.number}"


class Supervisor:
    """The parent of one keeper and some workers."""

    def __init__(
        self,
        play: Callable[[Part], int],
        workers: int,
        *,
        grace: Callable[[], float],
        tell: Callable[..., None],
        write: Callable[[str], None],
        check: Callable[[], bool],
        on_stop: Callable[[], None],
    ) -> None:
        """`play` is what a child does, and gives its exit status; everything that it needs of here it gets by the fork.

        Args:
            play: plays a part until told to stop.
            workers: how many.
            grace: seconds that running answers have at the end.
            tell: logs a level, an event and its fields.
            write: writes text to where the log goes.
            check: whether what SIGHUP would load is right; logs what is not.
            on_stop: called once, when no child is started any more: what was kept open for the next may be closed.
        """
        self._play = play
        self._workers = workers
        self._grace = grace
        self._tell = tell
        self._write = write
        self._check = check
        self._on_stop = on_stop
        self._children: dict[int, _Child] = {}
        self._pauses: dict[tuple[Role, int], float] = {}
        self._due: list[tuple[float, Role, int]] = []
        """What is to be started, and when."""
        self._stopping: float | None = None
        """When whoever is left is ended."""
        self._served = False
        self._reloaded = -math.inf
        """When SIGHUP was passed on last: whoever was starting then has read what was there before."""
        self._status = 0
        self._replacing: Iterator[None] | None = None
        self._looked = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def run(self) -> int:
        """Until all children have ended. Gives the exit status."""
        self._listen_to_signals()
        # What stands now is shared with every child for as long as none of them touches it.
        gc.collect()
        gc.freeze()
        self._start(Role.KEEPER, 0)  # the workers follow when it serves: what is wrong is said once
        while self._children or (self._due and self._stopping is None):
            for key, _ in self._selector.select(self._patience()):
                if cast("socket.socket", key.fileobj).fileno() >= 0:  # its child may have ended a moment ago
                    key.data()
            self._look()
        return self._status

    def _listen_to_signals(self) -> None:
        for end in (self._woken, self._waker):
            end.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._signalled)

    def _patience(self) -> float:
        """Seconds until something is due, at most until the next beats."""
        now = time.monotonic()
        due = [now + EVERY, *(at for at, _, _ in self._due)]
        if self._stopping is not None:
            due.append(self._stopping)
        return max(0.0, min(due) - now)

    # Children.

    def _start(self, role: Role, number: int) -> None:
        try:
            ours, theirs = socket.socketpair()
            log_here, log_there = socket.socketpair()
            # Until it has handlers of its own, a signal would be swallowed there, and be told to us as our own.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = os.fork()
        except OSError as error:  # there is no descriptor, process or memory left
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            name, pause = f"{role} {number}", _LONGEST_PAUSE
            self._tell("error", "process not started", process=name, reason=error.strerror, restart_in=pause)
            self._due.append((time.monotonic() + pause, role, number))
            return
        part = Part(role, number, theirs, first=not self._served)
        if pid == 0:
            # The parent's ends must be the parent's alone: that they are closed is how a child sees it end.
            ours.close()
            log_here.close()
            self._become(part, log_there)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for end in (theirs, log_there):
            end.close()
        for end in (ours, log_here):
            end.setblocking(False)
        child = self._children[pid] = _Child(part, pid, ours, log_here)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        self._selector.register(log_here, selectors.EVENT_READ, lambda: self._gather(child))

    def _become(self, part: Part, log: socket.socket) -> None:
        """The child's first steps, and its last."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.setsid()  # a Ctrl-C at the terminal is for the parent
            os.dup2(log.fileno(), 2)
            log.close()
            self._selector.close()
            for end in (self._woken, self._waker):
                end.close()
            for child in self._children.values():
                child.lifeline.close()
                child.log.close()
            self._children.clear()
            status = self._play(part)
        finally:
            os._exit(status)

    def _hear(self, child: _Child) -> None:
        try:
            said = child.lifeline.recv(4096)
        except (BlockingIOError, ConnectionError):
            return
        if not said:
            self._selector.unregister(child.lifeline)
            return
        child.heard = time.monotonic()
        if READY in said and not child.ready:
            child.ready = True
            self._tell("info", "process serves", process=child.name, pid=child.pid)
            if child.since < self._reloaded:
                _kill(child, signal.SIGHUP)
            if not self._served:
                self._go_on_starting(child)
            self._go_on_replacing()

    def _go_on_starting(self, child: _Child) -> None:
        if child.part.role is Role.KEEPER:
            for number in range(self._workers):
                self._start(Role.WORKER, number)
        if all(one.ready for one in self._children.values()):
            self._served = True
            self._tell("info", "all processes serve", workers=self._workers)

    def _gather(self, child: _Child) -> bool:
        """Pass on what it has logged. Whether there may be more."""
        try:
            data = child.log.recv(_LINE)
        except (BlockingIOError, ConnectionError):
            return False
        if not data:
            self._selector.unregister(child.log)
            return False
        whole, end, rest = (child.partial + data).rpartition(b"\n")
        child.partial = rest[:_LINE]
        if end:
            self._write((whole + end).decode(errors="backslashreplace"))
        return True

    def _ended(self, child: _Child, status: int) -> None:
        del self._children[child.pid]
        while child.log.fileno() in self._selector.get_map() and self._gather(child):
            pass
        if child.partial:
            self._write(child.partial.decode(errors="backslashreplace") + "\n")
        for end in (child.lifeline, child.log):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            end.close()
        if self._stopping is not None or child.leaving:
            self._go_on_replacing()
            return
        if not child.ready and not self._served:
            # What does not come up at the very start would not the next time either, and has said why.
            self._status = status or 1
            self._stop(signal.SIGKILL)
            return
        part, now = child.part, time.monotonic()
        before = 0.0 if now - child.since > _LIVED else self._pauses.get((part.role, part.number), 0.0)
        pause = self._pauses[part.role, part.number] = min(max(2 * before, _FIRST_PAUSE), _LONGEST_PAUSE)
        # The first time at once: people wait.
        pause = pause if before else 0.0
        self._tell("error", "process ended", process=child.name, status=_in_words(status), restart_in=pause)
        self._due.append((now + pause, part.role, part.number))

    def _look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if (missed := now - self._looked - EVERY) > EVERY:
            # It is we who stood still, perhaps with all of them (`docker pause`): nobody could be heard meanwhile.
            for child in self._children.values():
                child.heard += missed
        self._looked = now
        for child in tuple(self._children.values()):
            if now - child.heard >= SILENT:
                self._tell("error", "process hangs", process=child.name, seconds=round(now - child.heard))
                child.heard = now
                _kill(child, signal.SIGKILL)
        due = [one for one in self._due if one[0] <= now]
        self._due = [one for one in self._due if one[0] > now]
        for _, role, number in due:
            if self._stopping is None:
                self._start(role, number)
        if self._stopping is not None and now >= self._stopping:
            self._stopping = now + _OVERTIME
            for child in self._children.values():
                _kill(child, signal.SIGKILL)

    # Signals.

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._woken.recv(64):
                match number:
                    case signal.SIGCHLD:
                        self._reap()
                    case signal.SIGINT | signal.SIGTERM:
                        self._stop(signal.SIGTERM)
                    case signal.SIGHUP:
                        if self._check():
                            self._reloaded = time.monotonic()
                            self._ask(signal.SIGHUP)
                    case signal.SIGUSR1:
                        self._ask(signal.SIGUSR1)
                    case signal.SIGUSR2:
                        self._begin_replacing()
                    case _:
                        pass

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (child := self._children.get(pid)) is not None:
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ask(self, number: signal.Signals) -> None:
        """Of those that serve: the others do not listen yet, and would end."""
        for child in self._children.values():
            if child.ready:
                _kill(child, number)

    def _stop(self, number: signal.Signals) -> None:
        """Let everybody finish; at the second call, leave."""
        self._due.clear()
        self._replacing = None
        if self._stopping is None:
            self._stopping = time.monotonic() + (self._grace() + _OVERTIME if number == signal.SIGTERM else 0.0)
            self._on_stop()
        for child in self._children.values():
            _kill(child, number)

    # A rolling restart.

    def _begin_replacing(self) -> None:
        if self._replacing is None and self._stopping is None and self._check():
            self._tell("info", "replacing processes", workers=self._workers)
            self._replacing = self._replace()
            self._go_on_replacing()

    def _go_on_replacing(self) -> None:
        if self._replacing is not None and next(self._replacing, self) is self:
            self._replacing = None
            self._tell("info", "processes replaced")

    def _replace(self) -> Iterator[None]:
        """Step by step, whenever a child is ready or has ended."""
        for number in range(self._workers):
            old = [child for child in self._children.values() if _is(child, Role.WORKER, number) and not child.leaving]
            self._due = [one for one in self._due if one[1:] != (Role.WORKER, number)]
            for child in old:
                child.leaving = True  # if it ends now, the new one is there already
            self._start(Role.WORKER, number)
            while not self._stands(Role.WORKER, number):
                yield
            for child in old:
                _let_go(child)
        for child in tuple(self._children.values()):
            if _is(child, Role.KEEPER, 0):
                child.leaving = True
                _let_go(child)
                while child.pid in self._children:
                    yield
                self._start(Role.KEEPER, 0)
        while not self._stands(Role.KEEPER, 0):
            yield

    def _stands(self, role: Role, number: int) -> bool:
        return any(_is(child, role, number) and child.ready and not child.leaving for child in self._children.values())


def _is(child: _Child, role: Role, number: int) -> bool:
    return child.part.role is role and child.part.number == number


def _let_go(child: _Child) -> None:
    """Who does not serve yet does not listen either, and has nobody to finish with."""
    _kill(child, signal.SIGUSR2 if child.ready else signal.SIGKILL)


def _kill(child: _Child, number: signal.Signals) -> None:
    """Only ever a child that has not been waited for: its pid is nobody else's yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, number)


def _in_words(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
