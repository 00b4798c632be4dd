"""Real processes, all of them small shells."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import uvloop

from standpipe.engines.llama.process import KEPT, Child, ChildFailed, describe

PATIENT = 30.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["stdlib", "uvloop"])
def run(request):
    def run(scene):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(scene, PATIENT))

    return run


async def started(script, *, told=b"hello", within=PATIENT, log=lambda _: None):
    return await Child.start(["/bin/sh", "-c", script], told, within=within, log=log)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_told_one_line_and_ready_when_it_prints_one(run):
    async def scene():
        child = await started('read -r line; echo "got $line"; read -r more')
        said, code, pid = child.said, child.code, child.pid
        assert alive(pid)
        await child.stop(PATIENT)
        return said, code, child.code, alive(pid)

    assert run(scene()) == (b"got hello", None, -signal.SIGTERM, False)


def test_every_line_of_its_log_is_passed_on_and_the_last_are_kept(run):
    async def scene():
        lines: list[str] = []
        child = await started(
            'for n in $(seq 100); do echo "line $n" >&2; done; printf cut >&2; echo ready', log=lines.append
        )
        await asyncio.wait({child._listener.heard_out})
        await child.stop(PATIENT)
        return lines, child.recent

    lines, recent = run(scene())
    assert lines == [f"line {n}" for n in range(1, 101)] + ["cut"]
    assert recent == tuple(lines[-KEPT:])


def test_a_flood_of_log_does_not_hold_it_up_and_long_lines_are_cut(run):
    async def scene():
        child = await started(
            'head -c 3000000 /dev/zero | tr "\\0" "x" >&2; printf "\\n\\377\\n" >&2; echo ready; read -r x'
        )
        await child.stop(PATIENT)
        return child.recent

    recent = run(scene())
    assert {len(line) for line in recent[:-1]} == {1000}
    assert recent[-1] == "\N{REPLACEMENT CHARACTER}"


def test_what_it_prints_after_its_first_line_is_thrown_away(run):
    async def scene():
        child = await started("echo ready; echo more; seq 20000; read -r x; read -r x")
        await child.stop(PATIENT)
        return child.said

    assert run(scene()) == b"ready"


def test_ending_before_it_is_ready_fails_with_its_last_words(run):
    async def scene():
        with pytest.raises(ChildFailed, match="exit code 3") as failed:
            await started("echo no such file >&2; exit 3")
        return failed.value.code, failed.value.lines

    assert run(scene()) == (3, ("no such file",))


def test_dying_of_a_signal_fails_with_its_name(run):
    async def scene():
        with pytest.raises(ChildFailed, match="SIGSEGV") as failed:
            await started("kill -SEGV $$")
        return failed.value.code

    assert run(scene()) == -signal.SIGSEGV


def test_not_getting_ready_in_time_fails_and_ends_it(run):
    async def scene():
        with pytest.raises(ChildFailed, match=r"not ready within 0\.1 s") as failed:
            await started("echo $$ >&2; trap '' TERM; read -r x; read -r x", within=0.1)
        return failed.value

    failed = run(scene())
    assert failed.code is None
    assert not failed.lines or not alive(int(failed.lines[0]))


def test_cancelling_its_start_ends_it(run):
    async def scene():
        pids = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(
            started("echo $$ >&2; read -r x; read -r x", log=lambda line: pids.set_result(int(line)))
        )
        pid = await pids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return alive(pid)

    assert run(scene()) is False


def test_a_program_that_does_not_exist_is_an_oserror(run):
    async def scene():
        with pytest.raises(OSError, match="No such file"):
            await Child.start(["/no/such/program"], b"", within=1, log=lambda _: None)

    run(scene())


def test_its_end_is_noticed(run):
    async def scene():
        child = await started("echo ready; read -r x; exit 7")
        code = await child.wait()
        await child.stop(PATIENT)
        return code, child.code

    assert run(scene()) == (7, 7)


def test_waiting_for_a_while_is_no_fault(run):
    async def scene():
        child = await started("echo ready; read -r x; read -r x")
        code = await child.wait(0.01)
        await child.stop(PATIENT)
        return code

    assert run(scene()) is None


def test_one_that_will_not_go_is_killed(run):
    async def scene():
        child = await started("trap '' TERM; echo ready; while :; do read -r x || sleep 60; done")
        await child.stop(0.05)
        return child.code

    assert run(scene()) == -signal.SIGKILL


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs proc(5)")
def test_its_processor_time_is_known_while_it_lives(run):
    async def scene():
        child = await started("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo ready; read -r x; read -r x")
        computed = child.computed()
        await child.stop(PATIENT)
        return computed, child.computed()

    computed, afterwards = run(scene())
    assert computed is not None
    assert computed > 0
    assert afterwards is None


def test_what_hears_of_its_end_first_is_told_before_whoever_waits(run):
    told = []

    async def scene():
        child = await started("echo ready; read -r x; exit 7")
        child.when_ended(lambda: told.append("ended"))
        told.append(await child.wait())
        await child.stop(PATIENT)

    run(scene())
    assert told == ["ended", 7]


def test_stopping_twice_is_fine(run):
    async def scene():
        child = await started("echo ready; read -r x; read -r x")
        await child.stop(PATIENT)
        await child.stop(PATIENT)
        child.kill()
        return repr(child)

    assert "SIGTERM" in run(scene())


def test_a_ctrl_c_at_our_terminal_does_not_reach_it(run):
    async def scene():
        child = await started("echo ready; read -r x; read -r x")
        groups = os.getpgid(child.pid), os.getsid(child.pid)
        pid = child.pid
        await child.stop(PATIENT)
        return groups, pid

    groups, pid = run(scene())
    assert groups == (pid, pid)


def test_exit_codes_in_words():
    assert [describe(code) for code in (0, 9, -9, -250)] == [
        "it ended with exit code 0",
        "it ended with exit code 9",
        "it was killed by SIGKILL",
        "it was killed by signal 250",
    ]
