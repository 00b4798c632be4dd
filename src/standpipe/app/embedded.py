"""The embedded engine from its name: which weights, whether they fit, and llama.cpp started on them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from standpipe.engines.engine import Engine
from standpipe.engines.guard.forced_calls import Constrained
from standpipe.engines.guard.guarded import Guarded, speaks_harmony
from standpipe.engines.llama.life import Log, Options
from standpipe.engines.llama.llama import Llama, expect_able
from standpipe.models import catalog, download, fit, gguf
from standpipe.models.catalog import Shape
from standpipe.models.fetch import Progress
from standpipe.settings import Settings

T = TypeVar("T")


class _Weights(Struct, frozen=True):
    """What was named: a model of the catalog, which may have to be fetched, or a file that is here."""

    name: str
    title: str
    shape: Shape
    note: str
    harmony: bool
    path: Path | None
    entry: catalog.CatalogModel | None = None


async def start(
    target: str, slots: int, settings: Settings, progress: Progress, log: Log, *, share: int = 1
) -> tuple[Engine, str]:
    """Find, bring and load a model of the catalog, or a file. Gives the engine and what it is, in words.

    `share` is how many such engines divide the processor's cores among them; memory is what those before have left.
    What cannot fit is refused before it is fetched. Raises ModelUnavailable, LlamaFailed.
    """
    expect_able()
    weights = await _in_background(_find, target)
    machine = fit.measure()
    plan = fit.plan(
        weights.title,
        weights.shape,
        replace(machine, cores=max(1, machine.cores // share)),
        slots=slots or None,
        context=settings.context or None,
        threads=settings.threads or None,
        cache_type=settings.cache_type,
    )
    path = await _in_background(_bring, weights, settings.cache_dir, progress)
    options = Options(
        slots=plan.slots,
        context=plan.context,
        threads=plan.threads,
        gpu_layers=None if settings.gpu_layers < 0 else settings.gpu_layers,
        flash_attention=settings.flash_attention,
        cache_type=settings.cache_type,
        max_tokens=settings.max_tokens,
        system_prompt=settings.system_prompt if settings.system_prompt_mode != "off" else "",
        harmony=weights.harmony,
    )
    engine = Llama(path, weights.name, options, log=log)
    await engine.start()
    able: Engine = Guarded(engine, reads_harmony=False)
    if not weights.harmony:
        # A template that never mentions tools tells the model nothing of them.
        template = await engine.template()
        engine.tells_reasoning = "reasoning_content" in template
        able = Constrained(able, ignores_tools="tools" not in template)
    note = f" ({weights.note})" if weights.note else ""
    return able, f"embedded llama.cpp with {weights.title}: {engine.describe()}{note}"


def _find(target: str) -> _Weights:
    if "/" in target or target.endswith(".gguf"):
        path = Path(target).expanduser()
        header = gguf.read(path)
        harmony = header.architecture == "gpt-oss"
        return _Weights(path.stem, header.title or path.name, header.shape, "", harmony, path)
    entry = catalog.find(target) if target else catalog.STARTER
    return _Weights(entry.name, entry.title, entry.shape, entry.note, speaks_harmony(entry.name), None, entry)


def _bring(weights: _Weights, cache_dir: str, progress: Progress) -> Path:
    """The file to load. Blocks while it is fetched."""
    if weights.entry is None:
        assert weights.path is not None
        return weights.path
    folder = Path(cache_dir).expanduser() if cache_dir else download.cache_folder()
    return download.obtain(weights.entry, folder, progress)


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
