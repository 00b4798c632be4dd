"""The plain orders that the fair queue is compared with."""

import pytest

from bench.fairness.turns import Fifo, RoundRobin
from bench.fairness.workloads import Order
from standpipe.policy.identity import ClientKey


def line(kind, slots=1, client_slots=0):
    return Order(kind.__name__, kind, client_slots, 0).line(slots)


def join(line, name, tokens=100, eligible_at=0.0):
    return line.join(ClientKey(name, name), now=0.0, eligible_at=eligible_at, prompt_tokens=tokens, size=1)


def serve(line, count, output=0):
    """Grant so many slots, one after another, and tell who got them."""
    names = []
    for _ in range(count):
        place = line.next(0.0)
        line.charge(place, output, 0.0)
        line.release(place, 0.0)
        names.append(place.client.address)
    return names


class TestRoundRobin:
    def test_gives_each_client_one_ask_in_turn_whatever_it_costs(self):
        queue = line(RoundRobin)
        for _ in range(3):
            join(queue, "ann", tokens=5000)
        for _ in range(3):
            join(queue, "ben", tokens=1)
        assert serve(queue, 6, output=100) == ["ann", "ben"] * 3

    def test_a_newcomer_queues_behind_those_who_wait(self):
        queue = line(RoundRobin)
        for name in ("ann", "ann", "ben", "ben"):
            join(queue, name)
        assert serve(queue, 1) == ["ann"]
        join(queue, "new")
        assert serve(queue, 4) == ["ben", "ann", "new", "ben"]


class TestFifo:
    def test_serves_in_order_of_joining(self):
        queue = line(Fifo)
        for name in ("ann", "ann", "ben", "cat", "ann"):
            join(queue, name)
        assert serve(queue, 5) == ["ann", "ann", "ben", "cat", "ann"]

    def test_who_is_at_its_cap_lets_others_pass(self):
        queue = line(Fifo, 2, client_slots=1)
        for name in ("ann", "ann", "ben"):
            join(queue, name)
        assert [queue.next(0.0).client.address for _ in range(2)] == ["ann", "ben"]


@pytest.mark.parametrize("kind", [Fifo, RoundRobin])
class TestTurns:
    def test_stale_entries_are_swept(self, kind):
        queue = line(kind)
        join(queue, "busy")
        queue.next(0.0)
        for number in range(3000):
            queue.leave(join(queue, f"fidget {number % 10}"), 0.0)
        assert len(queue.order._heap) < 100
        assert queue.order.known == 1

    def test_the_longest_queue_is_the_heaviest(self, kind):
        queue = line(kind)
        assert queue.order.heaviest() is None
        join(queue, "ann")
        join(queue, "ben")
        last = join(queue, "ben")
        assert queue.order.heaviest() is last

    @pytest.mark.parametrize("names", ["aab", "abab", "aaaabbc", "abcabc", "abbbbb"])
    def test_a_forecast_is_the_order_that_comes_to_pass(self, kind, names):
        queue = line(kind)
        join(queue, "busy")
        blocker = queue.next(0.0)
        places = [join(queue, name) for name in names]
        forecast = {place: queue.forecast(place, 0.0).position for place in places}
        queue.release(blocker, 0.0)
        came = []
        while place := queue.next(0.0):
            queue.release(place, 0.0)
            came.append(place)
        assert [forecast[place] for place in came] == list(range(1, len(names) + 1))

    def test_a_line_keeps_its_promises_whatever_its_order(self, kind):
        queue = line(kind, 2, client_slots=1)
        gone, late = join(queue, "ann"), join(queue, "ben", eligible_at=9.0)
        stays, capped = join(queue, "cat"), join(queue, "cat")
        queue.leave(gone, 0.0)
        assert queue.eligible_after(0.0) == 9.0
        assert (queue.next(0.0), queue.next(0.0)) == (stays, None)
        assert queue.next(9.0) is late
        queue.slots = 3
        assert queue.next(9.0) is None
        queue.release(stays, 9.0)
        assert queue.next(9.0) is capped
        assert queue.statistics().running == 2
