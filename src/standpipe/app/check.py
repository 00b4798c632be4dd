"""`standpipe check`: settings, models and engines, looked at one by one, and said in words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial

from rich.console import Console

from standpipe.app.doubts import doubts
from standpipe.app.engines import open_engines
from standpipe.app.servers import trust
from standpipe.chat.errors import EngineFailed
from standpipe.configuration import unknown_variables
from standpipe.engines.engine import Engine, Probed
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.llama.llama import LlamaFailed
from standpipe.models.catalog import ModelUnavailable
from standpipe.settings import Settings, SettingsError
from standpipe.terminal import weights

Say = Callable[[str], None]

_HANDLING = {
    Handling.SPELLS: "control tokens in clients' text are plain text to it",
    Handling.READS: "it interprets control tokens in clients' text, so they are broken up before they reach it",
    Handling.READS_ANYWAY: "it interprets control tokens even when they are broken up: clients can forge chat turns "
    "and override the operator's prompt",
    Handling.UNCLEAR: "its handling of control tokens could not be tested; they are broken up in any case",
}


def check(settings: Settings) -> int:
    """Print what was found. 0 when all is well, 1 when something is wrong."""
    console = Console()
    return asyncio.run(_check(settings, console))


async def _check(settings: Settings, console: Console) -> int:
    good = partial(_line, console, "[green]well[/] ")
    bad = partial(_line, console, "[red]wrong[/]")
    warn = partial(_line, console, "[yellow]mind[/] ")
    good("settings: all values are valid")
    for sentence in unknown_variables(os.environ):
        warn(sentence)
    try:
        trust(settings)
    except SettingsError as error:
        bad(str(error))
        return 1
    for sentence in doubts(settings):
        warn(sentence)
    try:
        opened = await open_engines(settings, weights.bar, lambda level, text: warn(text) if level != "info" else None)
    except (SettingsError, ModelUnavailable, LlamaFailed) as error:
        bad(str(error))
        return 1
    faults = 0
    listed: set[str] = set()
    for engine, reason in zip(opened.engines, opened.reasons, strict=True):
        good(f"engine: {reason}")
        found = await _look(engine, good, bad, warn)
        faults += found is None
        listed.update(found or ())
        await engine.close()
    if settings.model and listed and settings.model not in listed:
        warn(f"model is {settings.model}, which no engine lists")
    return 1 if faults else 0


async def _look(engine: Engine, good: Say, bad: Say, warn: Say) -> tuple[str, ...] | None:
    """Ask one engine whether it is up and what it serves. None when it is not, or does not say."""
    health = await engine.health()
    if not health.up:
        bad(f"{engine.name}: {health.reason or 'it does not respond'}")
        return None
    try:
        models = await engine.models()
    except EngineFailed as error:
        bad(f"{engine.name}: up, but cannot list its models: {error}")
        return None
    good(f"{engine.name}: up, serves {', '.join(models) or 'an unnamed model'}")
    if isinstance(engine, Probed):
        handling = await engine.probe()
        (warn if handling is Handling.READS_ANYWAY else good)(f"{engine.name}: {_HANDLING[handling]}")
    return models


def _line(console: Console, mark: str, text: str) -> None:
    console.print(mark, end=" ")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
