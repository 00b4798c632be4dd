"""The virtual loop itself: it is what every other test's notion of time rests on."""

from __future__ import annotations

import asyncio
import time

import pytest

from standpipe.chat.events import Finished, FinishReason, IllegalOrder, Started, TextDelta
from tests.virtual import Collected, Deadlock, Overrun, run


def test_an_hour_passes_at_once():
    async def scene() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    before = time.monotonic()
    assert run(scene()) == pytest.approx(3600)
    assert time.monotonic() - before < 1


def test_timers_fire_in_order_and_at_their_times():
    async def scene() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []

        async def one(name: str, delay: float) -> None:
            await asyncio.sleep(delay)
            seen.append((name, loop.time()))

        await asyncio.gather(one("late", 3.0), one("early", 1.0), one("between", 2.0))
        return seen

    assert run(scene()) == [("early", 1.0), ("between", 2.0), ("late", 3.0)]


def test_waiting_for_nothing_is_a_deadlock():
    async def scene() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(scene())


def test_a_timer_that_is_re_armed_for_ever_overruns():
    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_later(1, again)

        again()
        await asyncio.Event().wait()

    with pytest.raises(Overrun):
        run(scene(), limit=100)


def test_a_task_that_outlives_the_scene_is_told_and_cancelled():
    cancelled: list[bool] = []

    async def forgotten() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            cancelled.append(True)

    async def scene() -> asyncio.Task[None]:
        task = asyncio.create_task(forgotten())
        await asyncio.sleep(0)
        return task

    with pytest.raises(AssertionError, match="outlived"):
        run(scene())
    assert cancelled == [True]


def test_a_callback_that_raises_fails_the_test():
    async def scene() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(scene())


def test_sockets_on_loopback_are_served_before_the_clock_jumps():
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def scene() -> tuple[bytes, float]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line, asyncio.get_running_loop().time()

    assert run(scene()) == (b"hello\n", 0.0)


def test_threads_are_waited_for_when_no_timer_is_set():
    async def scene() -> int:
        return await asyncio.to_thread(sum, [1, 2])

    assert run(scene()) == 3


def test_collected_holds_a_stream_against_the_legal_order():
    async def scene() -> Collected:
        sink = Collected()
        sink.take([Started("m")])
        sink.take([TextDelta("hi"), Finished(FinishReason.STOP)])
        with pytest.raises(IllegalOrder):
            sink.take([TextDelta("more")])
        return sink

    assert run(scene()).answer.text == "hi"
