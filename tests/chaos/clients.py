"""Clients that know every word they must get. They speak raw HTTP: nothing between hides how an answer ended."""

from __future__ import annotations

import asyncio
import enum
import random
import time
from typing import Any

import msgspec
from msgspec import Struct


class Outcome(enum.StrEnum):
    """How one ask went. Only WRONG is a lie; everything else was said honestly."""

    WHOLE = "whole"
    REFUSED = "refused"
    """A status of 429 or 503: not now."""
    FAILED = "failed"
    """Any other failure before the first word."""
    CUT = "cut"
    """An answer that had begun ended with an error frame, unclean."""
    WRONG = "wrong"
    """A word lost, doubled or another's; or half an answer that looked whole."""
    BROKEN = "broken"
    """The connection was reset, or ended, before or amid an answer, with nothing said."""


class Result(Struct):
    outcome: Outcome
    status: int
    first_word: float | None
    """Seconds."""
    attempts: int
    detail: str = ""
    at: float = 0.0
    """The instant of its end, on the monotonic clock."""


class Crowd:
    """So many clients, each at its own address, asking one after the other until told to stop."""

    def __init__(self, port: int, size: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._size = size
        self._over = False
        self.results: list[Result] = []

    async def run(self, seconds: float) -> None:
        """Ask for so long; every ask that was begun is heard to its end."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._size):
                group.create_task(self._client(number, random.Random(self._random.random())))
            await asyncio.sleep(seconds)
            self._over = True

    async def _client(self, number: int, chance: random.Random) -> None:
        asked = 0
        await asyncio.sleep(chance.uniform(0, 0.3))
        while not self._over:
            asked += 1
            tag = f"c{number}x{asked}"
            result = await ask(self._port, number, tag, chance.randint(5, 60), stream=chance.random() < 0.8)
            result.at = time.monotonic()
            self.results.append(result)
            await asyncio.sleep(chance.uniform(0, 0.1))


async def ask(port: int, number: int, tag: str, count: int, *, stream: bool, patience: float = 90.0) -> Result:
    """Ask once over a connection of its own, and judge every byte of the answer."""
    body = msgspec.json.encode({"messages": [{"role": "user", "content": f"{tag} {count}"}], "stream": stream})
    address = f"10.{number >> 8 & 255}.{number & 255}.1"  # a block of its own
    head = (
        f"POST /api HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError as error:
        return Result(Outcome.BROKEN, 0, None, 0, repr(error))
    try:
        async with asyncio.timeout(patience):
            writer.write(head.encode() + body)
            return await _judge(reader, [f"{tag}.{i}" for i in range(count)], stream=stream)
    except TimeoutError:
        return Result(Outcome.FAILED, 0, None, 0, "nothing came to an end")
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        return Result(Outcome.BROKEN, 0, None, 0, repr(error))
    finally:
        writer.close()


async def _judge(reader: asyncio.StreamReader, words: list[str], *, stream: bool) -> Result:
    begun = time.monotonic()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status = int(head.split(" ", 2)[1])
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    attempts = int(fields.get("x-standpipe-attempts", 0))
    if status != 200:
        told = (await reader.read()).decode()
        outcome = Outcome.REFUSED if status in {429, 503} else Outcome.FAILED
        return Result(outcome, status, None, attempts, told)
    if not stream:
        answer = msgspec.json.decode(await reader.readexactly(int(fields["content-length"])))
        said = answer["choices"][0]["message"]["content"].split()
        outcome = Outcome.WHOLE if said == words else Outcome.WRONG
        return Result(outcome, status, None, attempts, "" if outcome is Outcome.WHOLE else f"{said} for {words}")
    return await _stream(reader, words, begun, attempts)


async def _stream(reader: asyncio.StreamReader, words: list[str], begun: float, attempts: int) -> Result:
    said, first, failure, finish, done = "", None, None, None, False
    clean = False
    try:
        async for line in _lines(reader):
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                frame: dict[str, Any] = msgspec.json.decode(line[6:])
                if "error" in frame:
                    failure = frame["error"]
                for choice in frame.get("choices", ()):
                    said += choice["delta"].get("content") or ""
                    finish = choice["finish_reason"] or finish
                if said and first is None:
                    first = time.monotonic() - begun
        clean = True
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    got = said.split()
    whole = clean and done and finish == "stop"
    if got != words[: len(got)] or (whole and got != words) or (whole and failure) or (clean and not whole):
        return Result(Outcome.WRONG, 200, first, attempts, f"{clean=} {done=} {finish=} {failure=} {got} for {words}")
    if whole:
        return Result(Outcome.WHOLE, 200, first, attempts)
    if failure is None:
        return Result(Outcome.BROKEN, 200, first, attempts, "it ended without a word")
    return Result(Outcome.CUT if first is not None else Outcome.FAILED, 200, first, attempts, str(failure))


async def _lines(reader: asyncio.StreamReader) -> Any:
    """The lines of a chunked body, until its end is read. Raises IncompleteReadError when there is none."""
    rest = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.decode()
    await reader.readexactly(2)
