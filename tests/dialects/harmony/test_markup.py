from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from standpipe.dialects.harmony.markup import MARKERS, Cutter, Marker, find, joins, strip, unfinished
from tests.gptoss.corpus import cut

TEXT = st.lists(st.sampled_from([*MARKERS, "<|reserved_7|>", "<", "|", ">", "<|st", "art|>", "a", " "])).map("".join)


def pieces_of(raw: list[str]) -> list[str | Marker]:
    """What a cutter gives for these pieces, with neighbouring texts joined."""
    cutter = Cutter()
    out: list[str | Marker] = []
    for piece in [part for text in raw for part in cutter.feed(text)] + [cutter.flush()]:
        if isinstance(piece, Marker) or not out or isinstance(out[-1], Marker):
            out.append(piece)
        else:
            out[-1] += piece
    return [piece for piece in out if piece]


@given(TEXT, st.randoms(use_true_random=False))
def test_a_stream_is_cut_at_the_same_markers_however_it_arrives(raw: str, rng: random.Random) -> None:
    assert pieces_of(cut(raw, rng)) == pieces_of([raw])


@given(TEXT)
def test_no_text_between_markers_holds_one(raw: str) -> None:
    pieces = pieces_of([raw])
    assert not any(find(piece) for piece in pieces if not isinstance(piece, Marker))
    assert find(strip(raw)) is None or "<|" in raw


def test_only_what_may_become_a_marker_is_kept_back() -> None:
    cutter = Cutter()
    assert cutter.feed("a < b <|en") == ["a < b "]
    assert cutter.feed("try|>") == ["<|entry|>"]
    assert cutter.idle
    assert [unfinished(text) for text in ("a", "<", "x<|", "<|reserved_12", "<|reserved_x", "<|end|")] == [
        0,
        1,
        2,
        13,
        0,
        6,
    ]


def test_parted_halves_of_a_marker_are_known_to_belong_together() -> None:
    assert joins("<|sta", "rt|>")
    assert joins("<|end|", ">")
    assert not joins("<|sta", " rt|>")
