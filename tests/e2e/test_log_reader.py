"""Whoever reads the log, or does not, the server serves: real pipes, real descriptors, a real process."""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SMALL = "from standpipe.observe.outlet import Outlet; Outlet.__init__.__kwdefaults__['room'] = 20_000"
BODY = json.dumps({"messages": [{"role": "user", "content": "Hello!"}], "stream": False})


def ask(url, times):
    """Ask on one connection; every answer must come."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    for _ in range(times):
        connection.request("POST", "/api", BODY)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    connection.close()


def test_a_log_reader_that_stalls_stalls_nobody_and_is_told_what_it_missed(serve):
    server = serve("--engine", "scripted:?tokens=1", "--pace-interval", "0", first=SMALL)
    log = server.process.stderr
    fcntl.fcntl(log.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    ask(server.url, 400)  # some 140 KB of lines, where 24 KB find room
    lines = []
    while not (lines and lines[-1]["event"].startswith("log lines were dropped")):
        lines.append(json.loads(log.readline()))
    written = sum(line["event"] == "request" for line in lines)
    assert 0 < written < 400
    assert 400 - written <= lines[-1]["lines"] <= 400 - written + 2  # the alarm about proxies has a line, too
    ask(server.url, 1)
    assert json.loads(log.readline())["event"] == "request"


@pytest.mark.parametrize("broken", [1, 2], ids=["stdout", "stderr"])
@pytest.mark.parametrize("how", ["full", "closed", "unread"])
def test_a_stream_that_cannot_be_written_at_the_start_ends_nothing(broken, how):
    command = [sys.executable, "-m", "standpipe", "serve", "--port=0", "--admin-port=0", "--log-format=json"]
    command += ["--engine=scripted:?tokens=1", "--pace-interval=0"]
    full = Path("/dev/full").open("w") if how == "full" else None  # noqa: SIM115
    reading, writing = os.pipe()
    streams = {1: subprocess.PIPE, 2: subprocess.PIPE}
    streams[broken] = full or writing

    def spoil():
        if how == "closed":
            os.close(broken)

    if how == "unread":
        os.close(reading)  # whoever read it has left
    with subprocess.Popen(command, stdout=streams[1], stderr=streams[2], text=True, preexec_fn=spoil) as process:  # noqa: PLW1509
        os.close(writing)
        told = process.stderr if broken == 1 else process.stdout
        line = next(line for line in told if '"serving"' in line or "serves on" in line)
        url = json.loads(line)["address"] if broken == 1 else line.split()[-1]
        ask(url, 3)
        process.send_signal(signal.SIGTERM)
        told.read()
        assert process.wait(timeout=30) == 0
    if how != "unread":
        os.close(reading)
    if full:
        full.close()
