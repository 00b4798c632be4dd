import asyncio
import errno
import io
import json
import logging
import os
import signal

import pytest

from standpipe.app.runtime import LibraryLog, Signals, enough_descriptors, unexpected
from standpipe.engines.scripted.script import Script
from standpipe.observe.log import build
from standpipe.settings import Settings
from tests.serve.driver import Reply, scene


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_that_comes_early_ends_nothing(number):
    async def scene():
        signals = Signals()
        came = asyncio.Event()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        signals.on[signal.SIGHUP] = came.set
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), number)
        await came.wait()
        assert signals.drain.is_set() == (number == signal.SIGTERM)
        signals.end()

    before = {each: signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(scene())
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_lack_of_descriptors_is_told_as_such_and_is_no_bug():
    out = io.StringIO()
    error = OSError(errno.EMFILE, "Too many open files")
    unexpected(build("human", "info", out), None, {"message": "cannot accept connections", "exception": error})
    assert "out of file descriptors" in out.getvalue()
    assert "bug" not in out.getvalue()


@pytest.mark.parametrize(("granted", "warned"), [(500, True), (100_000, False)])
def test_too_few_descriptors_are_told_at_the_start(monkeypatch, granted, warned):
    monkeypatch.setattr("standpipe.app.runtime.raise_descriptors", lambda wanted: min(granted, wanted))
    out = io.StringIO()
    enough_descriptors(Settings(), build("human", "info", out))
    assert ("open files" in out.getvalue()) == warned


@scene(Script(tokens=100, rate=1, slots=1), pace_interval=0)
async def test_an_operator_can_see_inside_and_no_address(tap):
    asks = [tap.leaving(Reply(), said="a secret", peer="203.0.113.9") for _ in range(3)]
    await asyncio.sleep(0.5)
    before = len(tap.lines)
    tap.center.dump()
    lines = tap.lines[before:]
    (queue,) = [line for line in lines if line["event"] == "dump queue"]
    assert (queue["waiting"], queue["running"], queue["slots"]) == (2, 1, 1)
    (engine,) = [line for line in lines if line["event"] == "dump engine"]
    assert (engine["name"], engine["busy"]) == ("scripted", 1)
    (client,) = [line for line in lines if line["event"] == "dump client"]
    assert (client["waiting"], client["running"]) == (2, 1)
    tasks = {line["where"]: line["count"] for line in lines if line["event"] == "dump tasks"}
    (place,) = [place for place in tasks if "Ticket.granted" in place]
    assert tasks[place] == 2
    assert "Pool.answer" in " ".join(tasks)
    assert "203.0.113" not in str(lines)
    assert "secret" not in str(lines)
    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)


def test_what_libraries_log_goes_into_our_log():
    out = io.StringIO()
    handler = LibraryLog(build("json", "info", out))
    logger = logging.getLogger("standpipe.test_libraries")
    logger.addHandler(handler)
    logger.propagate = False
    logger.info("chatter")
    logger.warning("socket.send() raised %s", "x" * 1000)
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["library"], line["level"]) == ("standpipe.test_libraries", "warning")
    assert len(line["text"]) == 500
