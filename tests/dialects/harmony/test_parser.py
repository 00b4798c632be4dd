from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.events import Delta, Finished, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from standpipe.dialects.harmony.markup import MARKERS, Channel, find_marker
from standpipe.dialects.harmony.parser import HarmonyParser, TurnFault
from tests.gptoss.corpus import Call, Damage, Meaning, cut, load, meaning, tool

TOOLS = (tool("get_weather", ["location"]), tool("bash", ["command"]), tool("shell", ["command"]), tool("now"))
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"
WEATHER = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location":"Oslo"}<|call|>'


def read(pieces: Sequence[str], parser: HarmonyParser | None = None, reason: FinishReason | None = STOP) -> Meaning:
    parser = parser or HarmonyParser(TOOLS, "t")
    events: list[Delta] = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.finish(reason)
    assert parser.turn is not None
    return meaning([*events, Finished(parser.turn.reason)])


@pytest.mark.parametrize("damage", load(), ids=lambda damage: damage.name)
def test_every_kind_of_damage_is_repaired_however_it_is_cut(damage: Damage) -> None:
    raw, rng = damage.raw, random.Random(damage.name)
    halves = ([raw[:at], raw[at:]] for at in range(1, len(raw)))
    for pieces in ([raw], list(raw), *halves, *(cut(raw, rng) for _ in range(8))):
        for reason in (damage.reason, None):
            assert read(pieces, HarmonyParser(damage.ask().tools, "t"), reason) == damage.expect, pieces


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("bare_text", None),
        ("preamble_without_call", None),
        ("toolcall_no_message", None),
        ("analysis_only", TurnFault.EMPTY),
        ("builtin_python", TurnFault.UNDECLARED_TOOL),
        ("tool_named_assistant", TurnFault.UNPARSABLE),
        ("eos_in_header", None),
        ("args_truncated", None),
    ],
)
def test_a_turn_that_is_no_answer_says_so_unless_the_limit_is_to_blame(name: str, fault: TurnFault | None) -> None:
    damage = next(damage for damage in load() if damage.name == name)
    parser = HarmonyParser(damage.ask().tools, "t")
    read([damage.raw], parser, damage.reason)
    assert parser.turn is not None
    assert parser.turn.fault is fault


# Undamaged turns.

PROSE = st.text(st.sampled_from("ab .\n<|>{}é🙂"), min_size=1, max_size=30).filter(
    lambda text: find_marker(text) is None and text.strip() != "" and text.lstrip()[0] not in "{["
)


