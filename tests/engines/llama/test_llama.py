"""The embedded engine with a pretended child: how it is started, kept up, watched and ended."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text
from standpipe.chat.errors import EngineFailed, Quarantined
from standpipe.engines.attempt import Report
from standpipe.engines.choice import FleetChoice
from standpipe.engines.fleet import Fleet
from standpipe.engines.llama import life as llama_life
from standpipe.engines.llama.life import Life, Options, Timeouts
from standpipe.engines.llama.llama import Llama, LlamaFailed, State, expect_able
from standpipe.engines.pool import Pool
from standpipe.http_client.client import Answer
from standpipe.http_client.transport import DeadlinePassed
from tests import virtual
from tests.virtual import Collected

PRETENDED = Path(__file__).with_name("pretended_llama.py")
PATIENT = 30.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["stdlib", "uvloop"])
def run(request):
    def run(scene):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(scene, PATIENT))

    return run


class Log:
    """Keeps lines, and wakes who waits for one."""

    def __init__(self):
        self.lines = []
        self._awaited = []

    def __call__(self, level, text):
        self.lines.append((level, text))
        for words, came in self._awaited:
            if words in text:
                came.set()

    async def has(self, words):
        if not any(words in text for _, text in self.lines):
            self._awaited.append((words, came := asyncio.Event()))
            await came.wait()

    def of(self, level):
        return [text for found, text in self.lines if found == level]


class Begun(Collected):
    """Tells when the first event has come."""

    def __init__(self):
        super().__init__()
        self.begun = asyncio.Event()

    def take(self, events):
        super().take(events)
        if events:
            self.begun.set()


@pytest.fixture
def house(tmp_path_factory, monkeypatch):
    """Makes engines whose child follows a script."""
    tmp_path = tmp_path_factory.mktemp("h")  # a short name: a socket's path has an end
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")

    class House:
        folder = tmp_path

        def asked(self, path):
            lines = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
            return [body for where, body, _ in map(json.loads, lines) if path in where]

        def told(self):
            return [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]

        @asynccontextmanager
        async def engine(self, *script, start=True, poll=PATIENT, silence=PATIENT, warm=PATIENT, **options):
            (tmp_path / "script").write_text("\n".join(script))
            chosen = {"slots": 2, "context": 1000, "threads": 1} | options
            engine = Llama(
                tmp_path / "m.gguf",
                "tiny:1",
                Options(**chosen),
                log=Log(),
                timeouts=Timeouts(poll=poll, silence=silence, busy=silence, warm=warm, grace=PATIENT),
                command=(sys.executable, "-S", "-E", str(PRETENDED), str(tmp_path)),
            )
            try:
                if start:
                    await engine.start()
                yield engine
            finally:
                await engine.close()

        def leftovers(self):
            return list(tmp_path.glob("standpipe-*"))

    return House()


def ask(text, **sampling):
    return Ask((Message(Role.USER, (Text(text),)),), sampling=Sampling(**sampling))


async def answered(engine, text="hello", **sampling):
    into = Collected()
    await engine.answer(ask(text, **sampling), into)
    return into.answer.text


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_starts_answers_and_ends_without_a_trace(run, house):
    async def scene():
        async with house.engine("serve") as engine:
            pid = engine.pid
            assert (await engine.health()).up
            assert await engine.models() == ("tiny:1",)
            assert await answered(engine) == "Hello."
            assert alive(pid)
            assert engine.slots == 2
        assert not alive(pid)
        assert (await engine.health()).reason == "The engine is shutting down."
        with pytest.raises(EngineFailed, match="shutting down"):
            await answered(engine)

    run(scene())
    assert house.leftovers() == []
    assert house.told()[0]["context"] == 2000


def test_its_socket_is_nobody_elses(run, house):
    async def scene():
        async with house.engine("serve"):
            (folder,) = house.leftovers()
            assert folder.stat().st_mode & 0o077 == 0
            assert (folder / "engine.sock").is_socket()
        told = house.told()[0]
        assert (told["address"], told["key"]) == (str(folder / "engine.sock"), None)

    run(scene())


def test_where_the_folders_name_is_too_long_a_port_with_a_key_will_do(run, house, monkeypatch):
    monkeypatch.setattr(llama_life, "_LONGEST_SOCKET", 10)

    async def scene():
        async with house.engine("serve") as engine:
            assert await answered(engine) == "Hello."

    run(scene())
    told = house.told()[0]
    assert told["address"] == "127.0.0.1"
    _, _, authorization = json.loads((house.folder / "asked").read_text().splitlines()[0])
    assert authorization == f"Bearer {told['key']}"


@pytest.mark.parametrize(("wanted", "given"), [(None, 500), (20, 20), (9000, 500)])
def test_every_answer_has_an_end_in_sight(run, house, wanted, given):
    async def scene():
        async with house.engine("serve") as engine:
            await answered(engine, max_tokens=wanted)

    run(scene())
    (body,) = house.asked("/chat/completions")
    assert (body["max_tokens"], body["stream"], body["return_progress"]) == (given, True, True)


def test_a_child_that_crashes_fails_its_asks_and_is_started_again(run, house):
    async def scene():
        async with house.engine("serve") as engine:
            before = engine.pid
            with pytest.raises(EngineFailed):
                await answered(engine, "die")
            await engine._log.has("up again")
            assert (engine.state, engine.restarts) == (State.UP, 1)
            assert engine.pid != before
            assert await answered(engine) == "Hello."
            return engine._log.of("error")

    assert run(scene()) == ["the embedded engine exited: it was killed by SIGSEGV"]


def test_while_it_is_down_asks_fail_at_once_and_may_be_tried_again(run, house):
    async def scene():
        async with house.engine("serve", "exit 1") as engine:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._log.has("did not start")
            assert not (await engine.health()).up
            with pytest.raises(EngineFailed, match="restarting") as failed:
                await answered(engine)
            assert failed.value.may_retry
            assert failed.value.retry_after
            assert engine.pid is None

    run(scene())


def test_a_start_that_fails_once_is_tried_again(run, house):
    async def scene():
        async with house.engine("serve", "exit 1", "serve") as engine:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._log.has("up again")
            assert await answered(engine) == "Hello."

    run(scene())
    assert len(house.told()) == 3


def test_a_child_that_dies_of_an_ask_is_followed_by_another_at_once(run, house):
    """However often: nobody else waits for a stranger's poison."""

    async def scene():
        async with house.engine("serve") as engine:
            for _ in range(3):
                engine._log.lines.clear()
                with pytest.raises(EngineFailed):
                    await answered(engine, "die")
                with pytest.raises(EngineFailed, match="restarting") as failed:
                    await answered(engine)
                assert 0 < failed.value.retry_after < PATIENT  # as long as a start takes
                await engine._log.has("up again")
                assert await answered(engine) == "Hello."
            return engine.restarts

    assert run(scene()) == 3


