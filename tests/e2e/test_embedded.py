"""The real embedded engine with the starter model, which is fetched if it is not cached."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, FormatKind, Message, OutputFormat, Role, Sampling, Text
from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure, InvalidAsk
from standpipe.chat.events import Event, Finished, FinishReason, TextDelta
from standpipe.engines.attempt import Report
from standpipe.engines.choice import FleetChoice
from standpipe.engines.fleet import Fleet
from standpipe.engines.llama.life import Options
from standpipe.engines.llama.llama import Llama, LlamaFailed
from standpipe.engines.pool import Pool
from standpipe.engines.seats import Journey
from standpipe.models import catalog, download
from standpipe.models.catalog import ModelUnavailable
from standpipe.models.fit import measure
from tests.dialects.test_schema_cost import EDGE
from tests.e2e.conftest import Server
from tests.virtual import Collected

pytestmark = pytest.mark.embedded

PATIENT = 300.0
"""Seconds: nothing here is a timed test, and a machine may be busy."""
PROMPT = "You are the voice of a public water tap. You answer everybody in one short and friendly sentence. " * 3


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model. Without it these tests are skipped, but never where that would go unnoticed."""
    missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    if find_spec("xllamacpp") is None:
        missing("the package xllamacpp is not installed")
    try:
        return download.obtain(catalog.STARTER, download.cache_folder())
    except ModelUnavailable as unavailable:
        missing(unavailable.message)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.up_again = asyncio.Event()

    def __call__(self, level: str, text: str) -> None:
        self.lines.append(f"{level} {text}")
        if "up again" in text:
            self.up_again.set()


class Begun(Collected):
    """Tells when the first event has come."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def take(self, events: list[Event]) -> None:
        super().take(events)
        if events:
            self.begun.set()


class KillsAt(Collected):
    """Kills an engine with so many pieces of its answer."""

    def __init__(self, pieces: int, pid: int | None) -> None:
        super().__init__()
        self.left = pieces
        self.pid = pid or 0

    def take(self, events: list[Event]) -> None:
        super().take(events)
        self.left -= sum(isinstance(event, TextDelta) for event in events)
        if self.left <= 0 and self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = 0


class Scene:
    """One engine for all tests of this file, on one loop."""

    def __init__(self, model: Path) -> None:
        self.runner = asyncio.Runner()
        self.log = Log()
        options = Options(slots=2, context=1024, threads=2, system_prompt=PROMPT)
        self.engine = Llama(model, "smollm2:135m", options, log=self.log)

    def run(self, scene):
        return self.runner.run(asyncio.wait_for(scene, PATIENT))

    async def busy(self) -> int:
        """Slots that work now, as the engine itself says."""
        life = self.engine._life
        assert life is not None
        answer = await life.control.fetch("GET", "/slots", within=PATIENT)
        return sum(slot["is_processing"] for slot in json.loads(answer.body))

    async def until(self, busy: int) -> None:
        """Wait until so many slots work. They are another process's, so all there is to do is ask."""
        while await self.busy() != busy:  # noqa: ASYNC110  # no event of another process reaches us
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def scene(starter: Path) -> Iterator[Scene]:
    made = Scene(starter)
    with made.runner:
        made.run(made.engine.start())
        yield made
        made.run(made.engine.close())


def ask(text: str, *, wanted: OutputFormat | None = None, system: str = PROMPT, **sampling) -> Ask:
    messages = (Message(Role.SYSTEM, (Text(system),)), Message(Role.USER, (Text(text),)))
    return Ask(messages, sampling=Sampling(**sampling), format=wanted or OutputFormat())


def answered(scene: Scene, asked: Ask) -> Collected:
    into = Collected()
    scene.run(scene.engine.answer(asked, into))
    return into


def test_it_streams_an_answer_with_usage(scene):
    into = answered(scene, ask("What are you?", max_tokens=8, temperature=0.0))
    pieces = [event for event in into.events if isinstance(event, TextDelta)]
    assert len(pieces) > 2
    finished = into.events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.LENGTH
    assert finished.usage is not None
    assert finished.usage.completion_tokens == 8
    assert finished.timings is not None


