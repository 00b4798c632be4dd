import pytest

from standpipe.chat.errors import LineFull, PaceExceeded
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Limit, Line, QueueFull, QueueLimits, Rules, Stage, TooManyWaiting
from standpipe.policy.overload import ShedTarget

ANN = ClientKey("10.0.0.1", "10.0.0")
ANN_TOO = ClientKey("10.0.0.1", "10.0.0", "note")
BEN = ClientKey("10.0.0.2", "10.0.0")
CAT = ClientKey("20.0.0.1", "20.0.0")


def line(slots=1, **rules):
    return Line(Rules(**{"headroom": 0, **rules}), slots)


def join(line, client=ANN, now=0.0, eligible_at=None, **more):
    more = {"prompt_tokens": 10, "size": 100, **more}
    return line.join(client, now=now, eligible_at=now if eligible_at is None else eligible_at, **more)


def finish(line, place, now, tokens=10):
    line.charge(place, tokens, now)
    line.settle(place, prompt_tokens=10, completion_tokens=tokens)
    line.release(place, now)


@pytest.fixture
def two():
    """Two slots, one a client."""
    return line(2, client_slots=1)


class TestOneAsksStay:
    def test_from_joining_to_the_free_slot(self, two):
        place = join(two, now=1.0)
        assert place.stage is Stage.WAITING
        assert two.next(1.5) is place
        assert (place.stage, place.waited) == (Stage.RUNNING, 0.5)
        finish(two, place, 2.0)
        assert place.stage is Stage.GONE
        state = two.statistics()
        assert (state.running, state.waiting, state.bytes, state.clients, state.granted) == (0, 0, 0, 0, 1)

    def test_nobody_starts_before_its_instant(self, two):
        place = join(two, eligible_at=0.5)
        assert two.next(0.4) is None
        assert two.eligible_after(0.4) == 0.5
        assert two.statistics().early == 1
        assert two.next(0.5) is place
        assert two.eligible_after(0.5) is None

    def test_its_own_cap_holds_a_client_back_and_nobody_else(self, two):
        first, second, other = join(two), join(two), join(two, CAT)
        assert two.next(0.0) is first
        assert two.next(0.0) is other
        assert two.next(0.0) is None
        finish(two, first, 1.0)
        assert two.next(1.0) is second

    def test_no_more_run_than_there_are_slots(self, two):
        for number in range(5):
            join(two, ClientKey(f"{number}", f"{number}"))
        assert [two.next(0.0) is not None for _ in range(3)] == [True, True, False]

    def test_who_leaves_is_not_served(self, two):
        gone, late, stays = join(two), join(two, BEN, eligible_at=9.0), join(two, CAT)
        two.leave(gone, 0.0)
        two.leave(late, 0.0)
        assert two.next(9.0) is stays
        assert two.next(9.0) is None
        assert two.statistics().waiting == 0

    def test_slots_may_change_while_asks_run(self, two):
        places = [join(two, ClientKey(f"{number}", f"{number}")) for number in range(6)]
        two.next(0.0), two.next(0.0)
        two.slots = 4
        assert two.next(0.0) is not None
        two.slots = 1
        assert two.next(0.0) is None
        running = [place for place in places if place.stage is Stage.RUNNING]
        for place in running:
            finish(two, place, 1.0)
        assert two.next(1.0) is not None
        assert two.next(1.0) is None

    def test_a_lower_cap_holds_and_a_higher_one_frees_those_who_wait(self):
        wide = Line(Rules(client_slots=4, headroom=0), 4)
        for _ in range(8):
            join(wide)
        assert [wide.next(0.0) is not None for _ in range(4)] == [True] * 4
        wide.slots = 2
        assert wide.next(0.0) is None
        wide.slots = 8
        assert wide.next(0.0) is None  # its own cap is still 4
        join(wide, CAT)
        assert wide.next(0.0).client is CAT


