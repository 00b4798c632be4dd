"""The operator's socket, raw: who may open it, what lies at its path, and whatever may be said to it."""

import asyncio
import json
import os
import socket
import stat
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from standpipe.control import listener as ours
from standpipe.control.caller import call, find
from standpipe.control.listener import MOST, PATIENCE, Listener, open_socket
from standpipe.control.orders import LONGEST, Refused, folder, folders
from standpipe.edge.listen import ListenError
from tests.virtual import run

GOOD = b'{"command": "echo", "arguments": {"a": 1}}\n'


@pytest.fixture
def place(tmp_path):
    return tmp_path / "s"


@asynccontextmanager
async def listening(place, label="8080", **commands):
    async def echo(arguments, by):
        return [arguments, by]

    bugs = []
    sock, path = open_socket(place, label)
    task = asyncio.ensure_future(Listener(sock, path, {"echo": echo} | commands, bugs.append).listen())
    try:
        yield path, bugs
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert not path.exists()


async def say(path, words, *, end=False):
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(words)
    if end:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    return json.loads(answer) if answer else None


def test_it_is_its_users_alone_from_the_first_instant(place, monkeypatch):
    seen = []
    chmod = Path.chmod
    monkeypatch.setattr(Path, "chmod", lambda path, mode: (seen.append(path.stat().st_mode), chmod(path, mode)))
    former = os.umask(0)
    try:
        sock, path = open_socket(place, "8080")
    finally:
        os.umask(former)
    with sock:
        assert [stat.S_IMODE(mode) for mode in seen] == [0o600]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_dead_servers_socket_is_replaced_a_live_ones_and_another_file_never(place):
    dead, path = open_socket(place, "8080")
    dead.close()
    live, again = open_socket(place, "8080")
    second, other = open_socket(place, "8080")
    with live, second:
        assert (path, again, other) == (place / "8080.sock", path, place / "8080.2.sock")
    (place / "9.sock").write_text("mine")
    sock, path = open_socket(place, "9")
    with sock:
        assert path.name == "9.2.sock"
        assert (place / "9.sock").read_text() == "mine"


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_may_write_to_is_not_used(place, mode):
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(ListenError, match="not this user's own"):
        open_socket(place, "8080")
    with pytest.raises(ListenError, match="cannot be used"):
        open_socket(Path("/proc/nowhere"), "8080")


def test_an_order_is_obeyed_and_whoever_gave_it_is_known(place):
    async def body():
        async with listening(place) as (path, _):
            (arguments, by) = (await say(path, GOOD))["result"]
            assert arguments == {"a": 1}
            assert by == "root" or os.geteuid()

    run(body())


def test_nobody_else_gives_orders(place, monkeypatch):
    obeyed = []

    async def order(arguments, by):
        obeyed.append((arguments, by))

    async def body():
        async with listening(place, order=order) as (path, _):
            monkeypatch.setattr(ours, "caller_of", lambda _: os.geteuid() + 4242)
            assert "own user and root" in (await say(path, b'{"command": "order"}\n'))["error"]
            monkeypatch.setattr(ours, "caller_of", lambda _: 0)
            assert "result" not in await say(path, b'{"command": "order"}\n')
            assert len(obeyed) == 1

    run(body())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"\n", "cannot be read"),
        (b"\x00\xff\xfe{}\n", "cannot be read"),
        (b"GET / HTTP/1.1\r\n", "cannot be read"),
        (b"[" * 60_000 + b"\n", "cannot be read"),
        (b'{"command": 1}\n', "cannot be read"),
        (b'{"command": "echo", "more": 1}\n', "cannot be read"),
        (GOOD + GOOD, "cannot be read"),
        (GOOD[:-1], "one line of JSON"),
        (b"", "one line of JSON"),
        (b"x" * (LONGEST + 9), "one line of JSON"),
        (b'{"command": "ec"}\n', "there is no command 'ec'; there are: echo"),
    ],
)
def test_what_is_no_order_is_refused_and_hurts_nobody(place, words, why):
    async def body():
        async with listening(place) as (path, bugs):
            try:
                assert why in (await say(path, words, end=True))["error"]
            except (ConnectionError, BrokenPipeError):
                assert len(words) > LONGEST  # it was told while it still spoke
            assert "result" in await say(path, GOOD)
            assert bugs == []

    run(body())


def test_a_fault_of_a_command_is_told_and_the_server_goes_on(place):
    async def wrong(_arguments, _by):
        raise ZeroDivisionError

    async def no(_arguments, _by):
        raise Refused("not today")

    async def body():
        async with listening(place, wrong=wrong, no=no) as (path, bugs):
            assert "fault of the server" in (await say(path, b'{"command": "wrong"}\n'))["error"]
            assert [type(bug) for bug in bugs] == [ZeroDivisionError]
            assert (await say(path, b'{"command": "no"}\n'))["error"] == "not today"
            assert "result" in await say(path, GOOD)

    run(body())


def test_who_says_nothing_reads_nothing_or_comes_too_often_slows_nobody_down(place):
    async def much(_arguments, _by):
        return "x" * 4_000_000

    async def body():
        async with listening(place, much=much) as (path, _):
            began = asyncio.get_running_loop().time()
            silent = asyncio.ensure_future(say(path, b""))
            deaf = socket.socket(socket.AF_UNIX)
            deaf.connect(str(path))
            deaf.sendall(b'{"command": "much"}\n')
            await asyncio.sleep(0.01)
            assert "result" in await say(path, GOOD)
            assert asyncio.get_running_loop().time() - began < PATIENCE / 2
            others = [asyncio.ensure_future(say(path, b"")) for _ in range(MOST - 2)]
            await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await say(path, GOOD)
            assert "no command came" in (await silent)["error"]
            await asyncio.wait(others)
            assert asyncio.get_running_loop().time() - began < 2 * PATIENCE
            await asyncio.sleep(PATIENCE)
            assert "result" in await say(path, GOOD)
            deaf.close()

    run(body())


def test_the_command_line_finds_the_one_server_or_says_what_to_do(tmp_path):
    home, environ = tmp_path / "h", {"XDG_RUNTIME_DIR": str(tmp_path / "r")}
    assert folder(environ, home) == tmp_path / "r" / "standpipe"
    assert folder({}, home) == home / ".local" / "state" / "standpipe"
    assert folder({"RUNTIME_DIRECTORY": "/run/standpipe:/run/other"}, home) in folders({}, home)
    with pytest.raises(Refused, match="no server of this user runs here"):
        find(environ, home)
    dead, _ = open_socket(folder(environ, home), "1")
    dead.close()
    with pytest.raises(Refused, match="no server of this user runs here"):
        find(environ, home)
    sock, path = open_socket(folder({}, home), "2")
    with sock:
        assert find(environ, home) == path
        other, _ = open_socket(folder(environ, home), "3")
        with other, pytest.raises(Refused, match=r"choose one with --socket: .*3\.sock.*2\.sock"):
            find(environ, home)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "broke off"),
        (b"nonsense\n", "broke off"),
        (b'{"error": "not today"}\n', "not today"),
    ],
)
def test_whatever_the_server_answers_the_command_line_says_a_sentence(place, answer, why):
    sock, path = open_socket(place, "8080")
    sock.setblocking(True)

    def serve():
        caller, _ = sock.accept()
        with caller:
            caller.recv(100)
            caller.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with sock, pytest.raises(Refused, match=why):
        call(path, "echo", {})
    thread.join()
    with pytest.raises(Refused, match="no server listens"):
        call(path, "echo", {})
