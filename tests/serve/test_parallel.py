"""Many requests of one client at once, as programs send them: an SDK with its default retries loses none."""

import asyncio
import random

import pytest

from standpipe.engines.scripted.script import Script
from tests.serve.driver import Tap, scene

RETRIES = 2
"""What OpenAI's and Anthropic's SDKs do unless told otherwise."""


async def sdk(tap: Tap, *, said: str, whole_seconds: bool = False) -> tuple[int, list[float]]:
    """One call of an SDK: it comes back when it was told to, and a bit later. The status, and the waits told."""
    told: list[float] = []
    for attempt in range(RETRIES + 1):
        reply = await tap.ask(said, headers={"x-stainless-retry-count": str(attempt)})
        if reply.status == 200 or attempt == RETRIES:
            break
        assert reply.headers.get("x-should-retry") != "false"
        exact, rounded = int(reply.headers["retry-after-ms"]) / 1000, int(reply.headers["retry-after"])
        assert exact <= rounded < exact + 1
        told.append(exact)
        await asyncio.sleep(rounded if whole_seconds else exact)
    return reply.status, told


@pytest.mark.parametrize("whole_seconds", [False, True])
@pytest.mark.parametrize("same_words", [False, True])
@pytest.mark.parametrize("calls", [16, 32, 64])
@pytest.mark.parametrize("script", [Script(tokens=5), Script(tokens=50, first=1.0, rate=50.0)])
def test_nobody_is_lost(script, calls, same_words, whole_seconds):
    @scene(script)
    async def check(tap):
        random.seed(calls)
        ended = await asyncio.gather(
            *(sdk(tap, said="hello" if same_words else f"{n}", whole_seconds=whole_seconds) for n in range(calls))
        )
        assert [status for status, _ in ended] == [200] * calls
        first = [told[0] for _, told in ended if told]
        assert len(set(first)) == len(first) == calls - 1 - tap.settings.pace_waiting
        assert all(1 <= wait <= 59 for _, told in ended for wait in told)

    check()


@pytest.mark.parametrize("seconds", [5.0, 10.0, 15.0])
def test_an_engine_that_takes_long_loses_nobody_of_16(seconds):
    @scene(Script(first=seconds))
    async def check(tap):
        ended = await asyncio.gather(*(sdk(tap, said=f"{n}") for n in range(16)))
        assert [status for status, _ in ended] == [200] * 16

    check()


@pytest.mark.parametrize("seconds", [2.0, 5.0, 10.0])
def test_once_answers_are_measured_nobody_of_32_is_lost(seconds):
    @scene(Script(first=seconds))
    async def check(tap):
        await tap.ask(peer="192.0.2.2")
        ended = await asyncio.gather(*(sdk(tap, said=f"{n}") for n in range(32)))
        assert [status for status, _ in ended] == [200] * 32

    check()
