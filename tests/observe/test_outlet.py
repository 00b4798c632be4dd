"""A reader that stalls, stops or leaves costs lines, never time. Pipes, sockets and terminals are real ones."""

import asyncio
import json
import os
import pty
import socket
from pathlib import Path

import pytest

from standpipe.observe.log import build
from standpipe.observe.outlet import Outlet

LINE = "a line of the log, as long as they are in real life, which is not very long\n"


def pipe():
    reading, writing = os.pipe()
    return reading, os.fdopen(writing, "w")


def sockets():
    ours, theirs = socket.socketpair()
    return theirs.detach(), os.fdopen(ours.detach(), "w")


def terminal():
    main, other = pty.openpty()
    return main, os.fdopen(other, "w")


KINDS = [pipe, sockets, terminal]


@pytest.fixture
def opened(request):
    reading, stream = request.param()
    os.set_blocking(reading, False)
    yield reading, stream
    stream.close()
    os.close(reading)


def read(descriptor):
    """What is there now."""
    text = b""
    while True:
        try:
            data = os.read(descriptor, 65536)
        except (BlockingIOError, OSError):
            return text.decode().replace("\r\n", "\n")
        if not data:
            return text.decode()
        text += data


@pytest.mark.parametrize("opened", KINDS, indirect=True, ids=lambda kind: kind.__name__)
def test_a_reader_that_stalls_costs_lines_and_what_was_kept_comes_whole_when_it_reads_again(opened):
    reading, stream = opened
    outlet = Outlet(stream, room=100_000)

    async def scene():
        flows = []
        outlet.on_flow = lambda: flows.append(outlet.dropped)
        for _ in range(20_000):  # far more than the system and the buffer hold: it would block for ever
            outlet.write(LINE)
        lost = outlet.dropped
        assert 0 < lost < 20_000
        text = ""
        while not flows:
            text += read(reading)
            await asyncio.sleep(0)
        outlet.write("the end\n")
        text += read(reading)
        assert text == LINE * (20_000 - lost) + "the end\n"
        assert flows == [lost]

    asyncio.run(scene())
    outlet.close()


@pytest.mark.parametrize("opened", KINDS, indirect=True, ids=lambda kind: kind.__name__)
def test_what_is_read_at_once_is_written_at_once_and_without_a_loop(opened):
    reading, stream = opened
    outlet = Outlet(stream)
    for number in range(100):
        outlet.write(f"{number} \u00fc \ud800\n")
        assert read(reading) == f"{number} \u00fc \\ud800\n"
    assert outlet.dropped == 0
    outlet.close()


def test_a_reader_that_has_left_costs_lines():
    reading, stream = pipe()
    outlet = Outlet(stream)
    os.close(reading)
    outlet.on_flow = lambda: pytest.fail("nothing flows")
    for _ in range(3):
        outlet.write(LINE)
    assert outlet.dropped == 3
    stream.close()


def test_a_full_disk_costs_lines():
    with Path("/dev/full").open("w") as stream:
        outlet = Outlet(stream)
        outlet.write(LINE)
        assert outlet.dropped == 1


def test_closing_gives_the_reader_a_moment_and_no_more():
    reading, stream = pipe()
    outlet = Outlet(stream, room=100_000)
    for _ in range(5_000):
        outlet.write(LINE)
    outlet.close(patience=0.01)
    stream.close()
    os.close(reading)


def test_the_log_tells_what_was_lost_once_it_flows_again():
    reading, stream = pipe()
    os.set_blocking(reading, False)

    async def scene():
        log = build("json", "info", stream)
        for number in range(30_000):
            log.info("request", id=number)
        assert log.dropped
        lines = ""
        while "dropped" not in lines:
            lines += read(reading)
            await asyncio.sleep(0)
        told = json.loads(lines.splitlines()[-1])
        assert (told["level"], told["lines"]) == ("warning", log.dropped)

    asyncio.run(scene())
    stream.close()
    os.close(reading)
