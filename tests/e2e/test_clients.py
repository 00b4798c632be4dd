"""Other people's clients against running servers, each with the defaults that it comes with, through the same scenes.

    chat, stream    a whole answer and a streamed one, with the tokens that were counted
    tools, turns    a loop of three calls, and a conversation that goes on behind it
    structured      an object that fits a schema
    refused         a 400 that names the field
    retried         a 429 and a 503: whoever obeys Retry-After is served, and whoever does not retry is told (`told`)
    waiting         two streams at a time where there is one slot: in line, before the first word, and in mid-answer, a
                    heartbeat comes each 0.03 s; nobody loses a word or a call over it
    slow            the same, not streamed
    failed          half an answer is never taken for a whole one

What is asked of a client stands in `python/with_*.py` and `node/with-*.mjs`. Each script plays all its clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import pytest

from tests.e2e import packages
from tests.e2e.conftest import QUICK, Server

COMMON = "chat stream tools structured retried waiting slow failed"
NO_RETRIES = COMMON.replace("retried", "told")


class Client(NamedTuple):
    """Who plays a client: a script of `node` or `python`, and its scenes."""

    script: str
    scenes: str


CLIENTS = {
    "python-openai": Client("with_sdks.py", f"{COMMON} refused"),
    "python-responses": Client("with_sdks.py", f"{COMMON} refused"),
    "python-anthropic": Client("with_sdks.py", f"{COMMON} refused"),
    "python-ollama": Client("with_sdks.py", f"{NO_RETRIES} refused"),
    "langchain-openai": Client("with_langchain.py", f"{COMMON} refused"),
    "langchain-responses": Client("with_langchain.py", f"{COMMON} refused"),
    "langchain-anthropic": Client("with_langchain.py", f"{COMMON} refused"),
    "langchain-ollama": Client("with_langchain.py", f"{NO_RETRIES} refused"),
    "agents": Client("with_agents.py", f"{COMMON} refused"),
    "agents-responses": Client("with_agents.py", f"{COMMON} refused"),
    "pydantic-ai": Client("with_pydantic_ai.py", f"{COMMON} refused"),
    "pydantic-ai-responses": Client("with_pydantic_ai.py", f"{COMMON} refused"),
    "instructor": Client("with_instructor.py", "chat stream structured retried slow"),
    "js-openai": Client("with-sdks.mjs", "chat stream tools retried waiting slow failed"),
    "js-responses": Client("with-sdks.mjs", "chat stream tools retried waiting slow failed"),
    "js-anthropic": Client("with-sdks.mjs", "chat stream tools retried waiting slow failed"),
    "js-ollama": Client("with-sdks.mjs", "chat stream tools told waiting slow failed"),
    "vercel-openai": Client("with-vercel.mjs", f"{COMMON} turns refused"),
    "vercel-anthropic": Client("with-vercel.mjs", f"{COMMON} turns refused"),
    "vercel-compatible": Client("with-vercel.mjs", f"{COMMON} turns refused"),
    "langchain-js-openai": Client("with-langchain.mjs", f"{COMMON} refused"),
    "langchain-js-responses": Client("with-langchain.mjs", f"{COMMON} refused"),
    "langchain-js-anthropic": Client("with-langchain.mjs", f"{COMMON} refused"),
    "langchain-js-ollama": Client("with-langchain.mjs", NO_RETRIES),
    "agents-js": Client("with-agents.mjs", f"{COMMON} refused"),
    "agents-js-responses": Client("with-agents.mjs", f"{COMMON} refused"),
}
OWN_PACKAGES = {"with_sdks.py"}
"""Scripts whose packages are those of these tests."""
SCENES = [(name, scene) for name, client in CLIENTS.items() for scene in client.scenes.split()]
Outcomes = dict[tuple[str, str], str | None]
"""What was wrong, of each client's scenes; None where nothing was."""
WORKERS = ("--workers", os.environ.get("TEST_WORKERS", "1"))
"""Through how many processes: clients must not notice."""
BEATING = QUICK.replace("0.1", "0.03")
AT_ONCE = 3
"""Scripts that play at a time. They wait more than they work."""


