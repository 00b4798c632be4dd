"""The official `openai` package for Node against a running server. What is asserted stands in `node/openai.mjs`."""

import pytest

from tests.e2e import packages
from tests.e2e.conftest import QUICK, Server

ENGINE = "scripted:?tokens=12&reasoning=4&model=gpt-oss:latest&tool=get_weather"


@pytest.fixture(scope="module")
def house():
    packages.node()
    with Server("--engine", ENGINE, "--pace-interval", "0", "--keep-responses", "60") as server:
        yield server


@pytest.mark.parametrize(
    "scene",
    [
        "chat_whole",
        "chat_stream",
        "chat_parse",
        "chat_tools",
        "responses_whole",
        "responses_events",
        "responses_stream",
        "responses_parse",
        "responses_tools",
        "responses_kept",
        "responses_refused",
        "completions",
    ],
)
def test_the_official_client(house, scene):
    packages.run_node("openai.mjs", house.url, scene)


def test_a_stream_that_fails_ends_in_an_error(serve):
    packages.node()
    server = serve("--engine", "scripted:?tokens=12&fault=cut:6", "--pace-interval", "0")
    packages.run_node("openai.mjs", server.url, "responses_failed")


def test_heartbeats_and_the_place_in_line_are_taken_by_the_helper(serve):
    packages.node()
    slow = "scripted:?tokens=4&reasoning=2&slots=1&first=0.3&rate=30"
    server = serve("--engine", slow, "--pace-interval", "0", first=QUICK)
    packages.run_node("openai.mjs", server.url, "responses_waiting")
