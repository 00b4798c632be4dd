from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.policy.overload import ShedTarget, SlotRange, Slots, Sojourn

TARGET = ShedTarget(target=3.0, interval=10.0)


def waits(sojourn, waited, *, begin=0.0, count=11, every=1.0):
    """So many asks get a slot, one after another."""
    for number in range(count):
        sojourn.observe(waited, begin + number * every)
    return begin + (count - 1) * every


class TestSojourn:
    def test_sheds_half_of_what_will_not_be_served_in_time(self):
        sojourn = Sojourn(TARGET)
        now = waits(sojourn, 5.0)
        # 11 in 10 s: 3.3 are served within 3 s; of 20 that is 16.7 too many.
        assert sojourn.excess(20, now) == 9

    def test_one_short_wait_shows_that_the_line_does_not_stand(self):
        sojourn = Sojourn(TARGET)
        sojourn.observe(5.0, 0.0)
        sojourn.observe(0.1, 5.0)
        sojourn.observe(5.0, 10.0)
        assert sojourn.excess(100, 10.0) == 0

    def test_nothing_is_judged_before_an_interval_is_over(self):
        sojourn = Sojourn(TARGET)
        waits(sojourn, 5.0, count=5)
        assert sojourn.excess(100, 9.9) == 0

    def test_each_interval_is_judged_once(self):
        sojourn = Sojourn(TARGET)
        now = waits(sojourn, 5.0)
        assert sojourn.excess(20, now) > 0
        assert sojourn.excess(20, now) == 0
        assert sojourn.excess(20, waits(sojourn, 5.0, begin=now)) > 0

    def test_an_idle_slot_is_a_wait_of_nothing(self):
        sojourn = Sojourn(TARGET)
        now = waits(sojourn, 5.0)
        sojourn.idle(now)
        assert sojourn.excess(100, now + 20) == 0

    def test_an_interval_without_a_slot_says_nothing(self):
        sojourn = Sojourn(TARGET)
        sojourn.observe(5.0, 0.0)
        assert sojourn.excess(8, 60.0) == 4
        assert sojourn.excess(8, 120.0) == 0
        assert sojourn.excess(8, 300.0) == 0

    def test_a_line_that_is_served_in_time_keeps_all_of_it(self):
        sojourn = Sojourn(TARGET)
        now = waits(sojourn, 5.0, count=101, every=0.1)
        assert sojourn.excess(30, now) == 0

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20), st.integers(0, 1000)), max_size=40))
    def test_never_more_than_wait(self, history):
        sojourn, now = Sojourn(TARGET), 0.0
        for waited, passed, waiting in history:
            now += passed
            sojourn.observe(waited, now)
            assert 0 <= sojourn.excess(waiting, now) <= waiting


class TestSlots:
    def test_grow_by_one_with_each_round_that_went_well_at_full_load(self):
        slots = Slots(4, SlotRange(most=8))
        for number in range(4 + 1):
            slots.first_token(1000, 0.5, running=slots.value, now=float(number))
        assert slots.value == 5

    def test_do_not_grow_while_they_are_not_used(self):
        slots = Slots(4, SlotRange())
        for number in range(100):
            slots.first_token(1000, 0.5, running=3, now=float(number))
        assert slots.value == 4

    def test_shrink_when_the_engine_refuses_but_once_in_a_while(self):
        slots = Slots(10, SlotRange(pause=10.0))
        slots.refused(0.0)
        slots.refused(1.0)
        slots.refused(9.9)
        assert slots.value == 7
        slots.refused(10.0)
        assert slots.value == 4

    def test_shrink_when_first_tokens_come_late_for_the_prompts_length(self):
        slots = Slots(8, SlotRange())
        for number in range(20):
            slots.first_token(1000, 0.5, running=1, now=float(number))
        for number in range(20, 60):
            slots.first_token(1000, 2.0, running=8, now=float(number))
        assert slots.value < 8

    def test_long_prompts_are_no_overload(self):
        slots = Slots(8, SlotRange())
        for number in range(100):
            tokens = (512, 8192)[number % 2]
            slots.first_token(tokens, tokens / 2000, running=1, now=float(number))
        assert slots.value == 8

    def test_short_prompts_are_no_overload_either(self):
        slots = Slots(8, SlotRange())
        for number in range(100):
            tokens = (1, 8192)[number % 2]
            slots.first_token(tokens, 0.05 + tokens / 2000, running=1, now=float(number))
        assert slots.value == 8

    def test_begin_within_their_range(self):
        assert Slots(100, SlotRange(2, 16)).value == 16
        assert Slots(0, SlotRange(2, 16)).value == 2

    @settings(deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.none(),
                st.tuples(st.integers(0, 10_000), st.floats(0, 100), st.integers(0, 64)),
            ),
            max_size=60,
        )
    )
    def test_stay_within_their_range(self, history):
        slots = Slots(8, SlotRange(2, 16, pause=1.0))
        for now, happening in enumerate(history):
            if happening is None:
                slots.refused(float(now))
            else:
                slots.first_token(*happening, now=float(now))
            assert 2 <= slots.value <= 16
            assert str(slots.value) in repr(slots)
