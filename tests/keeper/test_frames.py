"""The wire: every split, every size, and a neighbour version."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.keeper import frames, messages
from standpipe.keeper.claim import told_of
from standpipe.keeper.link import failure_of
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Limit, QueueFull, TooManyWaiting

CLIENT = told_of(ClientKey("192.0.2.1", "192.0.2.0/24", "s"))
JOIN = messages.Join(7, CLIENT, 12, 64, 900, b"\x00" * 16, messages.Wish(model="m", prefixes=[b"ab"]), age=2.5)
JOIN.stood = messages.Stood(number=3, eligible_in=-0.5, told=((0.5, 1.0, -3.0, 4.0, 5, 6, True, False),))
SAID = [
    messages.Hello(1, 42, left=[messages.LeftPlace(CLIENT, b"f", messages.Wish(), 1, 2.0, 0.0, 3.0)]),
    JOIN,
    messages.Charge([(7, 3), (8, 1)]),
    messages.Over(7, "busy", "Not now.", 2.0),
    messages.End(7, 3, 9, (5, 9, 0), praised=True),
    messages.Ready(),
]


@given(st.lists(st.integers(0, 400), max_size=12))
def test_messages_come_through_however_their_bytes_are_split(cuts):
    data = frames.pack(SAID[:3]) + frames.pack(SAID[3:])
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    reader = frames.Reader(messages.Up)
    found = [message for a, b in pairwise(edges) for message in reader.feed(data[a:b])]
    assert frames.pack(found) == frames.pack(SAID)


def test_byte_by_byte():
    reader = frames.Reader(messages.Up)
    found = [message for byte in frames.pack(SAID) for message in reader.feed(bytes([byte]))]
    assert frames.pack(found) == frames.pack(SAID)


def test_what_a_newer_version_says_beyond_ours_is_passed_over():
    later = msgspec.msgpack.encode([["beat"], ["dance", 1, {"x": 2}], ["look", 7, "a new field", [1]], ["ready"]])
    reader = frames.Reader(messages.Up)
    found = list(reader.feed(len(later).to_bytes(4, "big") + later))
    assert found == [messages.Beat(), messages.Look(7), messages.Ready()]


def test_what_an_older_version_does_not_say_has_its_default():
    assert list(frames.Reader(messages.Down).feed(_framed([["granted", 7, "e"]]))) == [messages.Granted(7, "e")]
    assert list(frames.Reader(messages.Up).feed(_framed([["end", 7]]))) == [messages.End(7)]


def _framed(said):
    body = msgspec.msgpack.encode(said)
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "data",
    [
        (frames.LARGEST + 1).to_bytes(4, "big"),
        _framed([["look"]]),
        _framed([["look", "seven"]]),
        _framed([[]]),
        _framed({"look": 7}),
        b"\x00\x00\x00\x02\x92\xc1",
    ],
)
def test_nonsense_is_no_message(data):
    with pytest.raises(frames.Broken):
        list(frames.Reader(messages.Up).feed(data))


def test_what_is_too_long_for_one_frame_goes_into_more(monkeypatch):
    monkeypatch.setattr(frames, "LARGEST", 60)
    data = frames.pack(SAID[2:])
    assert int.from_bytes(data[:4], "big") <= 60 < len(data)
    assert frames.pack(list(frames.Reader(messages.Up).feed(data))) == data
    with pytest.raises(frames.Broken):
        frames.pack([messages.Put("held", "n", CLIENT, b"x" * 200)])


@pytest.mark.parametrize(
    "failure", [TooManyWaiting(Limit.CLIENT, 8, 3.5), QueueFull(Limit.LINE, 2.0)], ids=lambda failure: failure.kind
)
def test_a_refusal_is_the_failure_that_the_keeper_meant(failure):
    told = failure_of(messages.Refused(1, failure.kind, failure.message, failure.retry_after))
    assert (type(told), told.message, told.retry_after) == (type(failure), failure.message, failure.retry_after)
    assert (told.status, told.code, told.kind) == (failure.status, failure.code, failure.kind)


def test_a_refusal_of_a_kind_that_is_not_known_is_want_of_capacity():
    assert failure_of(messages.Refused(1, "TooMoonlit", "Wait for the sun.", 9.0)).status == 503
