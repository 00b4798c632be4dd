"""What the fair queue does, told in small stories. The bound itself is held in test_line_bound.py."""

import pytest

from standpipe.policy.identity import ClientKey
from standpipe.policy.line import LargestAsk, Line, QueueLimits, Rules, Weights
from standpipe.policy.line.forecast import Level, predict
from standpipe.policy.line.group import Group, Node

ROOMY = QueueLimits(10_000, 10_000, 10_000)


def line(slots=1, **rules):
    return Line(Rules(**{"headroom": 0, "limits": ROOMY, **rules}), slots)


def client(name, block=None, share=None):
    return ClientKey(name, block or name, share)


def join(line, who, now=0.0, tokens=100):
    key = who if isinstance(who, ClientKey) else client(who)
    return line.join(key, now=now, eligible_at=now, prompt_tokens=tokens, size=1)


def serve(line, count, output=0, now=0.0):
    """Grant so many slots, one after another, and tell who got them."""
    names = []
    for _ in range(count):
        place = line.next(now)
        line.charge(place, output(place) if callable(output) else output, now)
        line.release(place, now)
        names.append(place.client.share or place.client.address)
    return names


class Stub(Node):
    """A member that always has an ask that may start."""

    def startable(self):
        return True


def group_of(count, cap, step):
    """A group with so many members that wait, on no ladder yet."""
    group = Group(None, "", 8)
    group.bound, group.step = 100.0, step
    members = [Stub(group, f"{number}", cap) for number in range(count)]
    for member in members:
        group.members[member.name] = group.backlogged[member.name] = member
        member.waiting, member.expected = 1, 10.0
    group.active = count
    return group, members