class TestMistakesOfTheShell:
    def test_only_a_waiting_place_is_left(self, two):
        place = join(two)
        two.next(0.0)
        with pytest.raises(ValueError, match="only a waiting ask"):
            two.leave(place, 0.0)

    @pytest.mark.parametrize("happen", ["charge", "settle", "release"])
    def test_only_a_running_place_is_charged_settled_and_released(self, two, happen):
        def act():
            match happen:
                case "charge":
                    two.charge(place, 1, 0.0)
                case "settle":
                    two.settle(place, prompt_tokens=1, completion_tokens=1)
                case "release":
                    two.release(place, 0.0)

        place = join(two)
        with pytest.raises(ValueError, match="only a running ask"):
            act()
        two.next(0.0)
        two.release(place, 0.0)
        with pytest.raises(ValueError, match="only a running ask"):
            act()
        assert two.statistics().running == 0

    def test_a_line_has_a_slot_at_least(self, two):
        with pytest.raises(ValueError, match="at least one slot"):
            two.slots = 0


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "limit", "kind", "status"),
        [
            (QueueLimits(client=2), Limit.CLIENT, TooManyWaiting, 429),
            (QueueLimits(block=2), Limit.BLOCK, TooManyWaiting, 429),
            (QueueLimits(line=2), Limit.LINE, QueueFull, 503),
            (QueueLimits(bytes=250), Limit.BYTES, QueueFull, 503),
        ],
    )
    def test_each_limit_says_which_it_is_and_changes_nothing(self, limits, limit, kind, status):
        full = line(limits=limits)
        first, _ = join(full), join(full)
        before = full.statistics()
        with pytest.raises(kind) as raised:
            join(full)
        assert (raised.value.limit, raised.value.status) == (limit, status)
        assert raised.value.retry_after >= 1
        assert full.statistics().refused[limit] == 1
        assert (full.statistics().waiting, full.statistics().bytes) == (before.waiting, before.bytes)
        full.leave(first, 0.0)
        join(full)

    def test_429_is_the_clients_quota_and_503_our_capacity(self):
        assert issubclass(TooManyWaiting, PaceExceeded)
        assert issubclass(QueueFull, LineFull)

    def test_shares_of_one_address_have_one_quota(self):
        full = line(limits=QueueLimits(client=2))
        join(full), join(full, ANN_TOO)
        with pytest.raises(TooManyWaiting, match="your address"):
            join(full, ANN_TOO)

    def test_addresses_of_one_block_have_one_quota_beside_their_own(self):
        full = line(limits=QueueLimits(block=2))
        join(full), join(full, BEN)
        with pytest.raises(TooManyWaiting, match="your network"):
            join(full, BEN)
        join(full, CAT)

    def test_who_runs_does_not_wait(self):
        full = line(limits=QueueLimits(client=1))
        join(full)
        full.next(0.0)
        join(full)

    def test_waiting_for_its_instant_is_waiting(self):
        full = line(limits=QueueLimits(client=1))
        join(full, eligible_at=5.0)
        with pytest.raises(TooManyWaiting):
            join(full)

    def test_a_full_line_tells_how_long_it_takes_to_clear_a_tenth_of_it(self):
        full = line(limits=QueueLimits(line=20, client=50))
        place = join(full)
        full.next(0.0)
        full.charge(place, 10, 20.0)
        full.release(place, 60.0)
        for _ in range(20):
            join(full, now=60.0)
        with pytest.raises(QueueFull) as raised:
            join(full, CAT, now=60.0)
        assert raised.value.retry_after == pytest.approx(120.0)

    def test_instants_that_are_reserved_and_given_up_leave_nothing_behind(self):
        queue = line()
        for number in range(2000):
            queue.leave(join(queue, eligible_at=1e6 + number), 0.0)
        assert len(queue._early) < 100
        assert queue.statistics().early == 0


