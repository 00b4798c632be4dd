from __future__ import annotations

from standpipe.chat.ask import Ask, Sampling, ToolChoice, ToolMode
from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from standpipe.dialects.harmony.raw import HarmonyReader
from tests.gptoss.corpus import Meaning, meaning, tool

ASK = Ask((), tools=(tool("get_weather", ["location"]), tool("bash", ["command"])))


def test_text_becomes_reasoning_answer_and_calls_and_numbers_stay() -> None:
    reader = HarmonyReader(ASK, "t")
    usage, timings = Usage(3, 4), Timings(0.1, 0.2)
    assert reader.take([Started("m"), TextDelta("<|channel|>analysis<|mess")]) == [Started("m")]
    assert reader.take([TextDelta("age|>Think."), TextDelta("<|end|>")]) == [ReasoningDelta("Think.")]
    call = '<|start|>assistant<|channel|>commentary to=functions.bash json<|message|>{"command":"ls"}'
    assert reader.take([TextDelta(call)]) == []
    assert reader.take([Finished(FinishReason.STOP, usage, timings)]) == [
        ToolCallDelta(0, '{"command":"ls"}', "call_t0", "bash"),
        Finished(FinishReason.TOOL_CALLS, usage, timings),
    ]
    assert reader.done
    assert reader.turn is not None


def test_answer_text_passes_as_the_same_object() -> None:
    reader = HarmonyReader(ASK, "t")
    reader.take([TextDelta("<|channel|>final<|message|>"), TextDelta("Hi")])
    delta = TextDelta(" there")
    assert reader.take([delta])[0] is delta


def test_log_probabilities_stay_with_text_that_came_through() -> None:
    reader = HarmonyReader(ASK, "t")
    one, other = (TokenLogprob("x", -0.5),), (TokenLogprob("<|end|>", -0.1),)
    events: list[Event] = [
        TextDelta("<|channel|>final<|message|>", other),
        TextDelta("Hi", one),
        TextDelta("<|end|>", other),
    ]
    assert reader.take(events) == [TextDelta("Hi", one)]


def test_only_the_tools_that_the_choice_allows_may_be_called() -> None:
    def names(choice: ToolChoice | None) -> list[str]:
        return [tool.name for tool in Ask((), tools=ASK.tools, tool_choice=choice).callable_tools]

    assert names(None) == names(ToolChoice()) == names(ToolChoice(ToolMode.REQUIRED)) == ["get_weather", "bash"]
    assert names(ToolChoice(ToolMode.NONE)) == []
    assert names(ToolChoice(ToolMode.NAMED, "bash")) == ["bash"]


def stopped(stop: str, *texts: str, reason: FinishReason = FinishReason.LENGTH) -> tuple[list[Event], HarmonyReader]:
    reader = HarmonyReader(Ask((), sampling=Sampling(stop=(stop, "never"))), "t")
    return [event for text in texts for event in reader.take([TextDelta(text)])] + reader.take(
        [Finished(reason)]
    ), reader


def test_a_stop_string_ends_the_answer_and_only_the_answer() -> None:
    turn = "<|channel|>analysis<|message|>One. Two.<|end|><|start|>assistant<|channel|>final<|message|>A. B. C."
    for texts in ([turn], list(turn)):
        events, reader = stopped(". ", *texts)
        assert meaning(events) == Meaning("One. Two.", "A", [], "stop")
        assert isinstance(events[-1], Finished)
        assert events[-1].stop == ". "
        assert reader.done
        assert reader.turn is not None
        assert reader.turn.fault is None


def test_what_might_have_been_a_stop_string_is_not_lost() -> None:
    events, _ = stopped("END", *"<|channel|>final<|message|>WEEK EN", reason=FinishReason.STOP)
    assert meaning(events) == Meaning("", "WEEK EN", [], "stop")
    call = "<|end|><|start|>assistant<|channel|>commentary to=x<|message|>{}"
    events, _ = stopped("END", "<|channel|>commentary<|message|>THE EN" + call, reason=FinishReason.STOP)
    assert meaning(events).content == "THE EN"