@contextmanager
def places_at(url: str, count: int) -> Iterator[list[str]]:
    """Addresses that lead to a server, byte for byte, each from another place on loopback: for limits that count by
    address."""
    loop = asyncio.new_event_loop()
    ready: Future[list[str]] = Future()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_forward(url, count, ready, stop),))
    thread.start()
    yield ready.result()
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


async def _forward(url: str, count: int, ready: Future[list[str]], stop: asyncio.Event) -> None:
    running: set[asyncio.Task[None]] = set()

    async def connected(source: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(cast("asyncio.Task[None]", asyncio.current_task()))
        onward, back = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, local_addr=(source, 0))
        with closing(writer), closing(back):
            await asyncio.gather(_copy(reader, back), _copy(onward, writer))

    async with AsyncExitStack() as stack:
        urls = []
        for number in range(count):
            listening = await asyncio.start_server(partial(connected, f"127.1.{number}.1"), "127.0.0.1", 0)
            await stack.enter_async_context(listening)
            urls.append("http://127.0.0.1:{1}".format(*listening.sockets[0].getsockname()))
        ready.set_result(urls)
        await stop.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def engines(names: list[str]) -> Iterator[str]:
    """The flags of each client's engines: what one does to its engine, no other client notices."""
    answer = "tokens=12&reasoning=4&tool=get_weather"
    for name in names:
        yield from ("--engine", f"scripted:?name={name}-plain&model={name}-plain&{answer}&calls=3")
        yield from ("--engine", f"scripted:?name={name}-slow&model={name}-slow&{answer}&slots=1&first=0.1&rate=25")
        yield from ("--engine", f"scripted:?name={name}-broken&model={name}-broken&tokens=12&fault=cut:6")


@pytest.fixture(scope="module")
def played(request) -> Iterator[Outcomes]:
    """How each scene of each client went that this run has selected."""
    names = list(
        dict.fromkeys(item.callspec.params["name"] for item in request.session.items if item.module is request.module)
    )
    scripts = {CLIENTS[name].script for name in names}
    if any(script.endswith(".mjs") for script in scripts):
        packages.node()
    if any(script.endswith(".py") for script in scripts - OWN_PACKAGES):
        packages.python()
    with ExitStack() as stack:
        unpaced = (*WORKERS, "--pace-interval", "0", "--queue-per-client", "1000", "--queue-per-block", "1000")
        one_by_one = (*WORKERS, "--pace-interval", "0.6", "--pace-waiting", "1")
        house = stack.enter_context(Server(*engines(names), *unpaced, first=BEATING, attended=True))
        narrow = stack.enter_context(Server(*engines(names), *unpaced, "--queue-total", "1", attended=True))
        paced = stack.enter_context(Server(*engines(names), *one_by_one, attended=True))
        places = stack.enter_context(places_at(paced.url, len(scripts)))

        by_script = {script: [name for name in names if CLIENTS[name].script == script] for script in scripts}

        def play(script: str, place: str) -> Outcomes:
            addresses = {"HOUSE": house.url, "NARROW": narrow.url, "PACED": place}
            return run(script, by_script[script], addresses)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = [pair for part in pool.map(play, by_script, places) for pair in part.items()]
        yield dict(outcomes)
    retrying = sum("retried" in CLIENTS[name].scenes for name in names)
    assert paced.log.count('"status":429') >= retrying
    assert narrow.log.count('"status":503') >= retrying


def run(script: str, names: list[str], addresses: dict[str, str]) -> Outcomes:
    if script.endswith(".mjs"):
        command, folder = "node", packages.NODE
    else:
        command = sys.executable if script in OWN_PACKAGES else str(packages.INTERPRETER)
        folder = packages.PYTHON
    wanted = [(name, scene) for name in names for scene in CLIENTS[name].scenes.split()]
    done = subprocess.run(
        [command, script, *(f"{name}:{CLIENTS[name].scenes.replace(' ', ',')}" for name in names)],
        cwd=folder, env={**os.environ, **addresses, "LANGSMITH_TRACING": "false"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"client"')]
    outcomes = {(line["client"], line["scene"]): line["fault"] for line in lines}
    return {one: outcomes.get(one, f"not played: {done.stderr[-2000:]}") for one in wanted}


@pytest.mark.parametrize(("name", "scene"), SCENES, ids=lambda value: value)
def test_a_client_gets_what_it_needs(played, name, scene):
    fault = played[name, scene]
    assert fault is None, fault
