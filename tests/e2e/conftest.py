"""Real servers for end-to-end tests: `standpipe serve` in a process of its own, on a port that the system chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import pytest

PATIENCE = 60.0
"""Seconds after which a server that neither serves nor ends is a failure."""


QUICK = """
import functools
from standpipe.app import app, center
from standpipe.serve.stream import StreamTimeouts
app.App = functools.partial(app.App, timeouts=StreamTimeouts(commit_after=0.1, heartbeat=0.1))
center.Center = functools.partial(center.Center, attempts=1)
"""
"""Run first, it makes a server that tells a client soon that it waits, and attempts once."""
STDLIB_LOOP = "import sys; sys.modules['uvloop'] = None"
"""Run first, it makes a server on asyncio's own loop."""


class Server:
    """A running server. `url` is its address; `stop` drains it and gives its exit status. As a context manager it must
    end with status 0 when told to stop. `first` is Python that its process runs before anything else. What it logs
    after its address is the test's to read, or, `attended`, read as it comes: a pipe that nobody reads is soon full.
    """

    def __init__(self, *flags: str, first: str = "", attended: bool = False) -> None:
        fixed = ["--port", "0", "--admin-port", "0", "--log-format", "json"]
        program = f"{first}\nfrom standpipe.cli import main\nmain()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *fixed, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("STANDPIPE_")},
        )
        self.lines: list[str] = []
        self.url = self._address()
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()))
        if attended:
            self._reader.start()

    def _address(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("{") and (event := json.loads(line))["event"] == "serving":
                return str(event["address"])
        raise AssertionError(f"it did not serve: {self.log}")

    def stop(self) -> int:
        """Ask it to drain, wait for its end, keep what it logged."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            if self._reader.is_alive():
                self.process.wait(PATIENCE)
                self.said = self.process.stdout.read()
                self._reader.join()
            else:
                self.said, rest = self.process.communicate(timeout=PATIENCE)
                self.lines += rest.splitlines(keepends=True)
        return self.process.returncode

    def close(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()
        if self._reader.is_alive():
            self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            assert kind is not None or self.stop() == 0, self.log
        finally:
            self.close()

    @property
    def log(self) -> str:
        return "".join(self.lines)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers; each must end with status 0 when told to stop."""
    with ExitStack() as servers:
        yield lambda *flags, **how: servers.enter_context(Server(*flags, **how))


@pytest.fixture(scope="module")
def tap() -> Iterator[Server]:
    """One server with a quick scripted engine and no pace, for tests that only ask."""
    with Server("--engine", "scripted:?tokens=12&model=gpt-oss:latest", "--pace-interval", "0") as server:
        yield server