class TestRetries:
    def test_take_the_place_that_was_left(self):
        queue = line()
        busy = join(queue, CAT)
        queue.next(0.0)
        left = join(queue, fingerprint=b"ask")
        queue.leave(left, 1.0)
        retry = join(queue, now=3.0, eligible_at=9.0, fingerprint=b"ask", retake=queue.recall(ANN, b"ask", 3.0))
        assert (retry.number, retry.eligible_at, retry.joined_at) == (left.number, 0.0, 0.0)
        finish(queue, busy, 3.0)
        assert queue.next(3.0) is retry

    def test_end_the_old_place_if_it_is_still_in_line(self):
        queue = line()
        join(queue, CAT)
        queue.next(0.0)
        old = join(queue, fingerprint=b"ask")
        found = queue.recall(ANN, b"ask", 1.0)
        assert found.queued is old
        retry = join(queue, now=1.0, fingerprint=b"ask", retake=found)
        assert old.stage is Stage.GONE
        assert queue.asks(ANN) == (retry,)

    def test_go_before_their_clients_later_asks(self):
        queue = line()
        busy = join(queue, CAT)
        queue.next(0.0)
        first, later = join(queue, fingerprint=b"1"), join(queue, fingerprint=b"2")
        queue.leave(first, 0.0)
        retry = join(queue, now=1.0, fingerprint=b"1", retake=queue.recall(ANN, b"1", 1.0))
        finish(queue, busy, 1.0)
        assert queue.next(1.0) is retry
        assert later.stage is Stage.WAITING

    @pytest.mark.parametrize(
        ("client", "fingerprint", "now"), [(BEN, b"ask", 1), (ANN, b"other", 1), (ANN, b"ask", 11)]
    )
    def test_find_nothing_of_others_nothing_else_and_nothing_old(self, client, fingerprint, now):
        queue = line(hold=10.0)
        queue.leave(join(queue, fingerprint=b"ask"), 0.0)
        assert queue.recall(ANN, b"ask", 10.0) is not None
        assert queue.recall(client, fingerprint, now) is None

    def test_a_place_is_taken_back_once(self):
        queue = line()
        queue.leave(join(queue, fingerprint=b"ask"), 0.0)
        again = join(queue, fingerprint=b"ask", retake=queue.recall(ANN, b"ask", 0.0))
        queue.next(0.0)
        assert again.stage is Stage.RUNNING
        assert queue.recall(ANN, b"ask", 0.0) is None

    def test_kept_places_are_bounded(self):
        queue = line(limits=QueueLimits(line=5))
        for number in range(50):
            queue.leave(join(queue, fingerprint=bytes([number])), 0.0)
        assert queue.statistics().kept == 5


class TestShedding:
    def standing(self):
        """One slot, answers of a second, a dozen clients who always wait, one of them for long answers. Gives the line
        when it first sheds, who of the greedy one waited then, the victims, and when it was."""
        queue, now = line(shed=ShedTarget(target=3.0, interval=10.0), limits=QueueLimits(client=50)), 0.0
        for _ in range(6):
            join(queue)
        for number in range(11):
            join(queue, ClientKey(f"30.0.{number}.1", f"30.0.{number}"))
        running = queue.next(now)
        while True:
            now += 1.0
            finish(queue, running, now, tokens=500 if running.client is ANN else 10)
            join(queue, running.client, now)
            running = queue.next(now)
            waiting = queue.asks(ANN)
            if victims := queue.shed(now):
                return queue, waiting, victims, now

    def test_takes_the_newest_of_the_heaviest_first(self):
        queue, waiting, victims, now = self.standing()
        assert 10 <= now <= 20
        assert tuple(victims[: len(waiting)]) == waiting[::-1]
        assert all(place.stage is Stage.GONE for place in victims)
        assert queue.statistics().shed == len(victims)

    def test_takes_half_of_what_waits_too_long_once_in_an_interval(self):
        queue, _, victims, now = self.standing()
        assert len(victims) == 7  # of 16 who wait, 3 are served in time: half of 13
        assert queue.shed(now) == []
        assert queue.statistics().waiting == 9

    def test_never_happens_where_slots_are_free(self):
        queue = line(2, client_slots=1, shed=ShedTarget(target=3.0, interval=10.0))
        for _ in range(8):
            join(queue)
        running = queue.next(0.0)
        for now in range(1, 40):
            finish(queue, running, now)
            if len(queue.asks(ANN)) < 8:
                join(queue, now=now)
            running = queue.next(now)
            assert queue.next(now) is None
            assert queue.shed(now) == []


