"""The fleet of a running server: changed by settings (SIGHUP) and by the operator's word, without touching a stream."""

import asyncio
from functools import partial

import pytest

from standpipe.app import engines as opening
from standpipe.engine_tables import EngineTable
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.scripted.script import read_script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.settings import Settings, SettingsError
from tests.app.test_reload import hang_up
from tests.serve.driver import Reply, Tap
from tests.virtual import run

SLOW = "scripted:?first=1&tokens=10&rate=10"


def table(name, url="scripted:?tokens=1", **keys):
    return EngineTable(url=url, name=name, **keys)


def tap(*tables, **settings):
    """A server that was started with these tables."""
    start = Settings(engine=tables)
    engines = [opening.connect(one, start, lambda _level, _text: None)[0] for one in opening.read_engines(start)]
    return Tap(engines=engines, engine=tables, pace_interval=0, **settings)


def names(it):
    return [member.engine.name for member in it.app.fleet.members]


def scene(*tables, **settings):
    def decorate(body):
        async def whole():
            async with tap(*tables, **settings) as it:
                await body(it, partial(hang_up, it, pace_interval=0, **settings))

        return lambda: run(whole())

    return decorate


def told(lines):
    return [(line["event"], line["engine"]) for line in lines if "engine" in line]


@scene(table("a"), table("b"))
async def test_engines_come_and_go_with_the_settings(it, reload):
    lines = await reload(engine=(table("b"), table("c"), table("d", drain=True)))
    await asyncio.sleep(0)
    assert names(it) == ["b", "c", "d"]
    assert told(lines) == [("engine added", "c"), ("engine added", "d"), ("engine drains and will be removed", "a")]
    assert it.lines[-1] | {"event": "engine removed", "engine": "a"} == it.lines[-1]
    assert [member.draining for member in it.app.fleet.members] == [False, False, True]
    assert {engine["name"] for engine in (await it.send("GET", "/api")).json["engines"]} == {"b", "c", "d"}
    assert (await it.ask(stream=False)).status == 200


@scene(table("a", SLOW, slots=2))
async def test_what_runs_goes_on_where_it_is_and_holds_its_slots(it, reload):
    (member,) = it.app.fleet.members
    former = member.engine
    closed = []
    former.close = lambda: closed.append(asyncio.get_running_loop().time()) or asyncio.sleep(0)
    asks = [it.leaving(Reply(), peer=f"203.0.113.{n}", stream=False) for n in range(4)]
    await asyncio.sleep(0.5)
    lines = await reload(engine=(table("a", SLOW, slots=5, weight=2, models={"m": "scripted"}),))
    assert told(lines) == [("engine changed", "a")]
    assert set(lines[1]["changed"].split()) == {"slots", "weight", "models"}
    assert (it.app.fleet.members, member.engine is former) == ((member,), False)
    assert (member.busy, member.engine.slots, it.app.fleet.models()) == (4, 5, ("m",))
    replies = await asyncio.gather(*asks)
    assert [reply.status for reply in replies] == [200] * 4
    assert [reply.json["model"] for reply in replies] == ["scripted", "m", "m", "m"]  # one slot was kept for others
    await asyncio.sleep(2)
    assert len(closed) == 1
    assert 1.9 <= closed[0] < 4
    assert (member.busy, dict(member.at_work)) == (0, {member.engine: 0})


@scene(table("a", SLOW), table("b"))
async def test_an_engine_that_is_wanted_back_while_it_leaves_stays(it, reload):
    ask = it.leaving(Reply(), stream=False)
    await asyncio.sleep(0.5)
    await reload(engine=(table("b"),))
    assert names(it) == ["a", "b"]
    lines = await reload(engine=(table("a", SLOW), table("b")))
    assert told(lines) == [("engine gets requests again", "a")]
    assert (await ask).status == 200
    await asyncio.sleep(1)
    assert names(it) == ["a", "b"]
    assert not any(member.draining or member.leaving for member in it.app.fleet.members)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ((table("c"), table("b", key="k")), r"engine 2 (b): key: only for engines over HTTP"),
        ((table("c"), table("b", "nonsense")), "engine 2 (b): an engine must be one of"),
        ((table("c"), table("b", "scripted:?nothing=1")), "engine 2 (b): "),
        ((table("c"), table("e", "embedded")), "engine 2 (e): an embedded engine is loaded at a start only"),
        ((), "engine is empty"),
    ],
)
def test_engines_that_are_wrong_change_nothing(wrong, reason):
    @scene(table("a"), table("b"))
    async def check(it, reload):
        members = it.app.fleet.members
        (line,) = await reload(engine=wrong, name="Fountain")
        assert line["level"] == "warning"
        assert reason in line["reason"]
        assert (it.app.fleet.members, it.app.settings.name) == (members, "Standpipe")
        assert told(await reload(engine=(table("a"), table("b")))) == []

    check()


