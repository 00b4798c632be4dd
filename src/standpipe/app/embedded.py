"""The embedded engine from its name: which weights, whether they fit, and llama.cpp started on them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from standpipe.engines.base import Engine
from standpipe.engines.constrained import constrained
from standpipe.engines.guarded import guarded
from standpipe.engines.harmony import speaks_harmony
from standpipe.engines.llama import Llama, Log, Options
from standpipe.models import catalog, download, fit, gguf
from standpipe.models.catalog import Shape
from standpipe.models.fetch import Progress
from standpipe.policy.control_tokens import ControlTokens
from standpipe.settings import Settings

T = TypeVar("T")

STARTER = "smollm2:135m"
"""What answers where nothing was named: it is small enough for any machine."""


async def start(target: str, slots: int, settings: Settings, progress: Progress, log: Log) -> tuple[Engine, str]:
    """Bring, check and load a model of the catalog, or a file. Gives the engine and what it is, in words.

    Raises ModelUnavailable, LlamaFailed.
    """
    path, alias, title, shape, note, harmony = await _in_background(_weights, target, settings.cache_dir, progress)
    plan = fit.plan(
        title,
        shape,
        fit.measure(),
        slots=slots or None,
        context=settings.context or None,
        threads=settings.threads or None,
    )
    options = Options(
        slots=plan.slots,
        context=plan.context,
        threads=plan.threads,
        max_tokens=settings.max_tokens,
        system_prompt=settings.system_prompt if settings.system_prompt_mode != "off" else "",
        harmony=harmony,
    )
    engine = Llama(path, alias, options, log=log)
    await engine.start()
    able: Engine = guarded(engine, ControlTokens(), reads_harmony=False)
    if not harmony:
        # A template that never mentions tools tells the model nothing of them.
        able = constrained(able, ignores_tools="tools" not in await engine.template())
    return able, f"embedded llama.cpp with {title}: {engine.describe()}" + (f" ({note})" if note else "")


def _weights(target: str, cache_dir: str, progress: Progress) -> tuple[Path, str, str, Shape, str, bool]:
    """Path, public name, title, shape and a note of what was named, and whether it is a gpt-oss. Blocks."""
    if "/" in target or target.endswith(".gguf"):
        path = Path(target).expanduser()
        header = gguf.read(path)
        return path, path.stem, header.title or path.name, header.shape, "", header.architecture == "gpt-oss"
    entry = catalog.find(target or STARTER)
    folder = Path(cache_dir).expanduser() if cache_dir else download.cache_folder()
    return (
        download.obtain(entry, folder, progress),
        entry.name,
        entry.title,
        entry.shape,
        entry.note,
        speaks_harmony(entry.name),
    )


async def _in_background(work: Callable[..., T], *arguments: object) -> T:
    """Run blocking work in a thread that nobody waits for at the end: a Ctrl-C must not wait for a download."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(cast(T, result))
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            result, error = work(*arguments), None
        except Exception as failed:  # noqa: BLE001 - raised again where it is awaited
            result, error = None, failed
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
