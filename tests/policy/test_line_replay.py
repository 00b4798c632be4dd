"""One line for many processes: late charges cost nothing, and a line that is lost goes on in another one.

The theory is in `standpipe.policy.line.group`. Each property has a control that must fail.
"""

from random import Random

import pytest
from msgspec.structs import replace

from bench.fairness.replicas import Failing, Lagging, LateWatch, Workers, replay
from bench.fairness.schedules import Schedule, run
from bench.fairness.watch import Broken
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, QueuedAsk, QueueFull, QueueLimits, Rules, Stage

SEEDS = range(120)


def broken(kind, steps, seeds):
    """Whether the watch finds a lead above 2U in any of these schedules."""
    for seed in seeds:
        try:
            run(seed, steps, kind)
        except Broken:
            return True
    return False


class TestLag:
    def test_charges_that_come_late_keep_the_bound(self):
        assert 0.8 < max(run(seed, 60, Lagging) for seed in SEEDS) <= 1

    def test_charges_after_the_release_break_it(self):
        class TooLate(LateWatch):
            def flush(self, watched, now):
                tokens = self.held.pop(watched, 0)
                if watched.place.leaf.group.active:
                    self.line.order.charge(watched.place, tokens * self.rules.weights.output)

        class After(Lagging):
            watch_of = TooLate
            often = 0.05

            def finish(self, watched):
                Schedule.finish(self, watched)

        assert broken(After, 200, range(200))


class TestReplay:
    def test_the_bound_holds_across_lines_that_are_lost(self):
        assert 0.8 < max(run(seed, 100, Failing) for seed in SEEDS) <= 1

    def test_it_holds_where_charges_are_late_as_well(self):
        assert 0.8 < max(run(seed, 100, Workers) for seed in SEEDS) <= 1

    def test_it_does_not_where_nothing_was_told(self):
        class Untold(Failing):
            often = 0.1
            telling = False

        assert broken(Untold, 150, range(100))


class Twins:
    """A line and what replay made of it. What is done to the one is done to the other, and has to come to the same."""

    def __init__(self, line, twin, places):
        self.line, self.twin, self.places = line, twin, places
        twin._speed = line._speed  # how long asks take is learnt anew, and is not what is judged here
        self.slots, self.order, self.asks = line.slots, line.order, line.asks

    def join(self, client, **given):
        place = self.line.join(client, **given)
        self.places[place] = self.twin.join(client, **given)
        return place

    def next(self, now):
        place, other = self.line.next(now), self.twin.next(now)
        assert other is (place and self.places[place])
        return place

    def leave(self, place, now):
        self.line.leave(place, now)
        self.twin.leave(self.places.pop(place), now)

    def charge(self, place, tokens, now):
        self.line.charge(place, tokens, now)
        self.twin.charge(self.places[place], tokens, now)

    def settle(self, place, **given):
        self.line.settle(place, **given)
        self.twin.settle(self.places[place], **given)

    def release(self, place, now):
        self.line.release(place, now)
        self.twin.release(self.places.pop(place), now)


def in_step(seed, again, before=60, after=60):
    """A schedule in which the line gets a twin half-way, made by `again`. Whether it did."""
    schedule = Schedule(Random(seed))
    for _ in range(before):
        schedule.step()
    watch = schedule.watch
    # What is owed by clients without asks in line is lost, and so they do not come back here.
    clients = {place.client for place in watch.asks}
    schedule.people = [person for person in schedule.people if person.key in clients]
    told = [watch.line.told(client)[-1] for client in clients]
    if not clients or not all(standing.counter or standing.waits for standing in told):
        return False
    twin, places = again(watch.line, watch.rules, watch.asks, clients, schedule.now, Random(seed))
    watch.line = Twins(watch.line, twin, places)
    for _ in range(after):
        schedule.step()
    return True


def rejoined(old, rules, places, clients, now, random):
    """The wrong replay: those who wait join anew, so that all come fresh, at the end of the others."""
    new = Line(rules, old.slots)
    known = {}
    for place in places:
        if place.stage is Stage.RUNNING:
            known[place] = replace(place, leaf=None)
            new.adopt(known[place], now)
        else:
            known[place] = new.join(
                place.client, now=now, eligible_at=place.eligible_at, prompt_tokens=place.prompt_tokens, size=place.size
            )
    return new, known


