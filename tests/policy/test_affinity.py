"""Where a conversation goes on, how long that is remembered, and what it may cost others."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.policy.affinity import MEMORY, MOST, Affinity, prefixes
from standpipe.policy.standing import Option, choose
from tests.pictures import PICTURE

KEY = b"k" * 32


def conversation(*said: str, key: bytes = KEY) -> tuple[bytes, ...]:
    return prefixes(Ask(tuple(Message(Role.USER, (Text(text),)) for text in said)), key)


def test_a_conversation_is_known_by_what_it_goes_on_from():
    affinity: Affinity[str] = Affinity()
    affinity.answered(conversation("be kind", "one"), "a", 0.0)
    affinity.answered(conversation("be kind", "two"), "b", 0.0)
    assert affinity.home(conversation("be kind", "one", "1", "and then?"), 1.0) == "a"
    assert affinity.home(conversation("be kind", "two", "2", "and then?"), 1.0) == "b"
    assert affinity.home(conversation("be kind", "three", "3", "and then?"), 1.0) is None
    assert affinity.home(conversation("be cruel", "one", "1", "and then?"), 1.0) is None


def test_a_conversation_is_known_by_what_it_shows_too():
    digests = {prefixes(Ask((Message(Role.USER, parts),)), KEY) for parts in ((Text("one"),), (Text("one"), PICTURE))}
    assert len(digests) == 2


def test_the_longest_beginning_counts_and_where_it_was_answered_last():
    affinity: Affinity[str] = Affinity()
    affinity.answered(conversation("one"), "a", 0.0)
    affinity.answered(conversation("one", "1", "two"), "b", 0.0)
    assert affinity.home(conversation("one", "1", "two", "2", "three"), 0.0) == "b"
    assert affinity.home(conversation("one", "1", "two, in other words"), 0.0) == "a"
    affinity.answered(conversation("one"), "c", 0.0)
    assert affinity.home(conversation("one", "1", "two, in other words"), 0.0) == "c"


def test_equal_asks_and_equal_operators_prompts_do_not_crowd_at_one_engine():
    affinity: Affinity[str] = Affinity()
    affinity.answered(conversation("be kind", "hello"), "a", 0.0)
    assert affinity.home(conversation("be kind", "hello"), 0.0) is None
    assert affinity.home(conversation("be kind", "good morning"), 0.0) is None


def test_it_is_forgotten_after_a_while_and_there_are_never_too_many():
    affinity: Affinity[int] = Affinity()
    first = conversation("0")
    for number in range(MOST + 10):
        affinity.answered((number.to_bytes(4, "big"),), number, 0.0)
    assert len(affinity) == MOST
    affinity.answered(first, 0, MEMORY - 1)
    assert affinity.home(conversation("0", "1", "2"), MEMORY) == 0
    assert affinity.home(conversation("0", "1", "2"), 2 * MEMORY) is None
    affinity.answered(conversation("1"), 1, 2 * MEMORY)
    assert len(affinity) == 1


messages = st.lists(st.text(max_size=5), min_size=1, max_size=6)


@given(messages, messages)
def test_two_conversations_share_exactly_the_digests_of_the_messages_that_they_share(one, other):
    shared = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        shared += 1
    mine, yours = conversation(*one), conversation(*other)
    assert set(mine) & set(yours) == set(mine[:shared]) == set(yours[:shared])
    assert not set(mine) & set(conversation(*one, key=b"another"))
    assert all(len(digest) == 16 for digest in mine)


options = st.lists(
    st.none()
    | st.builds(Option, st.integers(0, 2), st.integers(0, 2), st.integers(0, 1), st.floats(0, 10), st.integers(0, 100)),
    min_size=1,
    max_size=6,
)


@given(options, st.integers(0, 5), st.floats(0, 1))
def test_a_home_is_chosen_only_if_it_has_room_is_as_good_and_not_dearer_than_the_slack(options, home, slack):
    found, usual = choose(options, home % len(options), slack), choose(options)
    assert (found is None) == (usual is None)
    if found == usual:
        return
    assert found == home % len(options)
    chosen, cheapest = options[found], options[usual]
    assert (chosen.seen, chosen.rank, chosen.priority) == (cheapest.seen, cheapest.rank, cheapest.priority)
    assert chosen.cost - slack <= cheapest.cost


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_memory_keeps_its_order_whatever_is_answered(numbers):
    affinity: Affinity[int] = Affinity()
    for now, number in enumerate(numbers):
        affinity.answered(conversation(str(number)), now, float(now))
    ends = [until for _, until in affinity._homes.values()]
    assert all(earlier <= later for earlier, later in pairwise(ends))
