"""`standpipe engines`: what an operator orders, from the words on the command line to the fleet."""

import asyncio
import json
import re

import pytest

from standpipe.app.commands import commands
from standpipe.cli import main
from standpipe.control.orders import Refused
from standpipe.engine_tables import EngineTable
from standpipe.terminal import roll
from tests.app.test_roster import SLOW, scene, table
from tests.serve.driver import Reply


def order(it, command, **arguments):
    return commands(it.app.fleet, it.center.roster)[command](arguments, "ann")


@scene(table("a", SLOW), table("b", "scripted:?tokens=1&fault=refuse"))
async def test_engines_are_listed_as_they_are(it, reload):
    ask = it.leaving(Reply(), stream=False)
    await asyncio.sleep(0.5)
    one, two = await order(it, "engines list")
    assert one == {
        "name": "a", "url": SLOW, "state": "up", "reason": None, "busy": 1, "slots": 4, "models": ("scripted",),
        "held_off_seconds": 0.0, "priority": 0,
    }  # fmt: skip
    assert (two["state"], two["reason"]) == ("down", "The engine refuses connections.")
    await ask


@scene(table("a", SLOW))
async def test_each_order_does_what_it_says(it, reload):
    ask = it.leaving(Reply(), stream=False)
    await asyncio.sleep(0.5)
    engines = await order(it, "engines add", engine={"url": "scripted:?tokens=1", "name": "b", "slots": 2})
    assert [(engine["name"], engine["slots"]) for engine in engines] == [("a", 4), ("b", 2)]
    states = []
    for command, name in (("drain", "b"), ("resume", "b"), ("remove", "a")):
        states.append([engine["state"] for engine in await order(it, f"engines {command}", name=name)])
    assert states == [["up", "draining"], ["up", "up"], ["leaving", "up"]]
    assert (await ask).status == 200
    assert [engine["name"] for engine in await order(it, "engines list")] == ["b"]


@pytest.mark.parametrize(
    ("command", "arguments", "why"),
    [
        ("engines drain", {"name": "b"}, "no engine is called b: there are: a"),
        ("engines drain", {}, "say the engine's name"),
        ("engines remove", {"name": "a"}, "the last engine"),
        ("engines add", {}, "say which engine"),
        ("engines add", {"engine": "nonsense"}, "an engine must be one of"),
        ("engines add", {"engine": {"name": "b"}}, "has no url"),
        ("engines add", {"engine": {"url": "scripted:", "slots": "x"}}, "slots is 'x'; allowed: auto, or an integer"),
        ("engines add", {"engine": {"url": "scripted:", "slot": 1}}, "slot, which no engine has: did you mean slots"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(command, arguments, why):
    @scene(table("a"))
    async def check(it, _):
        with pytest.raises(Refused, match=why):
            await order(it, command, **arguments)

    check()


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        (["http://b:8000/v1#slots=8"], "http://b:8000/v1#slots=8"),
        (["scripted:?first=0.1&rate=5"], "scripted:?first=0.1&rate=5"),
        (
            ["http://b/v1", "name=b", "slots=8", "weight=1.5", "drain=true", "models=x,pub=own", "headers=X-A=b=c"],
            {
                "url": "http://b/v1", "name": "b", "slots": 8, "weight": 1.5, "drain": True,
                "models": {"x": "x", "pub": "own"}, "headers": {"X-A": "b=c"},
            },
        ),
        (["url=scripted:", "slots=many"], {"url": "scripted:", "slots": "many"}),
    ],
)  # fmt: skip
def test_an_engine_is_said_in_words(words, engine):
    assert roll.described(words) == engine


def test_a_file_is_meant_where_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert roll.described(["http://b/v1", "key_file=k"])["key_file"] == str(tmp_path / "k")


def test_every_key_of_a_table_can_be_said():
    words = [f"{name}=1" for name in EngineTable.__struct_fields__]
    assert set(roll.described(words)) == set(EngineTable.__struct_fields__)


ENGINES = [
    {
        "name": "gpu-a", "url": "http://gpu-a:8000", "state": "down", "reason": "It refuses connections.", "busy": 1,
        "slots": 8, "models": ["m1", "m2"], "held_off_seconds": 2.5, "priority": 0,
    }
]  # fmt: skip


def said(monkeypatch, capsys, *words, called=None):
    def call(_path, command, arguments):
        if called is not None:
            called.append((command, arguments))
        return ENGINES

    monkeypatch.setattr(roll, "call", call)
    monkeypatch.setenv("COLUMNS", "140")
    with pytest.raises(SystemExit) as end:
        main(["engines", *words, "--socket", "/nowhere"])
    return end.value.code, *capsys.readouterr()


def test_the_command_line_shows_a_table_or_json(monkeypatch, capsys):
    code, out, _ = said(monkeypatch, capsys)
    assert code == 0
    assert re.split(r"\s{2,}", out.split("\n")[1]) == [
        "gpu-a", "http://gpu-a:8000", "down, held off for 2.5 s: It refuses connections.", "1/8", "m1, m2", "",
    ]  # fmt: skip
    assert json.loads(said(monkeypatch, capsys, "list", "--json")[1]) == ENGINES


def test_the_command_line_says_what_was_done_and_how_long_it_lasts(monkeypatch, capsys):
    called = []
    code, out, _ = said(monkeypatch, capsys, "drain", "gpu-a", called=called)
    assert (code, called) == (0, [("engines drain", {"name": "gpu-a"})])
    assert out.startswith("gpu-a gets no new requests")
    assert "until the server restarts" in out
    assert said(monkeypatch, capsys, "add", "http://gpu-a:8000/v1")[1].startswith("gpu-a has been added.")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["drain"], "takes the name of one engine"),
        (["add"], "needs the engine's URL"),
        (["add", "http://a/v1", "http://b/v1"], "takes one engine"),
        (["list", "a"], "takes no engine"),
    ],
)
def test_wrong_words_are_told(monkeypatch, capsys, words, why):
    code, _, err = said(monkeypatch, capsys, *words)
    assert code == 2
    assert why in err


def test_where_no_server_runs_that_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main(["engines", "--socket", str(tmp_path / "none.sock")])
    assert end.value.code == 1
    assert "standpipe serve" in capsys.readouterr().err