def test_an_ask_that_kills_its_child_gets_two_of_them_and_the_next_asks_are_answered(run, house):
    async def scene():
        async with house.engine("serve") as engine:
            pool = Pool(FleetChoice(Fleet([engine])))
            await pool.fleet.refresh()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(pool.fleet.watch(lambda *_: None))
                for _ in range(2):  # the first goes on with its answer once, and dies of it again
                    with pytest.raises(Quarantined):
                        await pool.answer(ask("die"), Collected(), pool.journey(Report(), b"poison", ask("die")))
                await pool.answer(ask("hello"), sink := Collected(), pool.journey(Report(), b"good", ask("hello")))
                watching.cancel()
            pool.choice.seats.close()
            return sink.answer.text, engine.restarts

    assert run(scene()) == ("Hello.", 2)


def test_one_that_breaks_down_whenever_it_starts_stays_off(run, house):
    async def scene():
        async with house.engine("serve", "signal SIGABRT") as engine:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._log.has("stays off")
            assert engine.state is State.FAILED
            health = await engine.health()
            assert (health.up, health.reason) == (False, "The engine failed repeatedly and stays off.")

    run(scene())
    assert len(house.told()) == 2


@pytest.mark.parametrize(
    ("script", "says"),
    [("exit 1", "exit code 1"), ("signal SIGSEGV", "SIGSEGV"), ("junk", "did not say where it listens")],
)
def test_a_first_start_that_fails_is_said_with_its_last_words_and_not_tried_again(run, house, script, says):
    async def scene():
        async with house.engine(script, start=False) as engine:
            with pytest.raises(LlamaFailed, match=says) as failed:
                await engine.start()
            return str(failed.value)

    message = run(scene())
    assert "could not load tiny:1" in message
    assert "\n    0.00" in message
    assert len(house.told()) == 1
    assert house.leftovers() == []


