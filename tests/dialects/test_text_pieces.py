from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from standpipe.dialects.text_pieces import Halves, StopText
from tests.gptoss.corpus import cut


@given(st.text("ab.", max_size=30), st.lists(st.text("ab.", max_size=4), max_size=3), st.randoms(use_true_random=False))
def test_text_ends_before_the_first_stop_string_however_it_is_cut(
    text: str, stops: list[str], rng: random.Random
) -> None:
    watch = StopText(stops)
    got = "".join(watch.take(piece) for piece in cut(text, rng)) + watch.flush()
    first = min(
        ((text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop and stop in text), default=None
    )
    assert watch.done is (first is not None)
    assert (watch.found is None) is (first is None)
    assert first is None or text[: first[1]] + (watch.found or "") == text[: first[0]]
    assert got == (text if first is None else text[: first[1]])


def test_only_what_may_become_a_stop_string_is_kept_back() -> None:
    watch = StopText(("\n\n", "END"))
    assert [watch.take(piece) for piece in ("a\n", "b E", "NX", "")] == ["a", "\nb ", "ENX", ""]
    assert StopText(()).take("a") == "a"


def joined(*pieces: str) -> str:
    halves = Halves()
    return "".join([*map(halves.take, pieces), halves.take("", last=True)])


@given(st.text("aé𝄞😀\U0001f480", max_size=8), st.data())
def test_a_character_may_be_cut_between_its_halves_or_its_bytes(text: str, data: st.DataObject) -> None:
    units = [text.encode("utf-16-le")[i : i + 2] for i in range(0, 2 * len(text.encode("utf-16-le")) // 2, 2)]
    assert joined(*(unit.decode("utf-16-le", "surrogatepass") for unit in units)) == text
    at = data.draw(st.integers(0, len(text.encode())))
    pieces = (text.encode()[:at], text.encode()[at:])
    assert joined(*(piece.decode(errors="surrogateescape") for piece in pieces)) == text


def test_a_half_that_stays_alone_is_shown_as_unknown() -> None:
    assert joined("a\ud83d", "b") == "a\ufffdb"
    assert joined("a\ude00b") == "a\ufffdb"
    assert joined("a\ud83d") == "a\ufffd"
    assert joined("a\udcf0\udc9f") == "a\ufffd"
    assert joined("\udcff", "\ud83d", "\ud83d\ude00") == "\ufffd\ufffd😀"
