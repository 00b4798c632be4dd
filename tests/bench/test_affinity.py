"""The choice of engines before modelled ones, on virtual time: what it saves, how evenly it spreads, whom it spares."""

from statistics import mean

import pytest

from bench.affinity import Modelled, World


def run(count, load, slack, *, seconds=600, slots=8, slower=1.0, **more):
    engines = [Modelled(slots, 25_000 * slots, slower if number == 0 else 1.0) for number in range(count)]
    return World(engines, load, slack, **more).run(seconds)


@pytest.mark.parametrize("count", [2, 4])
def test_conversations_that_stay_save_a_third_of_what_must_be_read(count):
    with_, without = run(count, 0.5, 0.25), run(count, 0.5, 0.0)
    assert with_.read / with_.prompt < 0.67 * without.read / without.prompt
    assert mean(with_.firsts) < mean(without.firsts)


@pytest.mark.parametrize("slack", [0.0, 0.25])
@pytest.mark.parametrize("load", [0.6, 0.9, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_equal_engines_do_equal_work_within_a_tenth(load, slack, seed):
    used = run(3, load, slack, seed=seed).used
    assert min(used) > 0.9 * mean(used)
    assert max(used) < 1.1 * mean(used)


@pytest.mark.parametrize("slack", [0.0, 0.25])
def test_an_engine_that_comes_back_begins_slowly_and_has_its_share_within_ten_seconds(slack):
    back = 100.0
    log = run(3, 0.6, slack, seconds=300, slots=32, away=(0, 60.0, back)).log

    def share(since, until):
        given = [number for at, number, _ in log if since <= at < until]
        return 3 * given.count(0) / len(given)

    assert share(60.0, back) == 0
    assert len([at for at, number, _ in log if number == 0 and back <= at < back + 0.025]) <= 1
    assert share(back, back + 10) > 0.9
    assert share(back + 50, 300) > 0.9


@pytest.mark.parametrize("slack", [0.0, 0.25])
def test_one_slow_engine_does_not_drag_the_rest(slack):
    slow, without = run(3, 0.4, slack, slower=20.0), run(2, 0.6, slack)
    assert 0 < slow.shares[0] < 0.1 * sum(slow.shares)
    elsewhere = [first for _, number, first in slow.log if number]
    assert mean(elsewhere) < 1.5 * mean(without.firsts)
