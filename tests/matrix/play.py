"""One engine, taken through all cases: it is started, put behind a Standpipe, asked, left, and killed."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from tempfile import NamedTemporaryFile
from time import sleep

from msgspec import Struct

from bench.overhead.accounting import tree, use
from tests.e2e.conftest import Server as Standpipe
from tests.matrix import cases
from tests.matrix.engines import RECIPES, ROOT, WINDOW, Place, Recipe
from tests.matrix.processes import Relay, Server, free_port, grows_idle
from tests.matrix.talk import Cannot, Tap, Wrong, must

LOGS = ROOT / "artifacts" / "matrix"
NO_EMBEDDINGS = "no embeddings: said so"
LEFT = "a client leaves: the engine rests"
GOES_ON = "another goes on with its stream"
KILLED = "killed in mid-stream: told"
ALL = (*cases.CASES, NO_EMBEDDINGS, LEFT, GOES_ON, KILLED)
"""In the order of the table."""


class Found(StrEnum):
    YES = "yes"
    NO = "no"
    WRONG = "WRONG"


class Result(Struct, frozen=True):
    """What a case found, and a remark."""

    found: Found
    remark: str = ""


Report = Callable[[str, Result], None]


def play(name: str, recipe: Recipe, report: Report, only: Collection[str] = ALL) -> None:
    """Take an engine through cases; `report` is called after each. Raises DidNotStart."""

    def judge(case: str, ask: Callable[[], str | None]) -> None:
        if case in only:
            report(case, _judged(ask))

    with _running(name, recipe) as (place, server):
        url = recipe.url(place)
        with _standpipe(url, more=recipe.table()) as (tap, standpipe):
            for case, ask in cases.CASES.items():
                if case != "embeddings" or not recipe.embedder:
                    judge(case, lambda ask=ask: ask(tap))  # type: ignore[misc]
            if recipe.embedder:
                judge(NO_EMBEDDINGS, lambda: _says_no_embeddings(tap))
            worker = server.pid if server else standpipe.process.pid
            judge(LEFT, lambda: _left(tap, worker))
        if server or url == "embedded":
            judge(GOES_ON, lambda: _goes_on(recipe, server) if server else _embedded_goes_on())
            judge(KILLED, lambda: _killed(url, recipe, server))
    if recipe.embedder and "embeddings" in only:
        with (
            _running(name, recipe, embeds=True) as (place, _),
            _standpipe(recipe.url(place), more=recipe.table()) as (tap, _),
        ):
            judge("embeddings", lambda: cases.embeddings(tap))


def _judged(ask: Callable[[], str | None]) -> Result:
    try:
        return Result(Found.YES, ask() or "")
    except Cannot as cannot:
        return Result(Found.NO, str(cannot))
    except Wrong as wrong:
        return Result(Found.WRONG, str(wrong))
    except Exception:  # noqa: BLE001 - a judge that falls over has seen something that should not be
        return Result(Found.WRONG, traceback.format_exc(limit=-2))


@contextmanager
def _running(name: str, recipe: Recipe, *, embeds: bool = False) -> Iterator[tuple[Place, Server | None]]:
    """The engine, with what stands behind it."""
    command = recipe.embedder if embeds else recipe.command
    if command is None:
        yield Place(0), None
        return
    with ExitStack() as running:
        behind = 0
        if recipe.behind:
            place, _ = running.enter_context(_running(recipe.behind, RECIPES[recipe.behind], embeds=embeds))
            behind = place.port
        place = Place(free_port(), behind)
        log = LOGS / f"{name}{'-embeddings' if embeds else ''}.log"
        server = running.enter_context(Server(command(place), place.port, log, recipe.environ))
        server.wait_ready(recipe.patience)
        yield place, server


@contextmanager
def _standpipe(*urls: str, more: str = "") -> Iterator[tuple[Tap, Standpipe]]:
    with NamedTemporaryFile("w", suffix=".toml") as config:
        config.writelines(f'[[engine]]\nurl = "{url}"\nslots = 2\n{more}\n' for url in urls)
        config.flush()
        flags = ("--config", config.name, "--pace-interval", "0", "--context", str(WINDOW))
        with Standpipe(*flags) as standpipe:
            yield Tap(standpipe.url), standpipe


def _says_no_embeddings(tap: Tap) -> None:
    status, _, found = tap.post("/v1/embeddings", {"model": tap.model, "input": "rain"})
    error = found.get("error") or {}
    must(status == 400 and error.get("code") == "unsupported", f"it gives {status}: {error or found}")


def _left(tap: Tap, worker: int) -> None:
    """Once its client has left, nothing computes any more."""
    before = use(worker).cpu
    sleep(1)
    idle = use(worker).cpu - before
    cases.stream_for(tap, 3.0)
    must(grows_idle(worker, idle), "it still computes four seconds later")
    tap.chat("Hi", max_tokens=2)


def _goes_on(recipe: Recipe, server: Server) -> None:
    """The engine is reached by two ways; the one that a stream came by breaks."""
    relays = [Relay(server.port) for _ in range(2)]
    try:
        with _standpipe(*(recipe.url(Place(relay.port)) for relay in relays), more=recipe.table()) as (tap, _):
            cases.dying(tap, lambda: max(relays, key=lambda relay: relay.last).cut(), goes_on=True)
    finally:
        for relay in relays:
            relay.cut()


def _killed(url: str, recipe: Recipe, server: Server | None) -> str | None:
    with _standpipe(url, more=recipe.table()) as (tap, standpipe):
        return cases.dying(tap, server.kill if server else lambda: _kill_busiest(standpipe), goes_on=False)


def _embedded_goes_on() -> None:
    with _standpipe("embedded", "embedded") as (tap, standpipe):
        cases.dying(tap, lambda: _kill_busiest(standpipe), goes_on=True)


def _kill_busiest(standpipe: Standpipe) -> None:
    """End the child that computes."""
    children = tree(standpipe.process.pid) - {standpipe.process.pid}
    before = {pid: use(pid).cpu for pid in children}
    sleep(0.2)
    os.kill(max(children, key=lambda pid: use(pid).cpu - before[pid]), signal.SIGKILL)
