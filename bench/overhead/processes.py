"""Processes that a benchmark starts: each on its core where it has one, each ended by its id whatever happens.

Two cores are used: one for the gateway that is measured, one for the mock engine and the load generator. Everything
listens on loopback.
"""

from __future__ import annotations

import http.client
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.overhead.accounting import tree


class DidNotStart(Exception):
    """A process ended, or did not answer in time. The message has the end of its log."""


def cores() -> tuple[int, int]:
    """The core of the gateway, and the core of everything else (the same one where there is no other)."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pinned(core: int | None, command: Sequence[str]) -> list[str]:
    """The command, on this core alone; None: wherever there is room."""
    return list(command) if core is None else ["taskset", "-c", str(core), *command]


def machine() -> str:
    """What this runs on, for the head of a table."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def free_port() -> int:
    """A port of loopback that nobody listens on. Somebody else may take it before it is used, which then shows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A running process and where it listens."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} port={self.port}>"

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-1500:]

    def check_alive(self) -> None:
        """Raises DidNotStart if the process has ended."""
        if self.process.poll() is not None:
            raise DidNotStart(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")

    def wait_ready(self, path: str, timeout: float, pause: float = 0.02) -> None:
        """Wait until GET `path` is answered, with any status. Raises DidNotStart."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check_alive()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                connection.request("GET", path)
                connection.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(pause)
            finally:
                connection.close()
        raise DidNotStart(f"{self.name} did not answer within {timeout:g} s:\n{self.last_words()}")

    def end(self) -> None:
        """Ask the whole tree to stop, then make it. Idempotent."""
        pids = tree(self.pid) if self.process.poll() is None else {self.pid}
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        for pid in (pids & _living(pids)) - {self.pid}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _living(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


class Children:
    """All processes of one benchmark; leaving the `with` block ends them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._running):
            child.end()

    def start(
        self, name: str, command: Sequence[str], core: int | None, port: int, environ: Mapping[str, str] | None = None
    ) -> Child:
        """Start `command` on `core`. Its output goes to a log file that is written anew."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                pinned(core, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environ or {})},
            )
        child = Child(name, process, port, log)
        self._running.append(child)
        return child

    def end(self, child: Child) -> None:
        child.end()
        self._running.remove(child)