def test_a_key_that_has_changed_in_its_file_is_read_again(tmp_path):
    (tmp_path / "key").write_text("old")
    one = table("a", "http://127.0.0.1:9/v1", key_file=str(tmp_path / "key"))

    async def body():
        async with tap(table("s")) as it:
            await hang_up(it, engine=(table("s"), one))
            assert told(await hang_up(it, engine=(table("s"), one))) == []
            (tmp_path / "key").write_text("new")
            lines = await hang_up(it, engine=(table("s"), one))
            assert told(lines) == [("engine changed", "a")]
            assert lines[0]["changed"] == "key"
            assert "new" not in str(lines)

    run(body())


def test_of_an_embedded_engine_what_needs_no_start_changes():
    class Child(Scripted):
        closed = False

        async def close(self):
            self.closed = True

    async def body():
        child = Child(read_script("scripted:?tokens=1"))
        engines = [Placed(child, Placement(), "e")]
        async with Tap(engines=engines, engine=(table("e", "embedded"),), pace_interval=0) as it:
            (line,) = await hang_up(it, engine=(table("e", "embedded", slots=3),))
            assert "slots of an embedded engine counts at a start only" in line["reason"]
            lines = await hang_up(
                it, engine=(table("e", "embedded", weight=3, models={"m": "scripted"}),), pace_interval=0
            )
            assert told(lines) == [("engine changed", "e")]
            assert (await it.ask(stream=False)).json["model"] == "m"
            await asyncio.sleep(2)
            assert not child.closed
            await hang_up(it, engine=(table("s"),))
            await asyncio.sleep(1)
            assert child.closed

    run(body())


@scene(table("a", SLOW), table("b"))
async def test_the_operators_word_counts_until_the_end_whatever_is_reloaded(it, reload):
    roster = it.center.roster
    ask = it.leaving(Reply(), stream=False)
    await asyncio.sleep(0.5)
    await roster.add("scripted:?name=c&tokens=1#slots=7", by="ann")
    roster.drain("b", by="ann")
    roster.remove("a", by="ann")
    assert [(line["event"], line["engine"], line["by"]) for line in it.lines if "by" in line] == [
        ("engine added", "c", "ann"), ("engine drains", "b", "ann"), ("engine drains and will be removed", "a", "ann"),
    ]  # fmt: skip
    await reload(engine=(table("a", SLOW), table("b")), name="Fountain")
    assert (await ask).status == 200
    assert (await it.ask(stream=False)).status == 200
    assert names(it) == ["b", "c"]
    assert [member.draining for member in it.app.fleet.members] == [True, False]
    assert it.app.fleet.members[1].engine.slots == 7


@pytest.mark.parametrize(
    ("word", "name", "reason"),
    [
        ("drain", "gpu-c", "no engine is called gpu-c: did you mean gpu-a"),
        ("remove", "zzz", "no engine is called zzz: there are: gpu-a, scripted"),
        ("add", table("gpu-a"), "gpu-a is here already: give the other one a name"),
        ("add", "scripted:?tokens=1", "scripted is here already"),
        ("add", "embedded", "the engine: an embedded engine is loaded at a start only"),
        ("add", "ftp://x", "engine must be one of"),
        ("add", table("x", key_env="NO_SUCH"), "the engine: key_env names NO_SUCH"),
    ],
)
def test_what_cannot_be_said_is_told_in_a_sentence(word, name, reason):
    @scene(table("gpu-a"), table("", "scripted:?tokens=1"))
    async def check(it, _):
        with pytest.raises(SettingsError, match=reason):
            saying = getattr(it.center.roster, word)(name, by="ann")
            await saying

    check()


@scene(table("a"))
async def test_the_last_engine_stays(it, reload):
    with pytest.raises(SettingsError, match="the last engine: add another one first"):
        it.center.roster.remove("a", by="ann")
    await it.center.roster.add("scripted:?name=b", by="ann")
    it.center.roster.remove("a", by="ann")
    with pytest.raises(SettingsError, match="the last engine"):
        it.center.roster.remove("b", by="ann")
