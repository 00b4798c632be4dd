"""Several processes as one server, as an operator has it: real processes, one face. `tests/chaos` judges every byte."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from bench.overhead.processes import free_port
from standpipe.app.processes import how_many, part_of
from standpipe.settings import Settings
from tests.workers.test_supervisor import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
PATIENCE = 30.0


PASS_IT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Tap:
    """`standpipe serve --workers 2` with a settings file, and what it logs."""

    def __init__(self, folder, *lines, listening=None):
        self.file = folder / "standpipe.toml"
        self.admin = free_port()
        self.write(*lines)
        command = [sys.executable, "-m", "standpipe", "serve", "--config", str(self.file)]
        options = {}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STANDPIPE_")}
        if listening is not None:
            # As systemd does: the socket is descriptor 3, and the variables name the process.
            passed = str(listening.fileno())
            command = [sys.executable, "-c", PASS_IT, passed, *command]
            options["pass_fds"] = [listening.fileno()]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environ, **options
        )
        self.log = []
        self._came = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        try:
            self.wait("all processes serve")
        except BaseException:
            self.__exit__()
            raise
        self.pids = {one["process"]: one["pid"] for one in self.log if one["event"] == "process serves"}
        self.port = int(self.event("serving")["address"].rsplit(":", 1)[1])

    def write(self, *lines):
        fixed = ["workers = 2", "port = 0", f"admin_port = {self.admin}", "pace_interval = 0"]
        self.file.write_text("\n".join([*fixed, *lines]))

    def _read(self):
        for line in self.process.stderr:
            with self._came:
                try:
                    self.log.append(json.loads(line))
                except ValueError:  # torn, or no line of the log at all
                    self.log.append({"event": f"no JSON: {line!r}"})
                self._came.notify_all()

    def event(self, name):
        return next((one for one in self.log if one["event"] == name), None)

    def wait(self, name, times=1):
        with self._came:
            done = self._came.wait_for(lambda: sum(one["event"] == name for one in self.log) >= times, timeout=PATIENCE)
        assert done, f"no {name!r} in " + "\n".join(map(str, self.log))
        return self.event(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join()
        self.process.stderr.close()

    def ask(self, method="POST", path="/api", port=None, body=None):
        connection = http.client.HTTPConnection("localhost", port or self.port, timeout=PATIENCE)
        try:
            ask = {"messages": [{"role": "user", "content": "Hi"}], "stream": False} if body is None else body
            connection.request(method, path, json.dumps(ask) if method == "POST" else None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self):
        return json.loads(self.ask("GET", "/api/status")[1])

    def metrics(self):
        lines = self.ask("GET", "/metrics", port=self.admin)[1].decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def until(condition):
    """Look again until it is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def engine(name, slots):
    return f'[[engine]]\nname = "{name}"\nurl = "scripted:?tokens=2&slots={slots}"'


def test_it_is_one_server_and_stays_it_when_a_process_ends(tmp_path):
    with Tap(tmp_path, engine("one", 2)) as tap:
        assert [tap.ask()[0] for _ in range(12)] == [200] * 12
        until(lambda: tap.metrics().get('standpipe_requests_total{dialect="api",status="200"}', 0) == 12)
        assert tap.ask("GET", "/readyz", port=tap.admin)[0] == 200
        until(lambda: tap.metrics()["standpipe_http_requests_total"] >= 12)
        before = tap.metrics()
        until(lambda: tap.status()["hour"]["requests"] == 12)

        os.kill(tap.pids["keeper 0"], signal.SIGKILL)
        tap.wait("process ended")
        assert [tap.ask()[0] for _ in range(4)] == [200] * 4
        until(lambda: tap.metrics().get('standpipe_requests_total{dialect="api",status="200"}', 0) == 16)
        os.kill(tap.pids["worker 1"], signal.SIGKILL)  # what it had not told yet of the last tenth of a second is lost
        tap.wait("process ended", times=2)
        assert [tap.ask()[0] for _ in range(4)] == [200] * 4
        until(lambda: tap.metrics().get('standpipe_requests_total{dialect="api",status="200"}', 0) >= 20)
        after = tap.metrics()
        fallen = {name for name in before if name.split("{")[0].endswith("_total") and after[name] < before[name]}
        assert fallen == set()

        requests = [one for one in tap.log if one["event"] == "request"]
        assert len(requests) == 20
        assert len({one["client"] for one in requests}) == 1  # the day's hash is the same in each process
        tap.process.send_signal(signal.SIGTERM)
        assert tap.process.wait(PATIENCE) == 0


