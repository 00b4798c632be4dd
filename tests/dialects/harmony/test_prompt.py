from __future__ import annotations

import pytest

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk
from standpipe.dialects.harmony import prompt as harmony_prompt
from tests.gptoss.corpus import tool


def prepare(ask: Ask, *, as_text: bool = False) -> Ask:
    return harmony_prompt.prepare(ask, reasoning_as_text=as_text)


def system(text: str) -> Message:
    return Message(Role.SYSTEM, (Text(text),))


def user(text: str) -> Message:
    return Message(Role.USER, (Text(text),))


def assistant(*parts: Part | str) -> Message:
    return Message(Role.ASSISTANT, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def result(call_id: str, text: str = "r") -> Message:
    return Message(Role.TOOL, (ToolResult(call_id, text),))


def call(call_id: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(call_id, "bash", arguments)


def prepared(*messages: Message) -> list[Message]:
    return list(prepare(Ask(messages)).messages)


def test_all_that_the_operator_says_is_one_message_at_the_start() -> None:
    developer = Message(Role.DEVELOPER, (Text("Two."),))
    assert prepared(system("One."), user("a"), developer, system(""), user("b")) == [
        system("One.\n\nTwo."),
        user("a"),
        user("b"),
    ]


def test_parallel_calls_and_their_results_become_pairs() -> None:
    both = assistant(Reasoning("Two things."), call("1"), call("2"))
    assert prepared(user("a"), both, result("2", "second"), result("1", "first")) == [
        user("a"),
        assistant(Reasoning("Two things."), call("2")),
        result("2", "second"),
        assistant(call("1")),
        result("1", "first"),
    ]


def test_one_message_with_both_results_is_taken_apart() -> None:
    results = Message(Role.TOOL, (ToolResult("1", "x"), ToolResult("2", "y")))
    assert prepared(assistant(call("1"), call("2")), results) == [
        assistant(call("1")),
        result("1", "x"),
        assistant(call("2")),
        result("2", "y"),
    ]


def test_calls_that_come_in_messages_of_their_own_are_paired_too() -> None:
    assert prepared(
        assistant(Reasoning("Hm.")), assistant(call("1")), assistant(call("2")), result("1"), result("2")
    ) == [
        assistant(Reasoning("Hm."), call("1")),
        result("1"),
        assistant(call("2")),
        result("2"),
    ]


def test_ids_that_are_used_again_mean_the_call_just_before() -> None:
    first, second = assistant(call("1", '{"n":1}')), assistant(call("1", '{"n":2}'))
    assert prepared(first, result("1", "x"), second, result("1", "y")) == [
        first,
        result("1", "x"),
        second,
        result("1", "y"),
    ]


def test_reasoning_is_kept_inside_a_tool_loop_and_dropped_after_an_answer() -> None:
    before = [assistant(Reasoning("Old."), call("1")), result("1"), assistant(Reasoning("Done."), "Answer.")]
    assert prepared(user("a"), *before, user("b"), assistant(Reasoning("New."), call("2")), result("2")) == [
        user("a"),
        assistant(call("1")),
        result("1"),
        assistant("Answer."),
        user("b"),
        assistant(Reasoning("New."), call("2")),
        result("2"),
    ]


def test_what_was_said_before_a_call_is_not_lost() -> None:
    assert prepared(assistant(Reasoning("Hm."), "Let me look.", call("1")), result("1"))[0] == assistant(
        Reasoning("Hm.\n\nLet me look."), call("1")
    )


def test_an_engine_that_reads_no_name_for_reasoning_gets_it_as_text() -> None:
    ask = Ask((assistant(Reasoning("Hm."), call("1")), result("1")))
    assert prepare(ask, as_text=True).messages[0] == assistant("Hm.", call("1"))


def test_a_result_without_its_call_is_refused_by_name() -> None:
    with pytest.raises(InvalidAsk) as refused:
        prepared(user("a"), assistant(call("1")), result("1"), result("1"))
    assert refused.value.param == "messages[3]"


def test_a_call_without_a_result_stays() -> None:
    assert prepared(assistant(call("1")), user("never mind")) == [assistant(call("1")), user("never mind")]


def test_arguments_become_json_that_a_template_can_read() -> None:
    kept = [prepared(assistant(call("1", arguments)), result("1"))[0] for arguments in ('{"a": 1}', "ls", " ")]
    assert [message.parts for message in kept] == [(call("1", '{"a": 1}'),), (call("1", '"ls"'),), (call("1", "{}"),)]


def test_refusals_are_text_and_empty_messages_are_gone() -> None:
    assert prepared(user("a"), assistant(Refusal("No.")), assistant(""), user("b")) == [
        user("a"),
        assistant("No."),
        user("b"),
    ]


@pytest.mark.parametrize(
    ("effort", "read"),
    [(None, None), (Effort.NONE, Effort.LOW), (Effort.MINIMAL, Effort.LOW), (Effort.HIGH, Effort.HIGH)],
)
def test_effort_is_one_of_the_three_that_the_model_knows(effort: Effort | None, read: Effort | None) -> None:
    assert prepare(Ask((user("a"),), effort=effort)).effort is read


def test_no_negative_limit_reaches_the_engine() -> None:
    assert prepare(Ask((user("a"),), sampling=Sampling(max_tokens=-1))).sampling.max_tokens is None
    assert prepare(Ask((user("a"),), sampling=Sampling(max_tokens=9))).sampling.max_tokens == 9


def test_tools_that_must_not_be_called_are_not_shown() -> None:
    tools = (tool("a"), tool("b"), Tool("c"))
    shown = prepare(Ask((user("x"),), tools=tools)).tools
    assert shown[2] == Tool("c", "", {"type": "object", "properties": {}})
    named = prepare(Ask((user("x"),), tools=tools, tool_choice=ToolChoice(ToolMode.NAMED, "b")))
    assert [shown.name for shown in named.tools] == ["b"]
    none = prepare(Ask((user("x"),), tools=tools, tool_choice=ToolChoice(ToolMode.NONE)))
    assert (none.tools, none.tool_choice) == ((), None)


def test_the_shape_of_the_answer_is_told_to_the_model() -> None:
    form = OutputFormat(FormatKind.JSON_SCHEMA, {"type": "integer"}, name="age", description="In years.")
    text = prepare(Ask((system("Be brief."), user("a")), format=form)).messages[0].text
    assert text == 'Be brief.\n\n# Response Formats\n\n## age\n\n// In years.\n{"type": "integer"}'
    assert "JSON object" in prepare(Ask((user("a"),), format=OutputFormat(FormatKind.JSON_OBJECT))).messages[0].text


def test_preparing_twice_changes_nothing_more() -> None:
    ask = Ask((system("s"), user("a"), assistant(Reasoning("r"), call("1"), call("2")), result("1"), result("2")))
    assert prepare(prepare(ask)) == prepare(ask)