class TestTheFairQueue:
    def test_who_was_served_least_is_next(self):
        queue = line()
        for _ in range(4):
            join(queue, "ann", tokens=100)
        for _ in range(6):
            join(queue, "ben", tokens=64)
        # ann 100, ben 64, ben 128, ann 200, ben 192, ben 256, ann 300, ben 320, ...
        assert serve(queue, 8) == ["ann", "ben", "ben", "ann", "ben", "ben", "ann", "ben"]

    def test_output_counts_as_it_comes(self):
        queue = line(2, client_slots=1)
        for _ in range(3):
            join(queue, "ann"), join(queue, "ben")
        ann, ben = queue.next(0.0), queue.next(0.0)
        queue.charge(ann, 1000, 0.0)
        queue.release(ann, 0.0)
        assert queue.next(0.0).client.address == "ann"  # ben is at his cap
        queue.release(ben, 0.0)
        assert serve(queue, 2) == ["ben", "ben"]

    def test_one_token_asks_are_not_free(self):
        queue = line()
        for _ in range(20):
            join(queue, "ant", tokens=1)
        for _ in range(3):
            join(queue, "ben", tokens=64)
        assert serve(queue, 6) == ["ant", "ben"] * 3

    def test_a_stranger_finds_the_next_slot_not_the_end_of_the_line(self):
        queue = line()
        for _ in range(5):
            join(queue, "ann"), join(queue, "ben")
        serve(queue, 4)
        join(queue, "stranger")
        assert serve(queue, 1) == ["stranger"]

    def test_strangers_go_first_but_leave_a_quarter_to_those_who_stand(self):
        queue = line(2, client_slots=2)
        join(queue, "first")
        serve(queue, 1)  # from now on it is known what asks cost here
        for _ in range(60):
            join(queue, "ann"), join(queue, "ben")
        serve(queue, 10)
        for number in range(200):
            join(queue, f"stranger {number}")
        served = ["stranger" in name for name in serve(queue, 100)]
        assert all(served[:8])
        assert sum(served[20:]) == pytest.approx(60, abs=3)

    def test_where_nobody_stands_strangers_get_all(self):
        queue = line(2, client_slots=2)
        for number in range(20):
            join(queue, f"stranger {number}")
        assert len(set(serve(queue, 20))) == 20

    def test_nobody_passes_where_the_bound_would_break(self):
        group, (low, high) = group_of(2, cap=3, step=10.0)
        low.counter, high.counter = 100.0, 120.0
        group.standing.add(low)
        high.fresh = True
        group.fresher.add(high)
        assert group.choose() is high  # 120 <= 100 + (3 - 0 - 1) * 10
        high.running = 1
        assert group.choose() is low

    def test_idle_time_is_no_credit(self):
        queue = line()
        for _ in range(200):
            join(queue, "ann")
        serve(queue, 100)
        for _ in range(20):
            join(queue, "back")
        assert serve(queue, 20).count("back") <= 11

    def test_debts_are_kept_while_idle(self):
        queue = line()
        join(queue, "ann"), join(queue, "ben")
        assert serve(queue, 2, lambda place: 5000 if place.client.address == "ann" else 0) == ["ann", "ben"]
        for _ in range(10):
            join(queue, "ann"), join(queue, "ben")
        assert serve(queue, 10) == ["ben"] * 10

    def test_debts_that_grew_are_kept_until_they_are_paid(self):
        queue = line(largest=LargestAsk(2000, 10))
        for _ in range(90):
            join(queue, "ben")
        for _ in range(2):  # ann is remembered with a debt, comes back, and owes more
            join(queue, "ann", tokens=1000)
            assert ["ann"] in (serve(queue, 1) for _ in range(30))
        root, paid_after = queue.order.root, None
        owed = root.members["ann"].counter
        for number in range(150):
            serve(queue, 1)
            join(queue, f"passer-by {number}")
            if "ann" not in root.members:
                paid_after = number
                break
            assert root.entry_level() < owed
        assert paid_after > 2
        assert root.entry_level() >= owed

    def test_settling_charges_what_the_estimate_missed(self):
        queue = line()
        for _ in range(3):
            join(queue, "ann", tokens=64), join(queue, "ben", tokens=64)
        place = queue.next(0.0)
        queue.settle(place, prompt_tokens=264, completion_tokens=0)
        queue.release(place, 0.0)
        assert serve(queue, 3) == ["ben", "ben", "ben"]

    def test_cached_prompt_tokens_cost_a_tenth(self):
        queue = line()
        for _ in range(3):
            join(queue, "ann", tokens=1000), join(queue, "ben", tokens=1000)
        place = queue.next(0.0)
        queue.settle(place, prompt_tokens=1000, cached_tokens=1000, completion_tokens=0)
        queue.release(place, 0.0)
        assert place.charged == 100

    def test_a_failed_attempt_costs_nothing(self):
        queue = line()
        join(queue, "ann"), join(queue, "ann")
        place = queue.next(0.0)
        queue.settle(place, prompt_tokens=0, completion_tokens=0)
        assert place.charged == 0

    def test_what_cannot_be_given_back_is_counted(self):
        queue = line(2, client_slots=1)
        join(queue, "ann", tokens=500), join(queue, "ben", tokens=500), join(queue, "cat", tokens=500)
        ann, ben = queue.next(0.0), queue.next(0.0)
        queue.charge(ben, 500, 0.0)
        queue.release(ben, 0.0)
        for _ in range(3):
            join(queue, "cat", tokens=500)
            serve(queue, 1)
        queue.settle(ann, prompt_tokens=0, completion_tokens=0)
        assert queue.order.clipped == 1

    def test_addresses_of_one_block_divide_what_the_block_gets(self):
        queue = line()
        for number in range(30):
            join(queue, client(f"sybil{number}", "farm"))
        for _ in range(30):
            join(queue, "settled")
        assert serve(queue, 30).count("settled") == 15

    def test_clients_of_one_block_are_fair_to_each_other(self):
        queue = line()
        for _ in range(30):
            join(queue, client("greedy", "school"), tokens=300), join(queue, client("modest", "school"), tokens=100)
        assert 10 <= serve(queue, 20).count("greedy") * 3 <= 18

    def test_shares_of_one_address_divide_what_the_address_gets(self):
        queue = line()
        for number in range(30):
            join(queue, client("router", "town", f"note{number}"))
            join(queue, client("neighbour", "town"))
        served = serve(queue, 30)
        assert served.count("neighbour") == 15
        assert len(set(served)) == 16

    def test_who_shows_no_note_is_one_share_among_the_others(self):
        queue = line()
        for _ in range(20):
            join(queue, client("router", "town")), join(queue, client("router", "town", "ann"))
        assert serve(queue, 20).count("ann") == 10

    def test_shares_do_not_raise_the_cap_of_their_address(self):
        queue = line(8, client_slots=2)
        for number in range(8):
            join(queue, client("router", "town", f"note{number}"))
        assert [queue.next(0.0) is not None for _ in range(3)] == [True, True, False]

    def test_a_block_leaves_headroom_to_others(self):
        queue = line(8, client_slots=2, headroom=3)
        for number in range(20):
            join(queue, client(f"sybil{number}", "farm"))
        assert sum(queue.next(0.0) is not None for _ in range(9)) == 5

    def test_headroom_is_for_those_who_come_fresh(self):
        queue = line(4, client_slots=4, headroom=1)
        for name in ("ann", "ben"):
            for _ in range(8):
                join(queue, name)
        assert sum(queue.next(0.0) is not None for _ in range(5)) == 3
        join(queue, "stranger")
        assert queue.next(0.0).client.address == "stranger"
        join(queue, "other")
        assert queue.next(0.0) is None

    def test_memory_does_not_grow_with_the_number_of_addresses_seen(self):
        queue = line(largest=LargestAsk(64, 16))
        for number in range(5000):
            join(queue, f"passer-by {number}")
            serve(queue, 1, output=16)
        assert queue.order.known <= 5
        for number in range(5000):
            join(queue, client(f"passer-by {number}", "one street"))
            serve(queue, 1, output=16)
        assert queue.order.known <= 10

    def test_joining_and_leaving_leaves_nothing_behind(self):
        queue = line()
        join(queue, "busy")
        queue.next(0.0)
        for number in range(5000):
            queue.leave(join(queue, f"fidget {number % 100}"), 0.0)
        order = queue.order.root
        assert len(order.fresher._rungs) + len(order.standing._rungs) + len(order.members) < 200

    @pytest.mark.parametrize(("slots", "part"), [(1, 1 / 18), (4, 1 / 8)])
    def test_a_storm_of_new_blocks_does_not_starve_who_was_there(self, slots, part):
        queue = line(slots, largest=LargestAsk(100, 10))
        for _ in range(1000):
            join(queue, "settled")
        for number in range(16):
            join(queue, f"new {number}")
        served = []
        for number in range(16, 2000):
            served += serve(queue, 1)
            if served[-1] != "settled":
                join(queue, f"new {number}")
        assert served.count("settled") > len(served) * part

    def test_a_storm_of_new_blocks_that_ask_twice_does_not_either(self):
        queue = line(largest=LargestAsk(100, 10))
        for _ in range(1000):
            join(queue, "settled")
        for number in range(8):
            join(queue, f"new {number}"), join(queue, f"new {number}")
        seen, served = set(), []
        for number in range(8, 1000):
            (name,) = serve(queue, 1)
            served.append(name)
            if name in seen:
                join(queue, f"new {number}"), join(queue, f"new {number}")
            seen.add(name)
        assert served.count("settled") > len(served) / 40