def test_a_child_that_cannot_be_run_is_said(run, house):
    async def scene():
        async with house.engine("serve", start=False) as engine:
            engine._command = (str(house.folder / "no-such-program"),)
            with pytest.raises(LlamaFailed, match="No such file"):
                await engine.start()

    run(scene())


def test_without_the_package_the_extra_is_named(monkeypatch):
    missing = {"xllamacpp"}
    monkeypatch.setattr("standpipe.engines.llama.llama.find_spec", lambda name: None if name in missing else name)
    with pytest.raises(LlamaFailed, match=r"standpipe\[embedded\]"):
        expect_able()


def test_a_silent_child_is_killed_and_started_again(run, house):
    async def scene():
        async with house.engine("deaf", "serve", poll=0.05, silence=0.1) as engine:
            await engine._log.has("the embedded engine")
            await engine._log.has("up again")

    run(scene())


def test_asks_that_run_when_it_is_closed_fail(run, house):
    async def scene():
        async with house.engine("serve") as engine:
            into = Begun()
            asking = asyncio.ensure_future(engine.answer(ask("hang"), into))
            await into.begun.wait()
            await engine.close()
            with pytest.raises(EngineFailed):
                await asking

    run(scene())


def test_it_can_be_closed_while_it_is_being_started_again(run, house):
    async def scene():
        async with house.engine("serve", "exit 1") as engine:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._log.has("exited: ")
            await engine.close()
            await engine.close()
        assert engine.state is State.CLOSED

    run(scene())
    assert house.leftovers() == []


def test_what_it_logs_while_it_loads_is_ours_and_later_only_its_last_words(run, house):
    async def scene():
        async with house.engine("talkative") as engine:
            await answered(engine)
            await engine._log.has("GGML_ASSERT")
            return engine._log.lines

    lines = run(scene())
    assert lines == [
        ("info", "llama: srv init: loading"),
        ("error", "llama: /src/ggml.c:12: GGML_ASSERT(n > 0) failed"),
    ]


# The operator's prompt.


def test_one_slot_reads_the_prompt_and_the_others_are_given_it(run, house):
    async def scene():
        async with house.engine("serve", slots=3, system_prompt="Be kind."):
            pass

    run(scene())
    (read,) = house.asked("/chat/completions")
    assert (read["id_slot"], read["max_tokens"]) == (0, 1)
    assert read["messages"][0] == {"role": "system", "content": "Be kind."}
    paths = [json.loads(line)[0] for line in (house.folder / "asked").read_text().splitlines()]
    assert paths[1:] == ["/slots/0?action=save", "/slots/1?action=restore", "/slots/2?action=restore"]


def test_later_lives_are_given_it_without_reading(run, house):
    async def scene():
        async with house.engine("serve", system_prompt="Be kind.") as engine:
            os.kill(engine.pid, signal.SIGKILL)
            await engine._log.has("up again")

    run(scene())
    assert len(house.asked("/chat/completions")) == 1
    assert len(house.asked("action=restore")) == 1 + 2


def test_an_engine_that_cannot_save_reads_it_in_every_slot(run, house):
    async def scene():
        async with house.engine("forgetful", slots=3, system_prompt="Be kind.") as engine:
            return engine._log.of("warning")

    assert run(scene()) == []
    assert sorted(body["id_slot"] for body in house.asked("/chat/completions")) == [0, 1, 2]


def test_a_prompt_that_is_refused_is_said_and_the_engine_serves_all_the_same(run, house):
    async def scene():
        async with house.engine("refusing", system_prompt="Be kind.") as engine:
            assert (await engine.health()).up
            return engine._log.of("warning")

    warnings = run(scene())
    assert warnings
    assert "too long?" in warnings[0]


def test_a_prompt_that_takes_too_long_is_said_and_the_engine_serves_all_the_same(run, house):
    async def scene():
        async with house.engine("mute", system_prompt="Be kind.", warm=0.05) as engine:
            assert (await engine.health()).up
            return engine._log.of("warning")

    (warning,) = run(scene())
    assert "took too long" in warning


def test_a_child_that_dies_while_it_reads_the_prompt_is_started_again(run, house):
    async def scene():
        async with house.engine("fragile", "serve", system_prompt="Be kind.") as engine:
            await engine._log.has("up again")
            assert await answered(engine) == "Hello."

    run(scene())


def test_a_start_that_is_cancelled_leaves_nothing(run, house):
    async def scene():
        async with house.engine("mute", system_prompt="Be kind.", start=False) as engine:
            starting = asyncio.ensure_future(engine.start())
            await engine._log.has("loading")
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert engine.state is State.CLOSED

    run(scene())
    assert house.leftovers() == []


