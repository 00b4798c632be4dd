"""Images on their way through a server: who may be shown them, what they cost, and what is told of that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from standpipe.dialects.bounds import IMAGES
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.pictures import PNG, png, text
from tests.serve.driver import Tap
from tests.virtual import run

LARGE = text(png(1000, 1000))


def look(*images: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
    return {"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}


def engines(*sees: bool) -> list[Any]:
    scripts = [Script(model=f"m{number}", tokens=2) for number, _ in enumerate(sees)]
    return [Placed(Scripted(script), Placement(sees=one)) for script, one in zip(scripts, sees, strict=True)]


def test_a_server_tells_which_models_see():
    async def body(*sees: bool) -> tuple[Any, ...]:
        async with Tap(engines=engines(*sees)) as tap:
            about = (await tap.send("GET", "/api")).json
            models = (await tap.send("GET", "/v1/models")).json["data"]
            shown = (await tap.send("POST", "/api/show", {"model": "m0"})).json["capabilities"]
            takes = {model["id"]: model["input_modalities"] for model in models}
            return about["limits"].get("images"), [one["image_models"] for one in about["engines"]], takes, shown

    blind, eyes = ["text"], ["text", "image"]
    assert run(body(True, False))[:3] == (IMAGES, [["m0"], []], {"m0": eyes, "m1": blind})
    assert run(body(False, True))[:3] == (None, [[], ["m1"]], {"m0": blind, "m1": eyes})
    assert "vision" in run(body(True))[3]
    assert "vision" not in run(body(False))[3]


def test_an_image_goes_to_an_engine_that_sees_and_is_charged_as_tokens():
    async def body() -> None:
        async with Tap(engines=engines(False, True), pace_interval=0) as tap:
            seen = await tap.send("POST", "/v1/chat/completions", {"model": "m1", "messages": [look(LARGE)]})
            assert (seen.status, seen.json["model"]) == (200, "m1")
            refused = await tap.send("POST", "/v1/chat/completions", {"model": "m0", "messages": [look(PNG)]})
            assert refused.status == 400
            assert refused.json["error"]["param"] == "messages[0].content[1]"
            assert "These models do: `m1`." in refused.json["error"]["message"]
            past = [look(PNG), {"role": "assistant", "content": "A square."}, {"role": "user", "content": "Why?"}]
            assert (await tap.send("POST", "/v1/chat/completions", {"model": "m0", "messages": past})).status == 200
            small = await tap.send(
                "POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}
            )
            source = {"type": "base64", "media_type": "image/png", "data": LARGE}
            counted = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
            large = await tap.send("POST", "/v1/messages/count_tokens", counted)
            assert large.json["input_tokens"] - small.json["input_tokens"] > 500
            assert PNG not in tap.log.getvalue()

    run(body())


def test_what_images_are_may_be_too_much_for_every_window():
    async def body() -> None:
        placed: Any = Placed(Scripted(Script(model="m", tokens=2)), Placement(sees=True, window=2000))
        async with Tap(engines=[placed], pace_interval=0) as tap:
            reply = await tap.send("POST", "/v1/chat/completions", {"messages": [look(LARGE)]})
            assert reply.status == 200
            reply = await tap.send("POST", "/v1/chat/completions", {"messages": [look(*[LARGE] * 9)]})
            assert reply.json["error"]["code"] == "context_length_exceeded"

    run(body())


@pytest.mark.parametrize("data", [PNG, "eA=="])
def test_an_image_that_is_refused_counts_like_any_other_fault(data):
    async def body() -> None:
        async with Tap(engines=engines(False), pace_interval=9, pace_waiting=1) as tap:
            sent = {"messages": [look(data)]}
            statuses = []
            for _ in range(4):
                statuses.append((await tap.send("POST", "/v1/chat/completions", sent)).status)
                await asyncio.sleep(0.01)
            assert statuses == [400, 400, 429, 429]

    run(body())