@pytest.mark.parametrize("name", EDGE)
def test_a_schema_that_is_just_allowed_neither_ends_nor_stops_the_child(scene, name):
    pid = scene.engine.pid
    wanted = OutputFormat(FormatKind.JSON_SCHEMA, EDGE[name], name="s")
    with suppress(InvalidAsk, EngineFailed):  # what it refuses, or cannot read of its own, it does at once
        answered(scene, ask("Write aaab {{{ [[[ xxxy abab", wanted=wanted, max_tokens=30))
    assert answered(scene, ask("What are you?", max_tokens=2)).answer.text
    assert scene.engine.pid == pid


def test_the_same_seed_says_the_same(scene):
    texts = {answered(scene, ask("Tell me a story", max_tokens=6, seed=7)).answer.text for _ in range(2)}
    assert len(texts) == 1
    assert texts != {""}


def test_no_slot_reads_the_operators_prompt_again(scene):
    async def both() -> list[Collected]:
        into = [Collected(), Collected()]
        async with asyncio.TaskGroup() as group:
            for number, sink in enumerate(into):
                group.create_task(scene.engine.answer(ask(f"What is {number}?", max_tokens=2), sink))
        return into

    for into in scene.run(both()):
        usage = into.answer.usage
        assert usage is not None
        assert usage.cached_tokens > 0.7 * usage.prompt_tokens


def test_a_raw_prompt_is_continued_without_a_template(scene):
    raw = Ask((Message(Role.USER, (Text("Once"),)),), sampling=Sampling(max_tokens=6, temperature=0), raw=True)
    usage = answered(scene, raw).answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1, 6)
    told = replace(raw.sampling, logprobs=True, top_logprobs=2, stop=("-in-",), tell_stop=True)
    stopped = answered(scene, replace(raw, sampling=told)).answer
    assert "-in-" not in stopped.text
    assert all(len(token.top) == 2 for token in stopped.logprobs)
    forged = "<|im_start|>"
    usage = answered(scene, replace(raw, messages=(Message(Role.USER, (Text(forged),)),))).answer.usage
    assert usage is not None
    assert usage.prompt_tokens > 1


@pytest.mark.parametrize("phase", ["reading", "writing"])
def test_a_caller_who_leaves_frees_the_slot(scene, phase):
    words = "river stone cloud apple winter green machine letter " * 85 if phase == "reading" else "Tell me a story"

    async def leaving() -> None:
        into = Begun()
        asked = ask(words, system="Read.", max_tokens=500, logit_bias={"2": -100.0})  # it does not end by itself
        asking = asyncio.ensure_future(scene.engine.answer(asked, into))
        await (into.begun.wait() if phase == "writing" else scene.until(busy=1))
        assert into.begun.is_set() == (phase == "writing")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not any(isinstance(event, Finished) for event in into.events)
        await scene.until(busy=0)

    scene.run(leaving())


def test_a_crash_fails_its_asks_and_passes(scene):
    async def crashing() -> None:
        into = Begun()
        asking = asyncio.ensure_future(scene.engine.answer(ask("Tell me a story", max_tokens=500), into))
        await into.begun.wait()
        scene.log.up_again.clear()
        os.kill(scene.engine.pid or 0, signal.SIGKILL)
        with pytest.raises(EngineFailed):
            await asking
        await scene.log.up_again.wait()
        again = Collected()
        await scene.engine.answer(ask("And now?", max_tokens=2), again)
        usage = again.answer.usage
        assert usage is not None
        assert usage.cached_tokens, "the new child was not given what the old one had read"

    scene.run(crashing())


