import asyncio
import errno
import io
import os
import signal

import pytest

from standpipe.app.run import _raise_descriptors, _Signals, _unexpected
from standpipe.observe.log import build
from standpipe.settings import Settings


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_comes_early_ends_nothing(number):
    async def scene():
        signals = _Signals()
        came = asyncio.Event()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        signals.on_hang_up = came.set
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), number)
        await came.wait()
        assert signals.drain.is_set() == (number == signal.SIGTERM)
        signals.end()

    before = {each: signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(scene())
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_lack_of_descriptors_is_told_as_such_and_is_no_bug():
    out = io.StringIO()
    error = OSError(errno.EMFILE, "Too many open files")
    _unexpected(build("human", "info", out), None, {"message": "cannot accept connections", "exception": error})
    assert "no descriptor left" in out.getvalue()
    assert "bug" not in out.getvalue()


@pytest.mark.parametrize(("granted", "warned"), [(500, True), (100_000, False)])
def test_too_few_descriptors_are_told_at_the_start(monkeypatch, granted, warned):
    monkeypatch.setattr("standpipe.app.run.raise_descriptors", lambda wanted: min(granted, wanted))
    out = io.StringIO()
    _raise_descriptors(Settings(), build("human", "info", out))
    assert ("open files" in out.getvalue()) == warned