def test_forecasts_and_statistics_know_what_was_measured():
    queue = line()
    assert queue.statistics().measured is None
    place = join(queue)
    assert queue.forecast(place, 0.0).wait == 0.0
    queue.next(0.0)
    second = join(queue, CAT)
    assert queue.forecast(second, 0.0) == queue.forecast(second, 0.0)
    assert queue.forecast(second, 0.0).wait is None
    queue.charge(place, 1, 0.5)
    queue.charge(place, 9, 1.0)
    queue.settle(place, prompt_tokens=20, completion_tokens=10)
    queue.release(place, 1.5)
    measured = queue.statistics().measured
    assert (measured.answer_seconds, measured.output_tokens) == (1.5, 10)
    queue.next(1.5)
    third = join(queue, BEN, now=1.5)
    assert queue.forecast(third, 1.5).wait == pytest.approx(1.5)
    assert queue.forecast(third, 1.5).position == 1


def test_the_wait_for_its_instant_is_part_of_the_forecast():
    queue = line()
    assert queue.forecast(join(queue, eligible_at=3.0), 1.0).wait == 2.0


@pytest.mark.parametrize(
    ("slots", "client", "block", "headroom"),
    [(1, 1, 1, 0), (2, 1, 1, 0), (3, 2, 2, 0), (4, 3, 3, 1), (8, 4, 7, 1), (16, 4, 14, 2), (64, 4, 56, 8)],
)
def test_caps_follow_from_the_slots(slots, client, block, headroom):
    caps = Rules().caps(slots)
    assert (caps.slots, caps.client, caps.block, caps.headroom) == (slots, client, block, headroom)


def test_operators_choose_their_caps():
    caps = Rules(client_slots=100, headroom=3).caps(8)
    assert (caps.client, caps.block, caps.headroom) == (5, 5, 3)
    caps = Rules(headroom=0).caps(8)
    assert (caps.client, caps.block, caps.headroom) == (4, 8, 0)


def test_it_tells_what_it_is(two):
    join(two)
    assert "1 waiting" in repr(two)


class TestResizing:
    @staticmethod
    def crowd(slots):
        """A line in which two clients of one block and one of another have run up to their caps, and wait."""
        queue = Line(Rules(client_slots=2, headroom=1), slots)
        for _ in range(5):
            join(queue, ANN), join(queue, BEN), join(queue, CAT)
        running = []
        while place := queue.next(0.0):
            running.append(place)
        return queue, running

    @staticmethod
    def held(places):
        counts = {}
        for place in places:
            counts[place.client.block] = counts.get(place.client.block, 0) + 1
        return counts

    def test_more_slots_raise_the_cap_of_a_block(self):
        queue, running = self.crowd(4)
        assert self.held(running) == {"10.0.0": 2, "20.0.0": 1} or self.held(running) == {"10.0.0": 1, "20.0.0": 2}
        queue.slots = 8
        while place := queue.next(0.0):
            running.append(place)
        assert self.held(running) == {"10.0.0": 4, "20.0.0": 2}

    def test_fewer_slots_lower_it_as_asks_end(self):
        queue, running = self.crowd(8)
        assert self.held(running) == {"10.0.0": 4, "20.0.0": 2}
        queue.slots = 3
        for place in [place for place in running if place.client.block == "10.0.0"][:3]:
            finish(queue, place, 1.0)
            running.remove(place)
            assert queue.next(1.0) is None
        for place in list(running):
            finish(queue, place, 2.0)
        running = []
        while place := queue.next(2.0):
            running.append(place)
        assert len(running) == 2
        assert max(self.held(running).values()) <= 2

    def test_the_cap_of_a_client_follows_the_slots(self):
        queue = Line(Rules(), 2)
        for _ in range(6):
            join(queue)
        running = [queue.next(0.0)]
        assert queue.next(0.0) is None
        queue.slots = 8
        running += [queue.next(0.0) for _ in range(3)]
        assert queue.next(0.0) is None
        for place in running[:3]:
            finish(queue, place, 1.0)
        queue.slots = 2
        assert queue.next(1.0) is None
        join(queue, CAT)
        assert queue.next(1.0).client is CAT
