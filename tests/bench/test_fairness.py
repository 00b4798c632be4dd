"""The fairness bench on small runs: what it prints at length must hold here, too, or the line has changed."""

from itertools import pairwise

import pytest

from bench.fairness import __main__ as fairness
from bench.fairness import measure, phases, traffic, workloads
from bench.fairness.vtc import PlainVtc
from bench.fairness.world import World
from standpipe.policy.line import LargestAsk, Line, Rules, Weights
from standpipe.policy.pace import Rate


def missed(rows):
    return [row for row in rows if row.met is False]


@pytest.mark.parametrize(
    ("workload", "arguments"),
    [
        (workloads.quiet_and_flooder, (60,)),
        (workloads.flooder_within_quota, (120,)),
        (workloads.jain, ((8,),)),
        (workloads.few_slots, (600,)),
        (workloads.return_from_idle, (300,)),
        (workloads.sybil, (60, 100)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_targets_are_met_on_short_runs(workload, arguments):
    rows = list(workload(*arguments))
    assert any(row.met for row in rows)
    assert missed(rows) == []


@pytest.mark.parametrize("phase", phases.PHASES)
def test_who_leaves_in_any_phase_leaves_a_charge_and_nothing_else(phase):
    remains = phases.leave(phase, 200)
    assert remains.leaked == 0
    assert remains.wrong <= 2


def test_every_workload_has_a_name_of_its_own():
    assert set(fairness.NAMES) == {*workloads.WORKLOADS, "speed", "leave"}


def test_the_command_prints_rows_and_tells_what_was_missed(capsys, monkeypatch, tmp_path):
    good = workloads.Row("work", "fair", "figure", "1", "<= 2", met=True)
    bad = workloads.Row("work", "fair", "figure", "3", "<= 2", met=False)
    monkeypatch.setitem(workloads.WORKLOADS, "quiet", lambda: iter([good]))
    assert fairness.main(["--only", "quiet", "--json", str(tmp_path / "rows.json")]) == 0
    assert (tmp_path / "rows.json").read_bytes().startswith(b"[")
    monkeypatch.setitem(workloads.WORKLOADS, "quiet", lambda: iter([good, bad]))
    assert fairness.main(["--only", "quiet"]) == 1
    assert "MISSED: work, fair" in capsys.readouterr().err


def test_the_command_checks_the_bound(capsys):
    assert fairness.main(["--schedules", "5", "--steps", "20"]) == 0
    assert "no gap above 2U" in capsys.readouterr().out


def test_the_command_refuses_a_workload_that_is_not_there(capsys):
    with pytest.raises(SystemExit):
        fairness.main(["--only", "nonsense"])
    assert "there is no nonsense" in capsys.readouterr().err


class TestTheWorld:
    def test_paces_a_client(self):
        world = World(Line(Rules(), 8), rate=Rate())
        traffic.steady(world, world.client("a", "a"), 0.1, traffic.fixed(10, 1))
        world.run(20)
        starts = [job.start for job in world.tallies[0].jobs if job.start is not None]
        assert all(later - earlier >= 0.4999 for earlier, later in pairwise(starts))
        assert len(starts) == 41

    @pytest.mark.parametrize("batch", [False, True])
    def test_delivers_every_token_of_every_answer(self, batch):
        world = World(Line(Rules(), 8), batch=batch)
        client = world.client("a", "a")
        traffic.poisson(world, client, 2.0, traffic.spread(16, 256), end=60)
        world.run(300)
        jobs = world.tallies[client].jobs
        assert all(job.ended is not None and job.charged == job.output for job in jobs)
        due = sum(Weights().input(job.prompt) + 2 * job.output for job in jobs)
        assert world.tallies[client].served == pytest.approx(due)
        assert world.line.statistics().running == 0

    def test_is_the_same_twice(self):
        runs = []
        for _ in range(2):
            world = World(workloads.FAIR.line())
            traffic.on_off(world, world.client("a", "a"), traffic.spread(16, 64), on=5, off=5, rate=2.0)
            traffic.full(world, world.client("b", "b"), traffic.spread(16, 64))
            world.run(60)
            runs.append([tally.served_at for tally in world.tallies])
        assert runs[0] == runs[1]


class TestMeasures:
    def test_jain(self):
        assert measure.jain([3, 3, 3]) == 1
        assert measure.jain([9, 0, 0]) == pytest.approx(1 / 3)
        assert measure.jain([0, 0]) == 1

    def test_quantile(self):
        assert measure.quantile([3, 1, 2], 0.5) == 2
        assert measure.quantile(range(100), 0.99) == 99
        assert measure.quantile([], 0.5) != measure.quantile([], 0.5)


def test_plain_vtc_is_what_it_is_said_to_be():
    line = Line(Rules(), 1)
    line.order = PlainVtc(Rules().caps(1), Weights(), LargestAsk())
    world = World(line)
    settled = world.client("settled", "settled")
    traffic.full(world, settled, workloads.SHORT)
    traffic.endless(world, workloads.SHORT, waiting=8)
    world.run(300)
    assert world.tallies[settled].served / world.total < 0.02
