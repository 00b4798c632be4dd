"""`standpipe top`: a running Standpipe seen live by its operator, over the admin listener.

What is drawn is a function of one `OperatorStatus`; the loop around it asks every second and draws on the terminal's
other screen, until Ctrl-C. Clients are the daily hashes of the log, so that a line of the log can be found here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from standpipe.http_client.client import AnswerTooLarge, Client
from standpipe.http_client.transport import HttpFault
from standpipe.observe.about import ROWS, OperatorStatus, texts

EVERY = 1.0
"""Seconds between two pictures."""
_BARS = " ▁▂▃▄▅▆▇█"


def picture(top: OperatorStatus, width: int, height: int) -> RenderableType:
    """What is drawn, on a terminal of this size."""
    parts: list[RenderableType] = [_head(top), Text(), _numbers(top, width), Text(), _engines(top)]
    parts += [Text(f"! {warning}", style="yellow") for warning in top.warnings]
    room = height - len(top.engines) - len(top.warnings) - len(ROWS) - 8
    return Group(*parts, Text(), _clients(top, max(3, room)))


def _head(top: OperatorStatus) -> Text:
    up = top.status == "ok"
    head = Text("● ", style="green" if up else "red")
    head.append(f"{top.name} {'is up' if up else 'is down'}", style="bold")
    head.append(f"  {top.model}  up {_duration(top.uptime_seconds)}  standpipe {top.version}", style="dim")
    if top.reason:
        head.append(f"\n  {top.reason}", style="red")
    return head


def _numbers(top: OperatorStatus, width: int) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, style="cyan")
    minutes = min(60, max(10, width - 48))  # as many as there is room for
    numbers = texts(top)
    for row in ROWS:
        history = getattr(top.hour, row.minutes)[-minutes:] if row.minutes else ()
        table.add_row(row.label, numbers[row.key], sparks(history))
    return table


def _engines(top: OperatorStatus) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", title_justify="left")
    for heading in ("engine", "", "slots", ""):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for engine in top.engines:
        state = Text("up", style="green") if engine.up else Text("down", style="red")
        busy = f"{_bar(engine.busy, engine.slots)} {engine.busy}/{engine.slots}"
        table.add_row(Text(engine.name), state, busy, Text(engine.reason or ("draining" if engine.draining else "")))
    return table


def _clients(top: OperatorStatus, rows: int) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("client")
    for heading in ("wait", "run", "tokens, 5 min"):
        table.add_column(heading, justify="right")
    for client in top.clients[:rows]:
        busy = "bold" if client.running or client.waiting else "dim"
        table.add_row(Text(client.client), str(client.waiting), str(client.running), f"{client.tokens:,}", style=busy)
    if not top.clients:
        table.add_row(Text("nobody lately", style="dim"))
    elif (more := top.clients_known - min(rows, len(top.clients))) > 0:
        table.add_row(Text(f"and {more} more", style="dim"))
    return table


def sparks(values: Sequence[float | None]) -> str:
    """Numbers as a line of bars, the highest one full. What is not known is drawn as nothing."""
    known = [value or 0 for value in values]
    most = max(known, default=0)
    if not most:
        return _BARS[1] * len(values)
    return "".join(_BARS[max(1, round(value / most * 8))] for value in known)


def _bar(busy: int, slots: int, width: int = 16) -> str:
    full = round(busy / slots * width) if slots else 0
    return "█" * full + "░" * (width - full)


def _duration(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"


class Unreachable(Exception):
    """No Standpipe answers at this address. The message says what to do."""


async def look(client: Client, url: str) -> OperatorStatus:
    """Ask once. Raises Unreachable."""
    try:
        answer = await client.fetch("GET", "/top", within=5.0)
    except (HttpFault, AnswerTooLarge, OSError) as error:
        raise Unreachable(f"no Standpipe responds at {url} ({error}). Is it the admin listener's address?") from None
    if answer.status != 200:
        raise Unreachable(f"{url} answered with status {answer.status}. Is it the admin listener's address?")
    try:
        return msgspec.json.decode(answer.body, type=OperatorStatus)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{url} sent an unexpected response: {error}") from None


async def _watch(url: str, console: Console, *, once: bool) -> None:
    client = Client(url)
    try:
        first = await look(client, url)
        if once:
            console.print(picture(first, console.width, console.height))
            return
        with Live(
            picture(first, console.width, console.height), console=console, screen=True, auto_refresh=False
        ) as live:
            while True:
                await asyncio.sleep(EVERY)
                live.update(await _again(client, url, console), refresh=True)
    finally:
        await client.close()


async def _again(client: Client, url: str, console: Console) -> RenderableType:
    """The next picture; a server that is away for a moment may come back."""
    try:
        return picture(await look(client, url), console.width, console.height)
    except Unreachable as error:
        return Text(str(error), style="red")


def run(url: str, *, once: bool, console: Any = None) -> int:
    """Watch until Ctrl-C. 1 when there is nothing to watch."""
    console = console or Console()
    try:
        asyncio.run(_watch(url, console, once=once))
    except (Unreachable, ValueError) as error:
        console.print(f"standpipe: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0
