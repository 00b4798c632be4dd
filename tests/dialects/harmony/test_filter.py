from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Ask, ToolChoice, ToolMode
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    Event,
    EventOrder,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from standpipe.dialects.harmony.filter import HarmonyFilter
from standpipe.dialects.harmony.markup import MARKERS, find_marker
from standpipe.dialects.harmony.parser import TurnFault
from tests.gptoss.corpus import Call, Damage, Meaning, cut, load, meaning, tool

ASK = Ask((), tools=(tool("get_weather", ["location"]), tool("bash", ["command"])))
STOP = Finished(FinishReason.STOP)


def through(events: list[Event], ask: Ask = ASK) -> tuple[Meaning, HarmonyFilter]:
    """What comes out when each event is a batch of its own."""
    filter_ = HarmonyFilter(ask, "t")
    out = [event for one in [Started(), *events] for event in filter_.take([one])]
    order = EventOrder()
    for event in out:
        order.advance(event)
    return meaning(out), filter_


@pytest.mark.parametrize("damage", load(), ids=lambda damage: damage.name)
def test_an_engine_that_passes_everything_on_as_the_answer_is_repaired(damage: Damage) -> None:
    """And agrees with the parser, which is held to the same, wherever the text is cut."""
    raw, rng = damage.raw, random.Random(damage.name)
    halves = ([raw[:at], raw[at:]] for at in range(1, len(raw)))
    for pieces in ([raw], list(raw), *halves, *(cut(raw, rng) for _ in range(4))):
        said, _ = through([*map(TextDelta, pieces), Finished(damage.reason)], damage.ask())
        assert said == (damage.filtered or damage.expect), pieces


CLEAN: list[Event] = [
    ReasoningDelta("The data suggest"),
    ReasoningDelta(" a "),
    Waiting(),
    TextDelta("if a <"),
    TextDelta(" b and "),
    TextDelta(""),
    TextDelta("c <| d: analysis. The assistant"),
    TextDelta(" commentary "),
    ToolCallDelta(0, '{"loc', "x1", "get_weather"),
    ToolCallDelta(0, 'ation":"<b>"}'),
    Finished(FinishReason.TOOL_CALLS),
]


def test_a_clean_stream_passes_as_the_same_objects() -> None:
    filter_ = HarmonyFilter(ASK, "t")
    out = [event for one in CLEAN for event in filter_.take([one])]
    assert len(out) == len(CLEAN)
    assert all(after is before for after, before in zip(out, CLEAN, strict=True))
    assert filter_.turn is not None
    assert filter_.turn.fault is None


def test_calls_that_an_engine_read_are_those_that_were_plainly_meant() -> None:
    uses = [{"recipient_name": f"functions.{name}", "parameters": {}} for name in ("bash", "nothing", "Get-Weather")]
    said, filter_ = through(
        [
            ToolCallDelta(0, '{"tool_uses":', "c0", "multi_tool_use.parallel"),
            ToolCallDelta(0, json.dumps(uses)),
            ToolCallDelta(1, "{}", "c1", "functions.functions.BASH"),
            ToolCallDelta(0, "}"),
            STOP,
        ]
    )
    assert said.tool_calls == [Call("bash", "{}"), Call("bash", "{}"), Call("get_weather", "{}")]
    assert filter_.turn is not None
    assert filter_.turn.fault is None


@given(st.lists(st.text(st.sampled_from("as tnwx<|>.{commentary}"), min_size=1, max_size=6), max_size=12))
@settings(max_examples=200, deadline=None)
def test_text_without_markup_passes_as_the_same_objects_whatever_it_is(texts: list[str]) -> None:
    events: list[Event] = [TextDelta("Well, "), *map(TextDelta, texts), STOP]
    if find_marker("".join(texts)) or any(word in "".join(texts) for word in ("assistant", "commentary to=")):
        return
    filter_ = HarmonyFilter(ASK, "t")
    out = [event for one in events for event in filter_.take([one])]
    assert [id(event) for event in out] == [id(event) for event in events]


def test_ordinary_words_are_not_kept_back() -> None:
    filter_ = HarmonyFilter(ASK, "t")
    for word in ("Hello", " there", " data", " a", " < 3", " assistant", " as"):
        delta = TextDelta(word)
        assert filter_.take([delta]) == [delta]


def test_an_answer_that_leaked_into_the_reasoning_gets_out_of_it() -> None:
    leak = "<|start|>assistant<|channel|>final<|message|>"
    said, filter_ = through([ReasoningDelta("Think."), *map(ReasoningDelta, leak), ReasoningDelta("Hi."), STOP])
    assert said == Meaning("Think.", "Hi.", [], "stop")
    assert filter_.turn is not None
    assert filter_.turn.fault is None


@pytest.mark.parametrize("piecewise", [True, False])
def test_stripped_headers_are_repaired_in_the_middle_of_reasoning(piecewise: bool) -> None:
    text = "We think.assistantfinalHello."
    pieces = ["We think.", *text[len("We think.") :]] if piecewise else [text]
    said, _ = through([*map(ReasoningDelta, pieces), STOP])
    assert said == Meaning("We think.", "Hello.", [], "stop")


