from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.dialects.harmony.stripped import (
    MarkerRestorer,
    begins_stripped,
    has_stripped_header,
    restore_markers,
    unfinished_header,
)
from tests.gptoss.corpus import cut


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("analysisWe think.assistantfinalHi", True),
        ("assistantfinalHi", True),
        ("commentary to=functions.bash json{}", True),
        (" to=functions.bash{}", True),
        ("", None),
        ("anal", None),
        ("analysis", None),
        ("analysisWe think", None),
        ("commentary to=", None),
        ("analysis of the data", False),
        ("analysis.", False),
        ("commentary on this", False),
        ("to=you", False),
        ("Hello", False),
    ],
)
def test_only_a_beginning_that_a_header_must_have_written_counts(text: str, verdict: bool | None) -> None:
    assert begins_stripped(text) is verdict


def test_a_header_in_the_middle_is_seen_only_where_it_is_glued() -> None:
    assert has_stripped_header("politely.assistantfinalHello")
    assert has_stripped_header("so.\ncommentary to=functions.bash json{}")
    assert not has_stripped_header("the assistant finally said")
    assert not has_stripped_header("an assistantfinal word")


@pytest.mark.parametrize("text", ["data", "the assistant", "we ass", "comm", "an a", "1 a", "", "a"])
def test_running_text_is_not_kept_back(text: str) -> None:
    assert unfinished_header(text) == 0


def test_what_may_become_a_stripped_header_is_kept_back() -> None:
    assert unfinished_header("politely.assis") == 5
    assert unfinished_header("politely assistant") == 0
    assert unfinished_header("xassistantfin") == 12
    assert unfinished_header("so commentary to") == 13


def test_the_markers_come_back() -> None:
    assert restore_markers("analysisA.assistantcommentary to=functions.x json{}") == (
        "<|channel|>analysis<|message|>A.<|start|>assistant<|channel|>commentary to=functions.x json{}"
    )
    assert restore_markers(" to=functions.x{}") == "<|channel|>commentary to=functions.x{}"


@given(
    st.lists(st.sampled_from(["analysis", "assistant", "final", "commentary", " to=", "functions.", "x", ".", " "])),
    st.randoms(use_true_random=False),
)
def test_the_markers_come_back_however_it_is_cut(words: list[str], rng: random.Random) -> None:
    text = "".join(words)
    whole, cut_up = MarkerRestorer(at_start=False), MarkerRestorer(at_start=False)
    expected = whole.feed(text) + whole.flush()
    assert "".join(cut_up.feed(piece) for piece in cut(text, rng)) + cut_up.flush() == expected