def test_another_engine_goes_on_with_the_answer_of_one_that_was_killed(scene, starter):
    """Word for word as if nothing had happened."""
    question = ask("Tell me a story about water.", max_tokens=40, temperature=0.0)
    whole = answered(scene, question).answer

    async def dying() -> None:
        other = Llama(starter, "smollm2:135m", Options(slots=1, context=1024, threads=1), log=Log())
        await other.start()
        try:
            for kills_at in (1, 12, 30):
                pool = Pool(FleetChoice(Fleet([scene.engine, other])))
                await pool.fleet.refresh()
                into, report = KillsAt(kills_at, scene.engine.pid), Report()
                scene.log.up_again.clear()
                await pool.answer(question, into, Journey(report, model="smollm2:135m"))
                assert (into.answer.text, into.answer.reason) == (whole.text, whole.reason)
                assert (report.attempts, report.continued) == (2, 1)
                usage = into.answer.usage
                assert usage is not None
                assert usage.completion_tokens == 40
                await scene.log.up_again.wait()
                pool.choice.seats.close()
        finally:
            await other.close()

    scene.run(dying())


def test_nobodys_words_get_into_the_log(scene):
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^zebra(?=x)[$"}}}
    nowhere = {"$ref": "#/zebra"}
    for schema in (pattern, nowhere):
        wanted = OutputFormat(FormatKind.JSON_SCHEMA, schema, "zebra")
        with suppress(Failure):
            answered(scene, ask("zebra", max_tokens=1, wanted=wanted))
    with pytest.raises(ContextTooLong):
        answered(scene, ask("zebra " * 1000, max_tokens=1))
    assert not [line for line in scene.log.lines if "zebra" in line.lower()]


def test_a_damaged_file_is_refused_with_the_engines_reason(starter, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(starter.read_bytes()[:10_000_000])
    log = Log()
    engine = Llama(damaged, "damaged", Options(slots=1, context=256, threads=1), log=log)
    with pytest.raises(LlamaFailed, match="could not load damaged") as failed:
        asyncio.run(asyncio.wait_for(engine.start(), PATIENT))
    assert "corrupted or incomplete" in str(failed.value) + "".join(log.lines)


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="to watch another's process needs Linux")
def test_served_for_real_and_gone_with_its_server(starter):
    server = Server("--engine", "embedded", "--slots", "2", "--context", "1024")
    try:
        (child,) = children(server.process.pid)
        watched = os.pidfd_open(child)
        body = {"messages": [{"role": "user", "content": "Hello!"}], "stream": False, "max_tokens": 5}
        request = urllib.request.Request(f"{server.url}/api", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=PATIENT) as response:
            answer = json.load(response)
        assert answer["choices"][0]["message"]["content"]
        assert answer["model"] == "smollm2:135m"
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert not poll.poll(0)
        server.process.kill()
        assert poll.poll(PATIENT * 1000)
        os.close(watched)
    finally:
        server.close()


def test_two_in_one_server_share_its_cores_and_nothing_else(starter):
    server = Server("--engine", "embedded", "--engine", "embedded", "--slots", "1", "--context", "1024")
    try:
        first, second = children(server.process.pid)
        assert sockets(first).isdisjoint(sockets(second))
        body = {"messages": [{"role": "user", "content": "Hello!"}], "stream": False, "max_tokens": 40}
        with ThreadPoolExecutor() as clients:
            both = [clients.submit(answer_of, server, "/api", body) for _ in range(2)]
            assert all(answer.result()["model"] == "smollm2:135m" for answer in both)
        with urllib.request.urlopen(f"{server.url}/api/status", timeout=PATIENT) as response:
            assert [engine["name"] for engine in json.load(response)["engines"]] == ["embedded", "embedded 2"]
        server.process.terminate()
        banner, _ = server.process.communicate(timeout=PATIENT)
        cores = max(1, measure().cores // 2)
        assert banner.count(f"1 slot of 1024 tokens, {cores} thread") == 2
    finally:
        server.close()


def sockets(pid: int) -> set[str]:
    """Folders of sockets that a process has bound."""
    inodes = {
        link.removeprefix("socket:[").removesuffix("]")
        for file in Path(f"/proc/{pid}/fd").iterdir()
        if (link := str(file.readlink())).startswith("socket:")
    }
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {row[7] for row in rows if len(row) > 7 and row[6] in inodes}


def answer_of(server: Server, path: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENT) as response:
        found: dict[str, object] = json.load(response)
        return found
