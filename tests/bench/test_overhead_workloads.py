from pathlib import Path

import msgspec
import pytest

from bench.overhead.cancel import PHASES, Phase, request
from bench.overhead.gateways import STANDPIPES, Gateway, Place
from bench.overhead.measure import Load
from bench.overhead.peers import CONFIGS, PEER_TABLE
from bench.overhead.workloads import ROWS, Row, options
from standpipe.configuration import load as load_settings

_PLACE = Place(port=8001, engine=8002, folder=Path("/nowhere"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rows_metrics_have_names_of_their_own(row: Row) -> None:
    names = [metric.name for metric in row.metrics]
    assert len(set(names)) == len(names)


def test_a_slow_peer_gets_its_own_load_and_the_rest_of_the_row() -> None:
    burst = next(row for row in ROWS if row.name == "burst")
    usual, slow = options(burst, slow=False, duration=1000), options(burst, slow=True, duration=1000)
    assert slow["connections"] < usual["connections"]
    assert {**slow, "connections": 0} == {**usual, "connections": 0}


def test_a_load_goes_on_for_its_duration_after_it_has_settled() -> None:
    gentle = next(row for row in ROWS if row.name == "gentle")
    assert options(gentle, slow=False, duration=1000)["duration"] == 1000 + gentle.load["settle"]


def test_what_the_generator_prints_is_understood() -> None:
    quantiles = {"count": 1, "p50": 2, "p90": 3, "p99": 4, "max": 5}
    numbers = dict.fromkeys(
        ("requests", "chunks", "errors", "unfinished", "reconnects", "peak", "seconds", "steady_seconds",
         "steady_requests", "steady_chunks", "cpu_seconds"), 7,
    )  # fmt: skip
    times = dict.fromkeys(("first_us", "whole_us", "transit_us", "lag_us"), quantiles)
    printed = msgspec.json.encode({**numbers, **times, "first_error": "status"})
    assert msgspec.json.decode(printed, type=Load).whole_us.p99 == 4


@pytest.mark.parametrize("gateway", STANDPIPES, ids=lambda gateway: gateway.name)
def test_our_own_command_line_has_only_settings_that_exist_and_switches_pacing_off(gateway: Gateway) -> None:
    assert gateway.command
    words = gateway.command(_PLACE)
    command, *flags = words[words.index("serve") :]
    pairs = dict(flag.removeprefix("--").replace("-", "_").split("=", 1) for flag in flags)
    engine = pairs.pop("engine")
    settings = load_settings({**pairs, "engine": [engine]})
    assert command == "serve"
    assert settings.pace_interval == 0
    assert settings.engine == ("http://127.0.0.1:8002/v1",)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
def test_a_request_that_will_be_left_is_whole(phase: Phase) -> None:
    head, _, body = request(_PLACE, STANDPIPES[0], phase, 7).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert msgspec.json.decode(body)["stream"] is phase.stream
    assert b",7;" in body


def test_peers_listen_on_loopback_alone() -> None:
    for name in ("nginx.conf", "envoy.yaml"):
        for line in (CONFIGS / name).read_text(encoding="utf-8").splitlines():
            if "$port" in line:
                assert "127.0.0.1" in line


def test_gateways_have_different_names() -> None:
    names = [one.name for one in STANDPIPES] + [peer.gateway.name for peer in PEER_TABLE]
    assert len(set(names)) == len(names)
