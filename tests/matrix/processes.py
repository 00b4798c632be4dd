"""What a run starts: servers, each in a group of its own and ended by it, and relays whose connections can be cut."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from bench.overhead.accounting import use
from bench.overhead.processes import DidNotStart, free_port

__all__ = ["DidNotStart", "Relay", "Server", "free_port", "grows_idle"]


class Server:
    """A program that listens on a port of loopback. Leaving the `with` block ends it and all that it started."""

    def __init__(self, command: Sequence[str], port: int, log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["nice", "-n", "10", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environ or {})},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, patience: float) -> None:
        """Wait until it lists its models. Raises DidNotStart."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with closing(connection), suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/v1/models")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        said = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise DidNotStart(f"it lists no models within {patience:g} s:\n{said}")

    def kill(self) -> None:
        """At once, with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def grows_idle(pid: int, idle: float) -> bool:
    """Whether a tree of processes comes to rest within seconds; `idle` is the share of a core that it uses at rest."""
    for _ in range(8):
        before = use(pid).cpu
        time.sleep(0.5)
        if (use(pid).cpu - before) / 0.5 <= idle + 0.3:
            return True
    return False


class Relay:
    """Passes connections on to a port, until it is cut: then all break, and no more are taken."""

    def __init__(self, target: int) -> None:
        open_: set[socket.socket] = set()
        last = [0.0]

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", target)) as there:
                    here = self.request
                    open_.update({here, there})
                    back = threading.Thread(target=_pump, args=(there, here, last), daemon=True)
                    back.start()
                    _pump(here, there, [])
                    back.join()
                    open_.difference_update({here, there})

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._open = open_
        self._last = last
        self._server = Listener(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def cut(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @property
    def last(self) -> float:
        """When it last passed something back."""
        return self._last[0]


def _pump(source: socket.socket, target: socket.socket, last: list[float]) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            last[:] = [time.monotonic()]
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
