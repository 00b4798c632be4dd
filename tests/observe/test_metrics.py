"""What is counted, as Prometheus reads it."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from standpipe.engines.scripted.script import Script
from tests.serve.driver import Reply, scene


def samples(tap):
    """Every number of the page, by its name and its labels."""
    families = text_string_to_metric_families(tap.center.metrics.page().decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@scene(Script(tokens=4, rate=1, slots=1), pace_interval=0)
async def test_what_was_asked_and_what_is_asked_now_is_counted(tap):
    await tap.ask(stream=False)
    await tap.ask(temperature=9)
    running = [tap.leaving(Reply(), peer=f"203.0.113.{n}") for n in range(3)]
    await asyncio.sleep(0.1)
    found = samples(tap)
    assert found["standpipe_requests_total", "api", "200"] == 1
    assert found["standpipe_requests_total", "api", "400"] == 1
    assert found["standpipe_failures_total", "InvalidAsk"] == 1
    assert found["standpipe_tokens_total", "completion"] == 4
    assert found["standpipe_retries_total",] == 0
    assert (found["standpipe_queue_waiting",], found["standpipe_running",], found["standpipe_slots",]) == (2, 1, 1)
    assert found["standpipe_queue_clients",] == 3
    assert (found["standpipe_engine_up", "scripted"], found["standpipe_engine_busy_slots", "scripted"]) == (1, 1)
    assert ("standpipe_connections",) not in found  # no server of ours is in front
    for ask in running:
        ask.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert samples(tap)["standpipe_requests_total", "api", "499"] == 3


@scene(Script(tokens=1))
async def test_a_histogram_is_cumulative_and_ends_with_everything(tap):
    await tap.ask(stream=False)
    found = samples(tap)
    bounds = [value for (name, *_), value in found.items() if name == "standpipe_queue_wait_seconds_bucket"]
    assert bounds == sorted(bounds)
    assert bounds[-1] == found["standpipe_queue_wait_seconds_count",] == 1


@scene(Script(tokens=4, rate=1, first=3), pace_interval=0, client_slots=1)
async def test_an_engines_first_tokens_are_timed_from_its_slot_and_its_tokens_are_counted(tap):
    await asyncio.gather(*(tap.ask(stream=False) for _ in range(2)))
    found = samples(tap)
    name = "standpipe_engine_time_to_first_token_seconds"
    assert found[f"{name}_count", "scripted"] == 2
    assert found[f"{name}_sum", "scripted"] == 6
    assert found["standpipe_engine_tokens_total", "completion", "scripted"] == 8
    assert found["standpipe_engine_tokens_total", "prompt", "scripted"] == found["standpipe_tokens_total", "prompt"]
    assert found["standpipe_engine_left_alone_seconds_total", "scripted"] == 0


@scene(Script(tokens=1, slots=1, first=50), pace_interval=0, queue_per_client=1)
async def test_what_the_queue_refuses_is_counted_by_its_bound(tap):
    asks = [tap.leaving(Reply()) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert samples(tap)["standpipe_queue_refused_total", "client"] == 1
    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)
