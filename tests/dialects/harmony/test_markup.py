from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.dialects.harmony.markup import (
    MARKERS,
    Channel,
    Cutter,
    Marker,
    Segment,
    completes_marker,
    find_marker,
    is_header,
    read_header,
    starts_channel,
    starts_message,
    strip_markers,
    unfinished_marker,
)
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
    assert not any(find_marker(piece) for piece in pieces if not isinstance(piece, Marker))
    assert find_marker(strip_markers(raw)) is None or "<|" in raw


def test_only_what_may_become_a_marker_is_kept_back() -> None:
    cutter = Cutter()
    assert cutter.feed("a < b <|en") == ["a < b "]
    assert cutter.feed("try|>") == ["<|entry|>"]
    assert cutter.idle
    assert [unfinished_marker(text) for text in ("a", "<", "x<|", "<|reserved_12", "<|reserved_x", "<|end|")] == [
        0,
        1,
        2,
        13,
        0,
        6,
    ]


def test_parted_halves_of_a_marker_are_known_to_belong_together() -> None:
    assert completes_marker("<|sta", "rt|>")
    assert completes_marker("<|end|", ">")
    assert not completes_marker("<|sta", " rt|>")


TOOLS = ("get_weather", "get_weather_now", "bash")


def segments(*texts: str) -> list[Segment]:
    """The role part, then what follows each `<|channel|>`; `!` before a text stands for `<|constrain|>`."""
    role, *rest = texts
    others = [Segment(Marker.CONSTRAIN, t[1:]) if t.startswith("!") else Segment(Marker.CHANNEL, t) for t in rest]
    return [Segment(Marker.START, role), *others]


@pytest.mark.parametrize(
    ("texts", "channel"),
    [
        (("", "analysis"), Channel.ANALYSIS),
        (("assistant", "final"), Channel.FINAL),
        (("assistantassistant", "commentary"), Channel.COMMENTARY),
        (("", "final", "analysis"), Channel.ANALYSIS),
        (("", " \n>analysis?"), Channel.ANALYSIS),
        (("", "comment"), Channel.COMMENTARY),
        (("", "finalx"), Channel.FINAL),
        (("", "assistant"), Channel.FINAL),
        (("", ""), Channel.FINAL),
        (("assistant",), Channel.FINAL),
        (("assistantfinal",), Channel.FINAL),
        (("", "thoughts"), None),
    ],
)
def test_the_last_known_channel_word_is_the_channel(texts: tuple[str, ...], channel: Channel | None) -> None:
    assert read_header(segments(*texts), TOOLS).channel is channel


@pytest.mark.parametrize(
    "texts",
    [
        ("", "commentary to=functions.get_weather ", "!json"),
        ("assistant to=functions.get_weather", "commentary"),
        ("assistant", "commentary to=get_weather json"),
        (" to=functions.get_weather", "analysis"),
        ("", "commentary to=functions.get_weatherjson"),
        ("get_weather", "commentary"),
        ("assistant", "get_weather", "commentary"),
        ("assistant", "commentary functions.get_weather"),
        ("", 'commentary to="functions.get_weather"'),
        ("", "commentaryto=functions.get_weather"),
    ],
)
def test_a_declared_tool_is_found_wherever_its_name_stands(texts: tuple[str, ...]) -> None:
    assert read_header(segments(*texts), TOOLS).tool == "get_weather"


def test_the_longest_name_is_meant_and_no_part_of_a_name() -> None:
    assert read_header(segments("", "commentary to=functions.get_weather_now"), TOOLS).tool == "get_weather_now"
    unknown = read_header(segments("", "commentary to=functions.get_weather_v2"), TOOLS)
    assert (unknown.tool, unknown.to) == (None, "get_weather_v2")


def test_to_assistant_is_no_call_and_from_a_tool_it_is_another_role() -> None:
    own = read_header(segments("assistant", "commentary to=assistant"), TOOLS)
    assert (own.tool, own.to, own.other_role) == (None, "assistant", False)
    assert read_header(segments("functions.bash to=assistant", "commentary"), TOOLS).other_role
    assert not read_header(segments(" to=assistant", "commentary"), TOOLS).other_role