class TestATwin:
    def test_grants_in_the_same_order_whatever_happens_then(self):
        # But for debts of those who are away, and for the rounding of sums that begin elsewhere.
        assert sum(in_step(seed, replay) for seed in SEEDS) > len(SEEDS) / 2

    def test_does_not_where_those_who_wait_join_anew(self):
        with pytest.raises(AssertionError):
            for seed in SEEDS:
                in_step(seed, rejoined)


ANN, BEN, CAT = (ClientKey(f"{name}.1", name) for name in "abc")


def waiting(client, number, eligible_at=0.0):
    return QueuedAsk(client, number, eligible_at, joined_at=-5.0, prompt_tokens=64)


def running(client, number):
    return replace(waiting(client, number), stage=Stage.RUNNING, granted_at=-1.0, charged=64.0)


class TestAdopted:
    def line(self, *asks, slots=2, told=None, **rules):
        line = Line(Rules(**{"headroom": 0, "client_slots": 1, **rules}), slots)
        for ask in asks:
            line.adopt(ask, 0.0)
        line.stand(told or {}, 0.0)
        return line

    def test_who_ran_holds_its_slot_and_gives_it_back(self):
        ran, waits = running(ANN, 7), waiting(ANN, 8)
        line = self.line(ran, waits)
        assert line.statistics().running == 1
        assert line.next(0.0) is None  # ann is at her cap
        line.charge(ran, 10, 0.0)
        line.settle(ran, prompt_tokens=64, completion_tokens=10)
        line.release(ran, 0.0)
        assert line.next(0.0) is waits
        assert (waits.number, waits.waited) == (8, 5.0)

    def test_more_may_run_than_there_are_slots(self):
        ran = [running(client, number) for number, client in enumerate((ANN, BEN, CAT))]
        line = self.line(*ran, waiting(CAT, 9), slots=1)
        for ask in ran:
            assert line.next(0.0) is None
            line.release(ask, 0.0)
        assert line.next(0.0).number == 9

    def test_nobody_is_refused_and_newcomers_come_after(self):
        line = self.line(*(waiting(ANN, number) for number in (5, 3, 4)), limits=QueueLimits(client=1, line=2))
        assert [ask.number for ask in line.asks(ANN)] == [5, 3, 4]
        with pytest.raises(QueueFull):
            line.join(BEN, now=0.0, eligible_at=0.0, prompt_tokens=64, size=1)
        served = []
        while ask := line.next(0.0):
            served.append(ask.number)
            line.release(ask, 0.0)
        assert served == [3, 4, 5]
        assert line.join(ANN, now=0.0, eligible_at=0.0, prompt_tokens=64, size=1).number == 6

    def test_an_instant_that_has_not_come_is_waited_for(self):
        line = self.line(waiting(ANN, 1, eligible_at=3.0))
        assert line.next(0.0) is None
        assert line.eligible_after(0.0) == 3.0
        assert line.next(3.0).number == 1

    @pytest.mark.parametrize(("telling", "served"), [(True, [BEN] * 5), (False, [ANN, BEN, ANN, BEN, ANN])])
    def test_debts_are_kept_by_those_who_are_told_of(self, telling, served):
        asks = [waiting(client, number) for number, client in enumerate([ANN, BEN] * 6)]
        old = self.line(*asks)
        for tokens in (5000, 0):
            ask = old.next(0.0)
            old.charge(ask, tokens, 0.0)
            old.release(ask, 0.0)
        told = {client: old.told(client) for client in (ANN, BEN)} if telling else {}
        new = self.line(*(replace(ask, leaf=None) for ask in asks[2:]), told=told, slots=1)
        came = []
        for _ in range(5):
            ask = new.next(0.0)
            new.release(ask, 0.0)
            came.append(ask.client)
        assert came == served

    def test_who_is_told_of_and_has_no_ask_is_a_debt_or_forgotten(self):
        old = self.line(waiting(ANN, 1), slots=1)
        ask = old.next(0.0)
        old.charge(ask, 5000, 0.0)
        old.release(ask, 0.0)
        new = self.line(told={ANN: old.told(ANN), BEN: old.told(BEN)})
        assert new.order.known == 1
        assert new.told(ANN)[0].counter == old.told(ANN)[0].counter