def test_a_call_written_into_the_answer_becomes_a_call() -> None:
    text = 'commentary to=functions.get_weather json{"location":"Oslo"}'
    for pieces in ([text], list(text)):
        said, _ = through([ReasoningDelta("Think."), *map(TextDelta, pieces), STOP])
        assert said == Meaning("Think.", "", [Call("get_weather", '{"location":"Oslo"}')], "tool_calls")


def test_an_answer_that_begins_with_the_word_analysis_comes_out_as_it_was() -> None:
    events: list[Event] = [TextDelta("analysisResult"), TextDelta(" = 3"), STOP]
    filter_ = HarmonyFilter(ASK, "t")
    out = [event for one in events for event in filter_.take([one])]
    assert [id(event) for event in out] == [id(event) for event in events]


def test_reasoning_without_markers_cut_by_the_limit_is_reasoning() -> None:
    text = "analysisWe need to think about it for quite some time, longer than we have, and"
    said, _ = through([*map(TextDelta, text), Finished(FinishReason.LENGTH)])
    assert said == Meaning(text.removeprefix("analysis"), "", [], "length")


def test_names_lose_their_markup_and_only_declared_tools_are_called() -> None:
    said, filter_ = through(
        [
            ToolCallDelta(0, "{}", "a", "search"),
            ToolCallDelta(1, '{"command":', "b", "functions.bash<|channel|>commentary"),
            ToolCallDelta(0, "more"),
            ToolCallDelta(1, '"l<|end'),
            ToolCallDelta(1, '|>s"}'),
            Finished(FinishReason.TOOL_CALLS),
        ]
    )
    assert said == Meaning("", "", [Call("bash", '{"command":"ls"}')], "tool_calls")
    assert filter_.turn is not None
    assert (filter_.turn.fault, filter_.turn.undeclared) == (None, ("search",))


def test_a_turn_that_calls_only_undeclared_tools_is_a_fault() -> None:
    said, filter_ = through([ToolCallDelta(0, "{}", "a", "search<|channel|>x"), Finished(FinishReason.TOOL_CALLS)])
    assert said == Meaning("", "", [], "stop")
    assert filter_.turn is not None
    assert (filter_.turn.fault, filter_.turn.undeclared) == (TurnFault.UNDECLARED_TOOL, ("search x",))


def test_calls_of_the_engine_and_of_the_text_are_numbered_in_a_row() -> None:
    leaked = '<|channel|>commentary to=functions.bash<|message|>{"command":"ls"}<|call|>'
    said, _ = through([ToolCallDelta(0, '{"location":"x"}', "a", "get_weather"), TextDelta(leaked), STOP])
    assert [call.name for call in said.tool_calls] == ["get_weather", "bash"]
    assert said.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("events", "choice", "fault"),
    [
        ([], None, TurnFault.EMPTY),
        ([ReasoningDelta("Hm.")], None, TurnFault.EMPTY),
        ([TextDelta(" \n")], None, TurnFault.EMPTY),
        ([TextDelta("Hi.")], None, None),
        ([TextDelta("No.", refusal=True)], None, None),
        ([TextDelta("Hi.")], ToolChoice(ToolMode.REQUIRED), TurnFault.NO_CALL),
    ],
)
def test_a_clean_turn_is_judged_too(events: list[Event], choice: ToolChoice | None, fault: TurnFault | None) -> None:
    _, filter_ = through([*events, STOP], Ask((), tools=ASK.tools, tool_choice=choice))
    assert filter_.turn is not None
    assert filter_.turn.fault is fault


def test_a_failure_comes_after_what_was_kept_back() -> None:
    filter_ = HarmonyFilter(ASK, "t")
    kept, failed = TextDelta("a <"), Failed(EngineFailed("The connection to the engine was lost."))
    assert filter_.take([kept]) == []
    assert filter_.take([failed]) == [kept, failed]


FRAGMENTS = [
    *MARKERS, "<|sta", "rt|>", "<", "|>", "assistantfinal", "assistant", "commentary to=functions.bash", "analysisX",
    "{}", '{"command":"ls"}', "Hello.", " ", "a", "<|reserved_3|>",
]  # fmt: skip
SAID = st.builds(
    lambda kind, text: kind(text), st.sampled_from([TextDelta, ReasoningDelta]), st.sampled_from(FRAGMENTS)
)
CALLED = st.builds(
    ToolCallDelta,
    st.integers(0, 2),
    st.sampled_from(FRAGMENTS),
    st.just("i"),
    st.sampled_from(["bash", "bash<|end|>", "x"]),
)


@given(st.lists(st.one_of(SAID, SAID, SAID, CALLED), max_size=16))
@settings(max_examples=400, deadline=None)
def test_no_control_token_gets_out(events: list[Event]) -> None:
    said, _ = through([*events, STOP])
    fields = [said.reasoning, said.content, *(f for call in said.tool_calls for f in (call.name, call.arguments))]
    assert not any(find_marker(field) for field in fields)