def test_a_reload_changes_all_processes_or_none(tmp_path):
    with Tap(tmp_path, engine("one", 2)) as tap:
        tap.write('name = "Fountain"', engine("one", 2), engine("two", 3))
        tap.process.send_signal(signal.SIGHUP)
        tap.wait("settings reloaded")
        until(lambda: [one["name"] for one in tap.status()["engines"]] == ["one", "two"])
        until(lambda: {tap.status()["name"] for _ in range(8)} == {"Fountain"})
        # More at once than the first engine takes: the workers know the second one.
        threads = [threading.Thread(target=tap.ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tap.wait("request", times=12)
        assert {one.get("engine") for one in tap.log if one["event"] == "request"} == {"one", "two"}

        tap.write('name = "Nonsense"', "max_tokens = -1", engine("three", 3))
        tap.process.send_signal(signal.SIGHUP)
        assert "max_tokens" in tap.wait("settings not reloaded: the former ones stay")["reason"]
        assert {tap.status()["name"] for _ in range(8)} == {"Fountain"}

        tap.write('name = "Fountain"', engine("two", 3))
        tap.process.send_signal(signal.SIGHUP)
        tap.wait("engine removed")
        assert [tap.ask()[0] for _ in range(6)] == [200] * 6


def test_a_child_starts_by_what_was_last_right_and_who_comes_at_the_end_is_refused(tmp_path):
    with Tap(tmp_path, 'name = "Fountain"', engine("slow", "2&rate=0.05")) as tap:
        tap.write('name = "Nonsense"', "max_tokens = -1")
        tap.process.send_signal(signal.SIGUSR2)
        tap.wait("settings not reloaded: the former ones stay")
        os.kill(tap.pids["keeper 0"], signal.SIGKILL)
        tap.wait("process serves", times=4)
        assert tap.status()["name"] == "Fountain"

        running = http.client.HTTPConnection("localhost", tap.port, timeout=PATIENCE)
        running.request("POST", "/api", json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": False}))
        until(lambda: tap.status()["queue"]["running"] == 1)
        tap.process.send_signal(signal.SIGTERM)
        tap.wait("draining")
        until(lambda: refused(tap.port))
        assert tap.process.poll() is None
        tap.process.send_signal(signal.SIGTERM)
        assert tap.process.wait(PATIENCE) == 0
        running.close()


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_nothing_is_left_of_it_when_its_parent_is_killed(tmp_path, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("t")  # a short name: a socket's path has an end
    monkeypatch.setenv("TMPDIR", str(temporary))
    with Tap(tmp_path, engine("one", 2)) as tap:
        tap.process.kill()
        for pid in tap.pids.values():
            until(lambda pid=pid: not alive(pid))
        assert list((temporary).iterdir()) == []
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", tap.port), 5)


def test_a_long_name_of_the_folder_for_temporary_files_is_no_hindrance(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with Tap(tmp_path, engine("one", 2)) as tap:
        assert tap.ask()[0] == 200
    assert list(folder.iterdir()) == []


def test_a_socket_that_was_passed_is_served_by_all_and_outlives_them(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        with Tap(tmp_path, engine("one", 2), listening=listening) as tap:
            assert tap.port == listening.getsockname()[1]
            assert [tap.ask()[0] for _ in range(4)] == [200] * 4
            tap.process.send_signal(signal.SIGTERM)
            assert tap.process.wait(PATIENCE) == 0
        waiting = socket.create_connection(listening.getsockname(), 5)  # the next one will serve it
        waiting.close()


def test_an_embedded_engine_is_told_to_be_a_server_of_its_own(tmp_path):
    command = [sys.executable, "-m", "standpipe", "serve", "--workers=2", "--port=0", "--admin-port=0"]
    done = subprocess.run(
        [*command, "--engine=scripted:", "--engine=http://[bad"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("standpipe:") == 1


@pytest.mark.parametrize(("wanted", "cores", "workers"), [("1", 8, 1), ("3", 2, 3), ("auto", 8, 7), ("auto", 1, 1)])
def test_auto_leaves_a_core_to_the_keeper(wanted, cores, workers):
    assert how_many(wanted, cores) == workers


def test_workers_share_the_memory_for_bodies():
    whole = Settings()
    part = part_of(whole, 4)
    assert (4 * part.body_memory, 4 * part.body_memory_per_client) == (whole.body_memory, whole.body_memory_per_client)
    assert part_of(whole, 1) == whole
