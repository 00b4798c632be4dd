"""The description of the API tells the truth: paths, examples, and the shapes of what is really written."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from standpipe.engines.scripted.script import Script
from standpipe.observe.about import About, Status
from standpipe.serve.limits import ClientLimits
from standpipe.site.openapi import OPERATIONS, Chunk, Error
from tests.serve.driver import Tap
from tests.virtual import run

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts" / "openai_chat"
NOT_DESCRIBED = {
    *("/", "/chat", "/status", "/privacy", "/index.md", "/status.md", "/privacy.md", "/llms.txt", "/openapi.json"),
    *("/robots.txt", "/favicon.svg", "/favicon.ico", "/og.png", "/apple-touch-icon.png", "/assets/*"),
    *("/preview", "/manifest.webmanifest"),
    *("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/*"),
}
"""Pages, files, and what exists only to be refused."""


def with_tap(scene, **settings):
    async def body():
        async with Tap(Script(tokens=3), **settings) as tap:
            return await scene(tap)

    return run(body())


def served(**settings):
    async def scene(tap):
        reply = await tap.send("GET", "/openapi.json")
        return reply.json, tap.app.pages.paths, tap.app.guard.routes

    return with_tap(scene, **settings)


def test_every_path_and_method_that_is_served_is_described_and_nothing_else():
    document, paths, routes = served(keep_responses=60.0, shares=True)
    wanted = {path for path in paths if path not in NOT_DESCRIBED}
    assert set(document["paths"]) == {path.replace("*", "{id}") for path in wanted}
    for path in wanted:
        methods = {method.lower() for method in routes.find(path.replace("*", "x"))[1].methods}
        assert methods == set(document["paths"][path.replace("*", "{id}")]), path


def test_what_is_not_served_is_not_described():
    document, _, _ = served()
    assert "/api/share" not in document["paths"]


def test_every_reference_leads_somewhere_and_every_schema_is_used():
    document, _, _ = served(keep_responses=60.0, shares=True)
    text = json.dumps(document)
    names = document["components"]["schemas"]
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(names)
    headers = {part.split('"')[0] for part in text.split("#/components/headers/")[1:]}
    assert headers == set(document["components"]["headers"])


def test_it_is_openapi_3_1():
    document, _, _ = served(keep_responses=60.0, shares=True)
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)


@pytest.mark.parametrize("path", [path for path, methods in OPERATIONS.items() if "POST" in methods])
def test_every_example_is_answered(path):
    operation = OPERATIONS[path]["POST"]
    if operation.example is None:
        pytest.skip("it has no example")

    async def scene(tap):
        return await tap.send("POST", path, operation.example)

    reply = with_tap(scene, pace_interval=0.0)
    assert reply.status == 200 or path == "/v1/embeddings", reply.body


def test_defaults_and_ranges_of_our_own_path_are_told():
    document, _, _ = served()
    ask = document["components"]["schemas"]["Ask"]["properties"]
    assert [ask[name]["default"] for name in ("stream", "temperature", "top_p", "max_tokens")] == [True, 0.8, 0.9, -1]
    assert (ask["temperature"]["minimum"], ask["temperature"]["maximum"]) == (0, 2)
    assert (ask["messages"]["minItems"], ask["messages"]["maxItems"]) == (1, 4096)
    assert {"enum": ["auto", "none", "required"]} in ask["tool_choice"]["anyOf"]
    assert ask["temperature"]["type"] == ["number", "null"]
    assert set(document["paths"]["/api"]["post"]["responses"]["200"]["content"]) == {
        "application/json",
        "text/event-stream",
    }
    assert "retry-after" in document["paths"]["/api"]["post"]["responses"]["429"]["headers"]
    assert next(sample["label"] for sample in document["paths"]["/api"]["post"]["x-codeSamples"]) == "curl"


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.sse")), ids=lambda path: path.stem)
def test_streams_have_the_shape_that_is_described(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        data = line.removeprefix("data: ")
        if line.startswith("data: ") and data != "[DONE]":
            msgspec.json.decode(data, type=Error if '"error"' in data[:12] else Chunk)


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/api", About), ("/api/limits", ClientLimits), ("/api/status", Status)],
)
def test_what_is_told_has_the_shape_that_is_described(path, shape):
    async def scene(tap):
        await tap.ask()
        return await tap.send("GET", path)

    body = with_tap(scene).body
    assert msgspec.json.encode(msgspec.json.decode(body, type=shape)) == body


def test_an_error_has_the_shape_that_is_described():
    async def scene(tap):
        return await tap.ask(temperature=9)

    msgspec.json.decode(with_tap(scene).body, type=Error)
