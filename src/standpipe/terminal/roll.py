"""`standpipe engines`: the engines of a running server, shown and changed over its control socket."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from standpipe.control.caller import call, find
from standpipe.control.orders import Refused
from standpipe.engine_tables import EngineTable
from standpipe.settings import fields, hints

_DONE = {
    "add": "{name} has been added.",
    "drain": "{name} gets no new requests; those that run go on.",
    "resume": "{name} gets requests again.",
    "remove": "{name} gets no new requests, and leaves when it is empty.",
}
_LASTS = "This lasts until the server restarts; to keep it, change the settings file as well."


def run(action: str, words: Sequence[str], path: Path | None, *, as_json: bool) -> int:
    """Give the order and print what came of it. 0 well, 1 refused, 2 the words were wrong."""
    try:
        arguments = _arguments(action, words)
    except ValueError as error:
        sys.stderr.write(f"standpipe: {error}\n")
        return 2
    try:
        engines = call(path or find(os.environ, Path.home()), f"engines {action}", arguments)
    except Refused as refused:
        sys.stderr.write(f"standpipe: {refused}\n")
        return 1
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(engines)).decode() + "\n")
    elif action == "list":
        _table(engines)
    else:
        name = engines[-1]["name"] if action == "add" else words[0]
        sys.stdout.write(f"{_DONE[action].format(name=name)} {_LASTS}\n")
    return 0


def _arguments(action: str, words: Sequence[str]) -> dict[str, Any]:
    if action == "list":
        if words:
            raise ValueError("`engines list` takes no engine")
        return {}
    if action == "add":
        return {"engine": described(words)}
    if len(words) != 1:
        raise ValueError(f"`engines {action}` takes the name of one engine; `standpipe engines` lists them")
    return {"name": words[0]}


def described(words: Sequence[str]) -> str | dict[str, Any]:
    """An engine in words: its URL, or KEY=VALUE for each key of its table; a URL may stand without its `url=`. Values
    stay text where they do not fit: the server says what is allowed. Raises ValueError."""
    rows = {row.name: row for row in fields(EngineTable)}
    table: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\w+", key):
            key, value = "url", word
        if key in table:
            raise ValueError(f"`engines add` takes one engine, and {key} is given twice")
        if key in rows and rows[key].type == dict[str, str]:
            table[key] = dict((part.partition("=")[::2] if "=" in part else (part, part)) for part in value.split(","))
        elif key in {"key_file", "ca"}:
            table[key] = str(Path(value).expanduser().absolute())  # the server is in another folder
        else:
            table[key] = _typed(key, value)
    if "url" not in table:
        raise ValueError("`engines add` needs the engine's URL, such as http://gpu-b:8000/v1#slots=8")
    return str(table["url"]) if len(table) == 1 else table


def _typed(key: str, value: str) -> Any:
    try:
        return msgspec.convert(value, hints(EngineTable)[key], strict=False)
    except (KeyError, msgspec.ValidationError):
        return value


def _table(engines: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - an order needs none of this
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("name", "url", "state", "busy", "models"):
        table.add_column(heading, overflow="fold")
    for engine in engines:
        table.add_row(
            Text(engine["name"]),
            Text(engine["url"]),
            Text(_state(engine), style=_COLOURS[engine["state"]]),
            f"{engine['busy']}/{engine['slots']}",
            Text(", ".join(engine["models"])),
        )
    Console().print(table)


_COLOURS = {"up": "green", "down": "red", "draining": "yellow", "leaving": "yellow"}


def _state(engine: dict[str, Any]) -> str:
    held = f", held off for {engine['held_off_seconds']:g} s" if engine["held_off_seconds"] else ""
    return f"{engine['state']}{held}" + (f": {engine['reason']}" if engine["reason"] else "")
