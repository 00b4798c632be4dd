"""What an operator is told of the fleet: a line of the log for each change, numbers for each engine, its state."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from standpipe.chat.errors import EngineFailed
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.scripted.script import Script
from tests.serve.driver import Tap, scene
from tests.serve.test_fleet import Moody, fails
from tests.virtual import run


def told(tap, *fields):
    return [tuple(line.get(field) for field in ("event", *fields)) for line in tap.lines if line["event"] != "request"]


def test_an_engine_that_is_away_at_the_start_goes_and_comes_back_is_told_with_the_reason():
    async def body():
        engine = Moody("a")
        engine.kill()
        async with Tap(engines=[engine, Moody("b")]) as tap:
            await asyncio.sleep(2)
            engine.start()
            await asyncio.sleep(2)
            return told(tap, "engine", "reason")

    assert run(body())[1:] == [
        ("engine is down", "a", "The engine cannot be reached."),
        ("engine is up again", "a", None),
    ]


def test_a_breaker_that_opens_and_closes_is_told_with_the_reason():
    async def body():
        engine = Moody("a")
        engine.mood = fails(EngineFailed("The engine failed with status 500.", upstream_status=502))
        async with Tap(engines=[engine], pace_interval=0, attempts=1) as tap:
            for _ in range(8):
                await tap.ask()
            await asyncio.sleep(2)
            engine.mood = None
            await asyncio.sleep(60)
            assert (await tap.ask()).status == 200
            await asyncio.sleep(2)
            return told(tap, "reason")

    lines = run(body())
    assert ("engine keeps failing and is left alone for a while", "The engine failed with status 500.") in lines
    assert lines[-1][0] == "engine answers again"


def test_the_default_model_is_told_and_a_warning_when_it_goes():
    async def body():
        engine = Moody("a", model="small")
        async with Tap(engines=[engine, Moody("b", model="gpt-oss:20b")], model="nowhere") as tap:
            tap.app.fleet.members[1].models = ()
            tap.app.fleet._relist()
            return [(line["level"], line["event"], line.get("model")) for line in tap.lines]

    assert run(body()) == [
        ("warning", "no engine lists the model of the settings", "nowhere"),
        ("info", "default model", "gpt-oss:20b"),
        ("warning", "no engine lists the model of the settings", "nowhere"),
        ("warning", "default model is gone", "small"),
    ]


@scene(Script(tokens=2, first=0.5), pace_interval=0)
async def test_each_engine_has_its_numbers(tap):
    await tap.ask(stream=False)
    leaving = tap.leaving(None)
    await asyncio.sleep(0.1)
    leaving.cancel()
    await asyncio.sleep(0.1)
    families = text_string_to_metric_families(tap.center.metrics.page().decode())
    found = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    assert found["standpipe_engine_attempts_total", "scripted"] == 2
    assert found["standpipe_engine_outcomes_total", "scripted", "answered"] == 1
    assert found["standpipe_engine_outcomes_total", "scripted", "left"] == 1
    assert found["standpipe_engine_first_token_seconds", "scripted"] == 0.5
    assert found["standpipe_engine_held_off_seconds", "scripted"] == 0


def test_the_status_says_why_an_engine_is_down_and_what_drains():
    async def body():
        away, drained = Moody("away"), Placed(Moody("drained"), Placement(drain=True, window=4096))
        away.kill()
        async with Tap(engines=[away, drained, Moody("c")]) as tap:
            await asyncio.sleep(1.5)
            about = (await tap.send("GET", "/api")).json["engines"]
            page = (await tap.send("GET", "/status.md")).body.decode()
            models = (await tap.send("GET", "/v1/models")).json["data"]
            shown = (await tap.send("POST", "/api/show", {"model": models[0]["id"]})).json
            return about, page, models, shown

    about, page, models, shown = run(body())
    assert about[0]["reason"] == "The engine cannot be reached."
    assert (about[1]["draining"], about[1]["context_tokens"]) == (True, 4096)
    assert "- away: down, 0 of 24 slots busy. The engine cannot be reached." in page
    assert "slots busy, draining" in page
    assert models[0]["max_model_len"] == 4096
    assert shown["model_info"]["standpipe.context_length"] == 4096
