from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from standpipe.dialects.stop_text import StopText
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
    assert got == (text if first is None else text[: first[1]])


def test_only_what_may_become_a_stop_string_is_kept_back() -> None:
    watch = StopText(("\n\n", "END"))
    assert [watch.take(piece) for piece in ("a\n", "b E", "NX", "")] == ["a", "\nb ", "ENX", ""]
    assert StopText(()).take("a") == "a"
