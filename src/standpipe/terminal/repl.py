"""`standpipe chat`: a conversation in the terminal over the public API, like any other client of it.

Ctrl-C stops the answer under way and keeps what came; at the prompt, Ctrl-C or Ctrl-D leaves. The place in line is
shown while there is one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import msgspec
from msgspec import Struct
from rich.console import Console

from standpipe.dialects.framing import SseFrames
from standpipe.flow import Flow
from standpipe.http_client.client import Client
from standpipe.http_client.transport import Headers, HttpFault

_SILENCE = 120.0
"""Seconds without a byte after which the server is given up: heartbeats come much sooner."""

_HELP = "Enter sends, Ctrl-C stops an answer, /reset starts over, Ctrl-D quits."


class _Delta(Struct):
    content: str | None = None
    reasoning: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None


class _Queue(Struct):
    position: int
    eta_seconds: float | None = None


class _Error(Struct):
    message: str = "no reason given"


class _Chunk(Struct):
    choices: list[_Choice] = []
    queue: _Queue | None = None
    error: _Error | None = None


class Refused(Exception):
    """The server answered with an error, or broke off."""


class Screen:
    """What is shown of one answer: the place in line, reasoning dimmed, then text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._note = False
        self.text = ""

    def show(self, data: bytes) -> None:
        """Show one frame's data. Raises Refused for an error frame."""
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            raise Refused(chunk.error.message)
        if chunk.queue is not None:
            eta = "" if chunk.queue.eta_seconds is None else f", about {chunk.queue.eta_seconds:.0f} s"
            self._console.print(f"\r[dim]position {chunk.queue.position} in the queue{eta} [/]", end="")
            self._note = True
        for choice in chunk.choices:
            delta = choice.delta or _Delta()
            if delta.reasoning:
                self._say(f"[dim]{_plain(delta.reasoning)}[/]")
            if delta.content:
                self._say(_plain(delta.content))
                self.text += delta.content

    def _say(self, markup: str) -> None:
        if self._note:
            self._console.print()
            self._note = False
        self._console.print(markup, end="", soft_wrap=True, highlight=False)


def _plain(text: str) -> str:
    """Text of a stranger's model: no markup of ours, no control characters that move the cursor or worse."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t").replace("[", r"\[")


async def ask(client: Client, messages: list[dict[str, str]], show: Callable[[bytes], None]) -> None:
    """Ask once and hand every frame's data to `show`, without the closing one. Raises Refused, HttpFault."""
    frames = SseFrames()
    status = 0
    refusal = bytearray()
    whole = False

    def on_head(code: int, _headers: Headers, _flow: Flow) -> None:
        nonlocal status
        status = code

    def on_body(data: bytes) -> bool:
        nonlocal whole
        silence.reschedule(asyncio.get_running_loop().time() + _SILENCE)
        if status != 200:
            refusal.extend(data[: 65_536 - len(refusal)])
            return False
        for frame in frames.feed(data):
            if frame == b"[DONE]":
                whole = True
            else:
                show(frame)
        return whole

    body = msgspec.json.encode({"messages": messages, "stream": True})
    try:
        async with asyncio.timeout(_SILENCE) as silence:
            await client.request("POST", "/api", on_head=on_head, on_body=on_body, body=body, keep=False)
    except TimeoutError:
        raise Refused(f"the server has been silent for {_SILENCE:g} s") from None
    if status != 200:
        raise Refused(_reason(status, bytes(refusal)))
    if not whole:
        raise Refused("the answer was cut off")


def _reason(status: int, body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_Chunk).error
    except msgspec.DecodeError:
        error = None
    return error.message if error else f"the server answered with status {status}"


def run(url: str, system: str) -> int:
    """Chat until the person leaves. 1 when the address makes no sense."""
    console = Console()
    try:
        Client(url)
    except ValueError as error:
        console.print(f"standpipe: {error}", style="red", markup=False)
        return 1
    messages: list[dict[str, str]] = []
    console.print(f"[dim]{url}  {_HELP}[/]")
    while True:
        try:
            line = console.input("[bold]> [/]").strip() if sys.stdin.isatty() else input().strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return 0
        if line == "/reset":
            messages.clear()
        elif line:
            messages.append({"role": "user", "content": line})
            text = _turn(console, url, ([{"role": "system", "content": system}] if system else []) + messages)
            if text:
                messages.append({"role": "assistant", "content": text})
            else:
                messages.pop()


def _turn(console: Console, url: str, messages: list[dict[str, str]]) -> str:
    screen = Screen(console)

    async def answer() -> None:
        client = Client(url)
        try:
            await ask(client, messages, screen.show)
        finally:
            await client.close()

    try:
        asyncio.run(answer())
        console.print()
    except KeyboardInterrupt:
        console.print(" [dim](stopped)[/]")
    except (Refused, HttpFault, msgspec.DecodeError) as error:
        console.print(f"\nstandpipe: {error}", style="red", markup=False)
    return screen.text
