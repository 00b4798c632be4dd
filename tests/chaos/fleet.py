"""Three raw engines, a real Standpipe before them, and what can be done to each: killed, stopped, spoilt."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Self

import msgspec

from bench.overhead.processes import free_port
from tests.chaos.engine import Counts, Mode

SLOTS = 32
"""Of each engine: two of three carry the whole crowd."""


class Fleet:
    """Use it as an async context manager. `port` is Standpipe's."""

    def __init__(self, engines: int = 3, *flags: str, slots: int = SLOTS) -> None:
        self._flags = flags
        self._slots = slots
        self._ports = [free_port() for _ in range(engines)]
        self._engines: list[Process | None] = [None] * engines
        self._tap: Process | None = None
        self._workers = any(flag.startswith("--workers") for flag in flags)
        self.port = 0
        self.processes: dict[str, int] = {}
        """The keeper and the workers by name, where there are several."""
        self.log: list[dict[str, object]] = []
        """What Standpipe logged."""
        self._logging: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            for number in range(len(self._ports)):
                await self.start(number)
            await self._serve()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._logging is not None:
            self._logging.cancel()
        for process in (self._tap, *self._engines):  # Standpipe's other processes end with the first
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()

    async def _serve(self) -> None:
        engines = [f"--engine=http://127.0.0.1:{port}/v1#slots={self._slots}" for port in self._ports]
        fixed = ["--port=0", "--admin-port=0", "--log-format=json", "--pace-interval=0", "--trusted-proxies=127.0.0.1"]
        self._tap = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "standpipe", "serve", *fixed, *engines, *self._flags,
            stdout=DEVNULL, stderr=PIPE, env={k: v for k, v in os.environ.items() if not k.startswith("STANDPIPE_")},
        )  # fmt: skip
        serving = asyncio.get_running_loop().create_future()
        self._logging = asyncio.create_task(self._read_log(serving))
        self.port = int((await asyncio.wait_for(serving, 30)).rsplit(":", 1)[1].strip("/"))

    async def _read_log(self, serving: asyncio.Future[str]) -> None:
        assert self._tap is not None
        assert self._tap.stderr is not None
        address = None
        async for line in self._tap.stderr:
            if line.startswith(b"{"):
                event = json.loads(line)
                self.log.append(event)
                match event["event"]:
                    case "serving":
                        address = event["address"]
                    case "process serves":
                        self.processes[event["process"]] = event["pid"]
                if address and not serving.done() and (not self._workers or event["event"] == "all processes serve"):
                    serving.set_result(address)
            elif not serving.done():
                self.log.append({"event": "text", "line": line.decode()})
        if not serving.done():
            serving.set_exception(RuntimeError(f"Standpipe did not serve: {self.log}"))

    async def start(self, number: int) -> None:
        """Start an engine that is not there, well-behaved."""
        command = (sys.executable, "-m", "tests.chaos.engine", str(self._ports[number]))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        self._engines[number] = process
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"

    async def kill(self, number: int) -> None:
        """End an engine without a word."""
        process = self._engines[number]
        assert process is not None
        process.kill()
        await process.wait()

    def stop(self, number: int) -> None:
        """Freeze an engine: its sockets stay open, and nothing comes."""
        self._signal(number, signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        """Thaw it."""
        self._signal(number, signal.SIGCONT)

    def _signal(self, number: int, what: signal.Signals) -> None:
        process = self._engines[number]
        assert process is not None
        assert process.returncode is None
        process.send_signal(what)

    def end(self, name: str) -> None:
        """End a process of Standpipe's without a word."""
        os.kill(self.processes[name], signal.SIGKILL)

    def signal(self, what: signal.Signals) -> None:
        """Send Standpipe a signal."""
        assert self._tap is not None
        self._tap.send_signal(what)

    async def tell(self, number: int, mode: Mode) -> None:
        """Make an engine behave so from now on."""
        await self._call(number, b"POST /mode", msgspec.json.encode(mode))

    async def counts(self, number: int) -> Counts:
        """What an engine has seen since it was started."""
        return msgspec.json.decode(await self._call(number, b"GET /counts", b""), type=Counts)

    async def _call(self, number: int, what: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports[number])
        writer.write(b"%b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (what, len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.decode().lower().partition("content-length: ")[2].partition("\r\n")[0])
        answer = await reader.readexactly(size)
        writer.close()
        return answer

    @property
    def engines(self) -> range:
        """Their numbers."""
        return range(len(self._ports))