def test_without_a_prompt_nothing_is_read(run, house):
    async def scene():
        async with house.engine("serve"):
            pass

    run(scene())
    assert house.asked("/") == []


# What it says of itself.


def test_a_line_for_people(house):
    def line(size, **options):
        (house.folder / "m.gguf").write_bytes(b"")
        os.truncate(house.folder / "m.gguf", size)
        return Llama(house.folder / "m.gguf", "tiny:1", Options(**options), log=Log()).describe()

    assert line(98_362_432, slots=4, context=2048, threads=2) == "tiny:1, 4 slots of 2048 tokens, 2 threads, 98 MB"
    assert line(12_109_566_560, slots=1, context=8192, threads=1) == "tiny:1, 1 slot of 8192 tokens, 1 thread, 12.1 GB"
    told = line(98_362_432, slots=1, context=9, threads=1, flash_attention="on", cache_type="q8_0")
    assert told.endswith(", flash attention on, a KV cache in q8_0")


def test_layers_on_a_gpu_are_told(run, house):
    async def scene(**options):
        async with house.engine("serve Big", **options) as engine:
            return engine.describe()

    assert run(scene(gpu_layers=20)).endswith(", 20 layers on Big")
    assert run(scene()).endswith(", all that fits on Big")
    assert house.told()[0]["gpu_layers"] == 20


def test_the_size_of_a_split_model_is_that_of_all_its_parts(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"big-0000{number}-of-00003.gguf").write_bytes(b"x" * number * 1_000_000)
    (tmp_path / "other-00002-of-00003.gguf").write_bytes(b"x")
    model = llama_life.Model(tmp_path / "big-00001-of-00003.gguf", "big")
    assert model.bytes == 6_000_000


# The watch, in virtual time.


class Watched:
    """A child and its control in one: ends when it is killed, answers as told."""

    def __init__(self, answers, works):
        self.answers = answers
        self.works = works
        self.code = None
        self.killed_at = None

    async def wait(self, timeout):  # noqa: ASYNC109  # as the child's
        if self.code is None:
            await asyncio.sleep(timeout)
        return self.code

    def kill(self):
        self.code, self.killed_at = -9, asyncio.get_running_loop().time()

    def computed(self):
        """Seconds of processor time: all of them while it works."""
        return self.works * asyncio.get_running_loop().time()

    async def fetch(self, method, path, *, within):
        assert (method, path) == ("GET", "/slots")
        delay, status = self.answers(asyncio.get_running_loop().time())
        if delay > within:
            await asyncio.sleep(within)
            raise DeadlinePassed("whole answer", within)
        await asyncio.sleep(delay)
        return Answer(status, {}, b"[]")


def watched(answers, until=10_000.0, *, works=0.0, size=0):
    async def scene():
        both = Watched(answers, works)
        options = Options(slots=1, context=1, threads=1)
        life = Life(
            both, SimpleNamespace(bytes=size), None, both, options, Timeouts(), lambda level, text: None, Path()
        )
        try:
            async with asyncio.timeout(until):
                await life.watch()
        except TimeoutError:
            pass
        return both.killed_at

    return virtual.run(scene())


def test_a_child_that_answers_is_left_alone():
    assert watched(lambda now: (9.9, 200)) is None


def test_a_large_model_that_answers_between_long_batches_is_left_alone():
    assert watched(lambda now: (19.0, 200), works=1.0, size=60e9) is None


def test_one_that_is_slow_for_a_while_is_left_alone():
    assert watched(lambda now: (60.0, 200) if 100 < now < 115 else (0.0, 200)) is None


def test_one_that_hangs_is_killed_after_its_silence():
    killed = watched(lambda now: (60.0, 200) if now > 100 else (0.0, 200), works=0.01)
    assert killed is not None
    assert 100 + 17 < killed <= 100 + 26  # it is asked every 2.5 s


@pytest.mark.parametrize(("size", "seconds"), [(0, 10), (12e9, 46)])
def test_one_that_computes_without_an_answer_has_time_for_a_batch_of_its_model(size, seconds):
    killed = watched(lambda now: (600.0, 200) if now > 100 else (0.0, 200), works=0.9, size=size)
    assert killed is not None
    assert 100 + seconds - 3 < killed <= 100 + seconds + 6


def test_answers_that_are_faults_count_as_silence():
    assert watched(lambda now: (0.0, 500)) is not None