def test_it_can_be_empty():
    assert line().order.dequeue() is None
    assert line().order.heaviest() is None


class TestAhead:
    """The forecast's half: what is served before an ask."""

    @staticmethod
    def places(queue, *names):
        return [join(queue, name) for name in names]

    @staticmethod
    def positions(queue, places):
        return [queue.forecast(place, 0.0).position for place in places]

    @pytest.mark.parametrize("names", ["aab", "abab", "aaaabbc", "abcabc", "abbbbb"])
    def test_is_the_order_that_comes_to_pass_among_equal_asks(self, names):
        queue = line()
        join(queue, "busy")
        blocker = queue.next(0.0)
        places = self.places(queue, *names)
        forecast = dict(zip(places, self.positions(queue, places), strict=True))
        queue.release(blocker, 0.0)
        came = []
        while place := queue.next(0.0):
            queue.release(place, 0.0)
            came.append(place)
        assert all(abs(forecast[place] - number) <= 2 for number, place in enumerate(came, 1))

    def test_a_stranger_is_told_that_it_is_next(self):
        queue = line(2, client_slots=2)
        self.places(queue, *"aaaabbbb")
        serve(queue, 2)
        queue.next(0.0), queue.next(0.0)
        assert self.positions(queue, self.places(queue, "s", "t")) == [1, 2]

    def test_an_ask_whose_instant_has_not_come_counts_those_of_its_client(self):
        queue = line()
        queue.join(client("busy"), now=0.0, eligible_at=0.0, prompt_tokens=1, size=1)
        queue.next(0.0)
        join(queue, "ann")
        late = queue.join(client("ann"), now=0.0, eligible_at=9.0, prompt_tokens=1, size=1)
        assert queue.forecast(late, 0.0).position == 2
        unknown = queue.join(client("new"), now=0.0, eligible_at=9.0, prompt_tokens=1, size=1)
        assert queue.forecast(unknown, 0.0).position in {1, 2}


def test_weights_make_the_charge():
    weights = Weights(prompt=1.0, output=2.0, cached=0.1, least=64.0)
    assert weights.input(1000) == 1000
    assert weights.input(1000, 500) == 550
    assert weights.input(1000, 5000) == 100
    assert weights.input(10) == 64
    assert weights.input(0) == 0


def test_the_bound_grows_by_one_answer_with_each_that_may_run():
    largest, weights = LargestAsk(1000, 100, late=0.5), Weights()
    assert largest.bound(weights, 1) == 1000 + 200
    assert largest.bound(weights, 3) - largest.bound(weights, 2) == 200 + 500
    assert LargestAsk(1, 1).bound(weights, 1) == 64 + 2


def test_a_free_slot_is_no_wait():
    assert predict([Level(0, 1, 4), Level(2, 5, 8)], 10.0) == 0.0
    assert predict([Level(0, 0, 1)], None) == 0.0


def test_with_all_slots_busy_one_ends_every_so_often():
    assert predict([Level(0, 8, 8)], 16.0) == 2.0
    assert predict([Level(3, 8, 8)], 16.0) == 8.0


def test_free_slots_take_the_first_of_those_ahead():
    assert predict([Level(3, 6, 8)], 16.0) == 4.0


def test_the_longest_wait_of_all_levels_is_the_wait():
    own, everybody = Level(4, 2, 2), Level(4, 4, 8)
    assert predict([own, everybody], 4.0) == 10.0
    assert predict([Level(0, 0, 2), Level(20, 8, 8)], 4.0) == pytest.approx(10.5)


def test_nothing_is_predicted_before_anything_was_measured():
    assert predict([Level(0, 1, 1)], None) is None