@pytest.mark.parametrize("role", ["user", "system", "developer", "tool"])
def test_other_roles_are_not_the_assistant(role: str) -> None:
    assert read_header(segments(role), TOOLS).other_role
    assert read_header(segments(role, "final"), TOOLS).other_role


def test_one_unknown_word_for_a_role_calls_a_tool_that_nobody_declared() -> None:
    assert read_header(segments("search", "commentary", "!json"), TOOLS).to == "search"
    assert read_header(segments("search", "final"), TOOLS).to is None


def test_a_content_type_alone_is_seen() -> None:
    assert read_header(segments("", "!json"), TOOLS).bare_type
    assert not read_header(segments("", "", "!json"), TOOLS).bare_type
    assert read_header(segments("", "commentary to=bash ", "! json"), TOOLS).json
    assert not read_header(segments("", "commentary to=bash code"), TOOLS).json


@pytest.mark.parametrize(
    ("texts", "body"),
    [
        (("", 'final {"a":1}'), '{"a":1}'),
        (("", "final\nHi there."), "Hi there."),
        (("", "final ", '!json {"a":1}'), '{"a":1}'),
        (("", "commentary?commentary?"), ""),
        (("", "commentary to=assistant", "commentary?"), ""),
        (("assistant to=functions.bash", 'commentary json{"command":"a {b}"}'), '{"command":"a {b}"}'),
        (("", "commentary to=functions.bash"), ""),
    ],
)
def test_a_forgotten_message_is_in_the_rest_of_the_header(texts: tuple[str, ...], body: str) -> None:
    assert read_header(segments(*texts), TOOLS).body == body


def test_free_text_is_loose_and_noise_is_not() -> None:
    assert read_header(segments("", "We should answer politely."), TOOLS).loose == "We should answer politely."
    assert read_header(segments("", "??"), TOOLS).loose == ""
    assert read_header(segments("", "finally, an answer"), TOOLS).loose == "finally, an answer"


def test_a_header_without_start_is_told_from_text() -> None:
    for text in ("", "assistant", " to=functions.bash", "analysis", "functions.bash", "bash"):
        assert is_header(text, TOOLS), text
    for text in (" 364 ", "Now I will write the answer.", "to=" + "x" * 200):
        assert not is_header(text, TOOLS), text


def test_only_a_role_before_a_marker_a_channel_or_a_recipient_opens_a_message() -> None:
    for short in ("", "assi", "assistant", "assistant t", "assistant to", "bas", "bash", "functions.x"):
        assert starts_message(short, TOOLS, marked=False) is None, short
    for whole in ("assistant", "assistantassistant", "user", "bash", "functions.x to=assistant"):
        assert starts_message(whole, TOOLS, marked=True) is True, whole
    assert starts_message("assistant to=", TOOLS, marked=False) is True
    assert starts_message("assistantfinal", TOOLS, marked=False) is True
    for text in (" is a token", "assistant to begin", "assistants", "userland"):
        assert starts_message(text, TOOLS, marked=False) is False, text
    for text in ("", "assi", "hello"):
        assert starts_message(text, TOOLS, marked=True) is False, text


def test_a_message_to_the_reader_has_no_recipient() -> None:
    heading = read_header(segments("assistant", "final to=user"), TOOLS)
    assert (heading.channel, heading.to, heading.tool) == (Channel.FINAL, None, None)


def test_only_a_channel_word_before_a_marker_or_a_recipient_opens_a_message() -> None:
    assert starts_channel("anal", marked=False) is None
    assert starts_channel("analysis", marked=False) is None
    assert starts_channel("analysis", marked=True) is True
    assert starts_channel("commentary to=", marked=False) is True
    assert starts_channel("music", marked=True) is False
    assert starts_channel("analysis " + "x" * 300, marked=False) is False