@given(st.lists(PROSE, max_size=2), st.none() | PROSE, PROSE, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_well_formed_turn_means_what_it_says(
    analyses: list[str], preamble: str | None, final: str, rng: random.Random
) -> None:
    raw = "".join(f"{ANALYSIS}{text}{NEXT}" for text in analyses)
    raw += f"<|channel|>commentary<|message|>{preamble}{NEXT}" if preamble else ""
    raw += f"{FINAL}{final}<|return|>"
    said = read(cut(raw, rng))
    assert said.reasoning == "\n\n".join(analyses)
    assert said.content == "\n\n".join(filter(None, [preamble, final]))
    assert (said.tool_calls, said.finish_reason) == ([], "stop")


@given(PROSE, PROSE, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_text_is_given_as_soon_as_it_cannot_become_a_control_token(
    analysis: str, final: str, rng: random.Random
) -> None:
    parser = HarmonyParser(TOOLS, "t")
    parser.feed(ANALYSIS)
    for body in (analysis, final):
        fed = given_ = ""
        for piece in cut(body, rng):
            fed += piece
            given_ += "".join(event.text for event in parser.feed(piece) if not isinstance(event, ToolCallDelta))
            kept = fed.removeprefix(given_)
            assert fed.startswith(given_)
            assert kept == "" or any(marker.startswith(kept) for marker in (*MARKERS, "<|reserved_"))
        parser.feed(NEXT + FINAL)


def test_a_call_is_given_whole_or_not_at_all() -> None:
    parser = HarmonyParser(TOOLS, "abc")
    assert parser.feed(WEATHER.removesuffix("<|call|>")) == []
    assert parser.feed("<|call|>") == [ToolCallDelta(0, '{"location":"Oslo"}', "call_abc0", "get_weather")]
    assert parser.done


def test_an_engine_that_keeps_the_last_token_to_itself_is_read_the_same() -> None:
    assert read([WEATHER.removesuffix("<|call|>")]).tool_calls == [Call("get_weather", '{"location":"Oslo"}')]
    assert read([f"{FINAL}Hi."]).content == "Hi."


def test_what_follows_a_whole_answer_is_not_shown() -> None:
    parser = HarmonyParser(TOOLS, "t")
    said = read([f"{FINAL}Hi.{NEXT}{FINAL}Again.<|end|><|start|>user<|message|>Thanks!"], parser, LENGTH)
    assert said == Meaning("", "Hi.", [], "stop")


def test_an_answer_cut_by_the_limit_ends_by_length() -> None:
    assert read([f"{ANALYSIS}Think.{NEXT}{FINAL}Hi. I wo"], reason=LENGTH) == Meaning(
        "Think.", "Hi. I wo", [], "length"
    )


def test_nothing_is_left_of_a_turn_cut_in_its_header() -> None:
    for cut_off in ("", "<|channel|>", "<|channel|>analysis", "<|channel|>final Hello the", " to=functions.ba"):
        assert read([cut_off], reason=LENGTH) == Meaning("", "", [], "length")


def test_two_calls_are_two_only_where_parallel_calls_were_asked_for() -> None:
    second = '<|channel|>commentary to=functions.bash json<|message|>{"command":"ls"}<|call|>'
    raw = WEATHER.replace("<|call|>", NEXT) + second
    assert [call.name for call in read([raw]).tool_calls] == ["get_weather"]
    parser = HarmonyParser(TOOLS, "t", parallel=True)
    assert [call.name for call in read([raw], parser).tool_calls] == ["get_weather", "bash"]


def test_after_parallel_calls_nothing_but_calls_is_read() -> None:
    parser = HarmonyParser(TOOLS, "t", parallel=True)
    said = read([WEATHER.replace("<|call|>", NEXT) + f"{FINAL}It is sunny.<|return|>"], parser)
    assert said == Meaning("", "", [Call("get_weather", '{"location":"Oslo"}')], "tool_calls")


def test_a_forced_call_written_as_the_answer_is_a_call() -> None:
    for body in ('{"name":"bash","arguments":{"command":"ls"}}', '{"location":"Oslo"}'):
        said = read([f"{FINAL}{body}<|return|>"], HarmonyParser(TOOLS, "t", forced=True))
        assert (said.content, len(said.tool_calls)) == ("", 1)


def test_prose_where_a_call_is_forced_is_a_fault() -> None:
    parser = HarmonyParser(TOOLS, "t", forced=True)
    assert read([f"{FINAL}I would rather not.<|return|>"], parser).content == "I would rather not."
    assert parser.turn is not None
    assert parser.turn.fault is TurnFault.NO_CALL


def test_json_that_is_an_answer_stays_one() -> None:
    assert read([f'{FINAL}{{"location":"Oslo"}}<|return|>']).content == '{"location":"Oslo"}'
    assert HarmonyParser((), "t").feed('<|channel|>commentary<|message|>{"a"') == [TextDelta('{"a"')]


def test_a_channel_that_nobody_knows_is_reasoning_if_something_follows_and_else_the_answer() -> None:
    unknown = "<|channel|>thoughts<|message|>Hm, well."
    assert read([f"{unknown}{NEXT}{FINAL}Hi.<|return|>"]) == Meaning("Hm, well.", "Hi.", [], "stop")
    assert read([f"{unknown}<|return|>"]) == Meaning("", "Hm, well.", [], "stop")
    assert read(['<|channel|>tool<|message|>{"location":"x"}<|return|>']).tool_calls == [
        Call("get_weather", '{"location":"x"}')
    ]
    assert read(['<|channel|>tool<|message|>{"a":1, "b":[]}<|return|>']).content == '{"a":1, "b":[]}'


def test_what_stood_around_a_marker_does_not_become_one() -> None:
    assert read([f"{FINAL}a <|sta<|message|>rt|> b"]).content == "a <|sta rt|> b"
    assert read([f"{FINAL}a <|sta<|message|>x"]).content == "a <|stax"


def test_a_filtered_answer_ends_as_one() -> None:
    assert read([f"{FINAL}Hi"], reason=FinishReason.CONTENT_FILTER).finish_reason == "content_filter"


def test_undeclared_tools_are_named_for_the_log_without_markup() -> None:
    parser = HarmonyParser((), "t")
    read(["<|channel|>commentary to=functions.search<|constrain|>json<|message|>{}<|call|>"], parser)
    assert parser.turn is not None
    assert parser.turn.undeclared == ("search",)


def test_another_role_ends_the_turn_with_or_without_a_message() -> None:
    for role in ("user", "system", "functions.bash to=assistant"):
        for message in ("<|message|>Thanks", "<|channel|>final<|message|>x", ""):
            raw = f"{ANALYSIS}Think.<|end|><|start|>{role}{message}<|end|><|start|>assistant{FINAL}Hi.<|return|>"
            assert read([raw]) == Meaning("Think.", "", [], "stop"), raw


def test_an_answer_about_the_format_loses_its_markers_and_nothing_else() -> None:
    said = read([f"{FINAL}Write <|start|>assistant to begin, and <|channel|>music is none.<|return|>"])
    assert (said.reasoning, said.content) == ("", "Write assistant to begin, and music is none.")


def test_reasoning_without_markers_cut_by_the_limit_is_reasoning() -> None:
    text = "analysisWe need to think about it for quite some time, longer than we have, and"
    assert read([text], reason=LENGTH) == Meaning(text.removeprefix("analysis"), "", [], "length")
    assert read([text]) == Meaning("", text, [], "stop")


def test_a_turn_handed_over_in_the_middle_goes_on() -> None:
    parser = HarmonyParser(TOOLS, "t")
    parser.go_on(reasoning="", text="Hello ")
    assert parser.enter(Channel.FINAL, resumed=True) == []
    assert parser.feed("there.<|start|>assistant<|channel|>analysis<|message|>Hm.") == [
        TextDelta("there."),
        ReasoningDelta("Hm."),
    ]
    assert parser.feed("<|end|><|start|>assistant<|channel|>final<|message|>Bye.") == [TextDelta("\n\nBye.")]


# Anything at all.

FRAGMENTS = [
    *MARKERS, "<|reserved_12|>", "<|sta", "<|", "<", "rt|>", "|>", "assistant", "analysis", "commentary", "final",
    " to=functions.get_weather", " to=bash", " to=assistant", " to=python", "json", "{", "}", "[", '"', "\\",
    '{"location":"x"}', '{"command":"<|start|>"}', "Hello there, my friend.", " ", "\n", "é🙂", "??", "364", "user",
    "functions.", "bash", "assistantfinal", 'assistantcommentary to=functions.bash json{"command":"x"}', "<|reserved_1",
    '{"name":"bash","parameters":{"command":"\\u003c|end|>"}}',
]  # fmt: skip
GARBAGE = st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join)


@given(GARBAGE, st.booleans(), st.booleans(), st.sampled_from([STOP, LENGTH, None]), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_no_control_token_gets_out_and_no_cut_changes_the_meaning(
    raw: str, forced: bool, parallel: bool, reason: FinishReason | None, rng: random.Random
) -> None:
    said = read([raw], HarmonyParser(TOOLS, "t", forced=forced, parallel=parallel), reason)
    fields = [said.reasoning, said.content, *(f for call in said.tool_calls for f in (call.name, call.arguments))]
    assert not any(find_marker(field) for field in fields)
    assert read(cut(raw, rng), HarmonyParser(TOOLS, "t", forced=forced, parallel=parallel), reason) == said


@pytest.mark.parametrize(
    "piece", ["<|end|>x", "<|sta", "<|start|>", "<|channel|>analysis ", '"\\"', "{", "<|sta<|constrain|>", "analysisX "]
)
@pytest.mark.parametrize("opening", ["", ANALYSIS, "<|channel|>commentary<|message|>{", WEATHER[:80], "<|channel|>"])
def test_hostile_repetition_costs_no_more_than_its_length(opening: str, piece: str) -> None:
    # With quadratic work these 20,000 characters, and there are 40 such tests, would use up the suite's patience.
    raw = opening + piece * (20_000 // len(piece))
    read([raw])
    read([opening, *[piece] * (20_000 // len(piece))])
