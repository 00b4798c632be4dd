"""The supervisor with real children, which do next to nothing (`family`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


class Family:
    """A supervisor in a process of its own, and what it and its children log."""

    def __init__(self, *words):
        command = [sys.executable, str(Path(__file__).with_name("family.py")), *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.seen = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def until(self, *words):
        """Read the log up to a line with these words in it."""
        for line in self.process.stderr:
            self.seen.append(line)
            if all(word in line for word in words):
                return line.rstrip("\n")
        raise AssertionError(f"{words} not in {self.seen}")

    def started(self, *names):
        """The pids of children that say so in any order."""
        pids = {}
        while len(pids) < len(names):
            line = self.until(" pid ")
            role, number, _, pid = line.split()
            pids[f"{role} {number}"] = int(pid)
        assert set(pids) == set(names)
        return pids

    def serving(self, *names):
        """As `started`, and until all serve."""
        pids = self.started(*names)
        for words in (*(f"process serves process={name}" for name in names), "all processes serve"):
            if not any(words in line for line in self.seen):
                self.until(words)
        return pids

    def send(self, number):
        self.process.send_signal(number)

    def rest(self):
        self.seen += self.process.communicate(timeout=20)[1].splitlines(keepends=True)
        return self.process.returncode


ALL = ("keeper 0", "worker 0", "worker 1")


def test_all_start_are_stopped_and_end_well():
    with Family("2") as family:
        family.serving(*ALL)
        family.send(signal.SIGTERM)
        assert family.rest() == 0
        assert sorted(line for line in family.seen if "stops" in line) == [f"{name} stops\n" for name in ALL]


@pytest.mark.parametrize("name", ALL)
def test_one_that_is_killed_is_started_again_at_once_and_alone(name):
    with Family("2") as family:
        pids = family.serving(*ALL)
        os.kill(pids[name], signal.SIGKILL)
        assert family.until("* process ended") == f"* process ended process={name} status=SIGKILL restart_in=0.0"
        again = family.started(name)
        os.kill(again[name], signal.SIGKILL)
        assert "restart_in=0.2" in family.until("* process ended")
        family.started(name)
        family.send(signal.SIGINT)
        assert family.rest() == 0


@pytest.mark.parametrize("role", ["keeper", "worker"])
def test_what_cannot_start_is_not_tried_again_and_its_status_and_reason_are_told(role):
    with Family("2", f"{role}=fails") as family:
        assert family.rest() == 2
        reasons = [line for line in family.seen if "reason" in line]
        assert 1 <= len(reasons) <= (1 if role == "keeper" else 2)


def test_one_that_hangs_is_replaced():
    with Family("1", "worker=hangs") as family:
        family.serving("keeper 0", "worker 0")
        family.until("* process hangs process=worker 0")
        family.until("* process ended process=worker 0 status=SIGKILL")
        family.started("worker 0")
        family.send(signal.SIGTERM)
        assert family.rest() == 0


def test_nobody_is_ended_for_silence_while_nobody_could_be_heard():
    with Family("2") as family:
        family.serving(*ALL)
        family.send(signal.SIGSTOP)
        time.sleep(2.2)  # longer than any of them may be silent
        family.send(signal.SIGCONT)
        family.send(signal.SIGUSR1)
        for _ in ALL:
            family.until("SIGUSR1")
        family.send(signal.SIGTERM)
        assert family.rest() == 0
        assert not any("process hangs" in line or "process ended" in line for line in family.seen)


def test_who_does_not_stop_in_time_is_ended():
    with Family("1", "worker=stubborn") as family:
        family.serving("keeper 0", "worker 0")
        family.send(signal.SIGTERM)
        assert family.rest() == 0
        assert "keeper 0 stops\n" in family.seen


def test_nobody_outlives_the_supervisor():
    with Family("2") as family:
        pids = family.serving(*ALL)
        family.process.kill()
        family.process.wait()
        end = time.monotonic() + 20
        while any(alive(pid) for pid in pids.values()):
            assert time.monotonic() < end
            time.sleep(0.01)


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def test_a_lines_pieces_stay_together():
    with Family("2", "worker=wordy") as family:
        family.serving(*ALL)
        while sum("199" * 300 in line for line in family.seen) < 2:
            family.until("199" * 300)
        family.send(signal.SIGTERM)
        assert family.rest() == 0
        lines = [line.rstrip("\n").partition(":") for line in family.seen if line[0] in "01"]
        for worker in "01":
            said = [words for number, _, words in lines if number == worker]
            assert said == [str(n) * 300 for n in range(200)]


def test_signals_reach_everybody_but_a_reload_only_when_it_is_right():
    with Family("1") as family:
        family.serving("keeper 0", "worker 0")
        family.send(signal.SIGUSR1)
        assert {family.until("SIGUSR1"), family.until("SIGUSR1")} == {"keeper 0 SIGUSR1", "worker 0 SIGUSR1"}
        family.send(signal.SIGHUP)
        assert {family.until("SIGHUP"), family.until("SIGHUP")} == {"keeper 0 SIGHUP", "worker 0 SIGHUP"}
        family.send(signal.SIGTERM)
        assert family.rest() == 0
    with Family("1", "check=no") as family:
        family.serving("keeper 0", "worker 0")
        family.send(signal.SIGHUP)
        family.send(signal.SIGTERM)
        assert family.rest() == 0
        assert not any("SIGHUP" in line for line in family.seen)


def test_a_rolling_restart_replaces_one_after_the_other_each_before_the_old_one_leaves():
    with Family("2") as family:
        old = family.serving(*ALL)
        family.seen.clear()
        family.send(signal.SIGUSR2)
        family.until("* processes replaced")
        while sum("leaves" in line for line in family.seen) < 3 or sum(" pid " in line for line in family.seen) < 3:
            family.until("0")
        said = [" ".join(line.split()[:3]) for line in family.seen]
        assert [words for words in said if words.endswith(" pid")] == ["worker 0 pid", "worker 1 pid", "keeper 0 pid"]
        for name in ("worker 0", "worker 1"):  # each may have connections for a while
            assert said.index(f"{name} pid") < said.index(f"{name} leaves")
        assert said.index("keeper 0 leaves") < said.index("keeper 0 pid")
        new = {int(line.split()[-1]) for line in family.seen if " pid " in line}
        assert not new & set(old.values())
        family.send(signal.SIGTERM)
        assert family.rest() == 0


def test_a_reload_reaches_one_that_was_starting_once_it_serves():
    with Family("1", "keeper=late") as family:
        pids = family.serving("keeper 0", "worker 0")
        os.kill(pids["keeper 0"], signal.SIGKILL)
        late = family.started("keeper 0")
        family.send(signal.SIGHUP)
        family.until("worker 0 SIGHUP")
        assert not any("keeper 0 SIGHUP" in line for line in family.seen)
        os.kill(late["keeper 0"], signal.SIGUSR1)
        family.until("* process serves process=keeper 0")
        family.until("keeper 0 SIGHUP")
        family.send(signal.SIGTERM)
        family.rest()


def test_one_that_does_not_serve_yet_is_replaced_too():
    with Family("1", "keeper=late") as family:
        pids = family.serving("keeper 0", "worker 0")
        os.kill(pids["keeper 0"], signal.SIGKILL)
        late = family.started("keeper 0")
        family.send(signal.SIGUSR2)
        family.started("worker 0")
        new = family.started("keeper 0")
        assert new != late
        os.kill(new["keeper 0"], signal.SIGUSR1)
        family.until("* processes replaced")
        family.send(signal.SIGTERM)
        family.rest()


def test_a_second_signal_leaves_at_once():
    with Family("1", "worker=stubborn") as family:
        family.serving("keeper 0", "worker 0")
        family.send(signal.SIGTERM)
        family.until("keeper 0 stops")
        family.send(signal.SIGTERM)
        assert family.rest() == 0
