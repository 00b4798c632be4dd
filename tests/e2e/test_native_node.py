"""The official packages of Anthropic and Ollama for Node against a running server. What is asserted stands in
`node/anthropic.mjs` and `node/ollama.mjs`."""

import pytest

from tests.e2e import packages
from tests.e2e.conftest import QUICK, Server

ENGINE = "scripted:?tokens=12&reasoning=4&model=gpt-oss:latest&tool=get_weather"
BOTH = pytest.mark.parametrize("script", ["anthropic.mjs", "ollama.mjs"])


@pytest.fixture(scope="module")
def house():
    packages.node()
    with Server("--engine", ENGINE, "--pace-interval", "0") as server:
        yield server


@pytest.mark.parametrize("scene", ["whole", "stream", "events", "tools", "parse", "count", "refused"])
def test_anthropics_client(house, scene):
    packages.run_node("anthropic.mjs", house.url, scene)


@pytest.mark.parametrize("scene", ["chat", "generate", "formats", "tools", "models", "refused"])
def test_ollamas_client(house, scene):
    packages.run_node("ollama.mjs", house.url, scene)


@BOTH
def test_a_stream_that_fails_ends_in_an_error(serve, script):
    packages.node()
    server = serve("--engine", "scripted:?tokens=12&fault=cut:6", "--pace-interval", "0")
    packages.run_node(script, server.url, "failed")


@BOTH
def test_heartbeats_and_the_place_in_line_disturb_nobody(serve, script):
    packages.node()
    slow = "scripted:?tokens=12&slots=1&first=0.3&rate=30"
    server = serve("--engine", slow, "--pace-interval", "0", first=QUICK)
    packages.run_node(script, server.url, "waiting")
