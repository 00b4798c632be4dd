"""A raw engine that misbehaves on command: an OpenAI-compatible server on bare asyncio streams, in its own process.

    python -m tests.chaos.engine PORT

Its words are known beforehand, so that whoever reads them can tell a word that is lost, doubled or another answer's: an
ask for `TAG 40` is answered with `TAG.0 TAG.1 ... TAG.39`, a chunk each. Told to continue the final message, it goes on
behind it, as a vLLM does. `POST /mode` changes how it behaves from now on, `GET /counts` tells what it has seen; both
answer whatever the mode is.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

MODEL = "chaos"
_LISTED = msgspec.json.encode({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm"}]})


class Mode(Struct):
    """How the engine behaves. `status`: of every answer. `after`: words until `end` happens, in each answer."""

    status: int = 200
    retry_after: int = 0
    first: float = 0.03
    """Seconds until the first word."""
    gap: float = 0.005
    """Seconds between words."""
    after: int | None = None
    end: str = "reset"
    """reset, close (a half chunk), garbage (a frame that is no JSON), silence"""
    body: str = '{"error":{"message":"chaos","type":"chaos"}}'
    continues: bool = True
    """Whether it goes on with an unfinished turn of the assistant where it is told to, as a vLLM does."""


class Counts(Struct):
    """What it has seen. `asks` counts every request for an answer, whatever became of it."""

    asks: int = 0
    answered: int = 0
    running: int = 0
    peak: int = 0
    left: int = 0
    words: int = 0
    statuses: dict[int, int] = {}


class Engine:
    """One engine."""

    def __init__(self) -> None:
        self.mode = Mode()
        self.counts = Counts()
        self._statuses: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept for as long as both want."""
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        match method, path:
            case "POST", "/mode":
                self.mode = msgspec.json.decode(body, type=Mode)
                await _whole(writer, 200, b"{}")
            case "GET", "/counts":
                self.counts.statuses = dict(self._statuses)
                await _whole(writer, 200, msgspec.json.encode(self.counts))
            case "GET", "/v1/models":
                await self._models(writer)
            case "POST", "/v1/chat/completions":
                return await self._answer(reader, writer, msgspec.json.decode(body))
            case _:
                await _whole(writer, 404, b'{"error":{"message":"no such path"}}')
        return True

    async def _models(self, writer: asyncio.StreamWriter) -> None:
        if self.mode.status in {401, 403, 503}:
            await _whole(writer, self.mode.status, self.mode.body.encode())
        else:
            await _whole(writer, 200, _LISTED)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: dict[str, Any]) -> bool:
        counts, mode = self.counts, self.mode
        counts.asks += 1
        self._statuses[mode.status] += 1
        if mode.status != 200:
            extra = b"Retry-After: %d\r\n" % mode.retry_after if mode.retry_after else b""
            await _whole(writer, mode.status, mode.body.encode(), extra)
            return True
        counts.running += 1
        counts.peak = max(counts.peak, counts.running)
        try:
            streaming = asyncio.ensure_future(self._stream(writer, ask, mode))
            leaving = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((streaming, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not streaming.done():
                counts.left += 1
                streaming.cancel()
                await asyncio.wait((streaming,))
                return False
            leaving.cancel()
            await asyncio.wait((leaving,))
            return streaming.result()
        finally:
            counts.running -= 1

    async def _stream(self, writer: asyncio.StreamWriter, ask: dict[str, Any], mode: Mode) -> bool:
        """Gives whether the connection may be kept."""
        tag, count, begin = _wanted(ask, continues=mode.continues)
        await asyncio.sleep(mode.first)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(_frame({"role": "assistant", "content": ""}))
        for number in range(begin, count):
            if mode.after is not None and number - begin >= mode.after:
                return await _end(writer, mode.end)
            writer.write(_frame({"content": f"{tag}.{number} "}))
            await writer.drain()
            self.counts.words += 1
            await asyncio.sleep(mode.gap)
        usage = {"prompt_tokens": 7, "completion_tokens": count - begin, "total_tokens": 7 + count - begin}
        writer.write(_frame({}, finish="stop") + _chunk(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        self.counts.answered += 1
        return True


def _wanted(ask: dict[str, Any], *, continues: bool) -> tuple[str, int, int]:
    """The tag, how many words, and with which to begin."""
    messages = ask["messages"]
    said = ""
    if continues and ask.get("continue_final_message") and not ask.get("add_generation_prompt", True):
        said = messages[-1]["content"]
        messages = messages[:-1]
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    match text.split():
        case [*_, tag, count] if count.isdecimal():
            return tag, int(count), len(said.split())
        case _:
            return "ok", 1, 0  # somebody else's words, such as a probe's


async def _end(writer: asyncio.StreamWriter, end: str) -> bool:
    """End an answer in the middle, badly."""
    match end:
        case "close":
            writer.write(b'80\r\ndata: {"choi')
            await writer.drain()
        case "garbage":
            writer.write(_chunk(b"data: <html>\n\n"))
            await writer.drain()
        case "silence":
            await asyncio.sleep(3600)
        case _:
            writer.transport.abort()
    return False


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _chunk(_event({"id": "c", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}))


async def _whole(writer: asyncio.StreamWriter, status: int, body: bytes, extra: bytes = b"") -> None:
    head = b"HTTP/1.1 %d Chaos\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n"
    writer.write(head % (status, len(body), extra) + body)
    await writer.drain()


async def main(port: int) -> None:
    engine = Engine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", port, backlog=1024)
    async with server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
