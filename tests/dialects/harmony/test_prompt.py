from __future__ import annotations

import pytest
from msgspec.structs import replace

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
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects.harmony import prompt as harmony_prompt
from standpipe.dialects.harmony.prompt import grammar_for, raw_request
from tests.dialects.gbnf_match import matches
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


USER = Message(Role.USER, (Text("hi"),))
BASH_TOOL = tool("bash", ["command"])


def test_a_plain_ask_needs_nothing_besides() -> None:
    ask = Ask((USER,), sampling=Sampling(temperature=0.5, max_tokens=9))
    assert raw_request(ask).ask == ask
    assert raw_request(ask).fields == {}


def test_tools_go_to_the_template_because_no_grammar_may_stand_beside_them() -> None:
    request = raw_request(Ask((USER,), tools=(BASH_TOOL,), tool_choice=ToolChoice(ToolMode.REQUIRED)))
    assert (request.ask.tools, request.ask.tool_choice) == ((), None)
    function = {"name": "bash", "description": "The tool bash.", "parameters": BASH_TOOL.parameters}
    assert request.fields["chat_template_kwargs"] == {"tools": [{"type": "function", "function": function}]}
    assert "to=functions.bash" in request.fields["grammar"]


def test_json_is_enforced_by_the_grammar_and_told_in_the_prompt() -> None:
    request = raw_request(Ask((USER,), format=OutputFormat(FormatKind.JSON_OBJECT)))
    assert request.ask.format == OutputFormat()
    assert "Response Formats" in request.ask.messages[0].text
    assert set(request.fields) == {"grammar"}


def test_stop_strings_are_not_the_engines_to_find() -> None:
    assert raw_request(Ask((USER,), sampling=Sampling(stop=("\n\n",), seed=3))).ask.sampling == Sampling(seed=3)


TOOLS = (tool("get_weather", ["location"]), tool("bash", ["command"]))
THOUGHT = "<|channel|>analysis<|message|>1 < 2, {so} ok<<|end|><|start|>assistant"
PREAMBLE = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
WEATHER = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location":"Oslo"}'
BASH = '<|channel|>commentary to=functions.bash <|constrain|>json<|message|>{"command": "ls"}'
ANSWER = "<|channel|>final<|message|>Hi."
REQUIRED, NAMED = ToolChoice(ToolMode.REQUIRED), ToolChoice(ToolMode.NAMED, "bash")


def allowed(ask: Ask, *texts: str) -> list[bool]:
    found = grammar_for(ask)
    assert found is not None
    grammar, _ = found
    return [matches(grammar, text) for text in texts]


def test_where_nothing_is_to_be_enforced_there_is_no_grammar() -> None:
    assert grammar_for(Ask(())) is None
    assert grammar_for(Ask((), tools=TOOLS)) is None
    assert grammar_for(Ask((), tools=TOOLS, tool_choice=ToolChoice(ToolMode.NONE))) is None


def test_a_required_call_may_be_thought_about_and_must_be_made() -> None:
    ask = Ask((), tools=TOOLS, tool_choice=REQUIRED)
    assert allowed(ask, WEATHER, BASH, THOUGHT + WEATHER) == [True] * 3
    assert allowed(ask, ANSWER, THOUGHT, THOUGHT + ANSWER, WEATHER.replace("location", "command"), "") == [False] * 5


def test_a_named_call_is_of_that_tool() -> None:
    ask = Ask((), tools=TOOLS, tool_choice=NAMED)
    assert allowed(ask, BASH, THOUGHT + BASH, WEATHER, ANSWER) == [True, True, False, False]


def test_a_strict_tool_is_held_to_its_schema_and_need_not_be_called() -> None:
    ask = Ask((), tools=(replace(TOOLS[0], strict=True),))
    assert allowed(ask, ANSWER, THOUGHT + PREAMBLE + WEATHER, PREAMBLE + ANSWER) == [True] * 3
    assert allowed(ask, WEATHER.replace("Oslo", "<|end|>"), BASH, "Hi.") == [False] * 3


def test_a_json_answer_may_be_thought_about() -> None:
    ask = Ask((), format=OutputFormat(FormatKind.JSON_SCHEMA, {"type": "integer"}, strict=True))
    good, bad = "<|channel|>final<|message|>42", "<|channel|>final<|message|>42 of course"
    assert allowed(ask, good, THOUGHT + good, bad, ANSWER, "42") == [True, True, False, False, False]
    anything = Ask((), format=OutputFormat(FormatKind.JSON_OBJECT))
    assert allowed(anything, '<|channel|>final<|message|>{"a":[1]}', good) == [True, False]


def test_tools_and_a_json_answer_go_together() -> None:
    ask = Ask((), tools=TOOLS, format=OutputFormat(FormatKind.JSON_OBJECT))
    assert allowed(ask, WEATHER, "<|channel|>final<|message|>{}", ANSWER) == [True, True, False]


def test_a_tool_without_parameters_takes_an_object() -> None:
    ask = Ask((), tools=(Tool("now"),), tool_choice=REQUIRED)
    assert allowed(ask, WEATHER.replace("get_weather", "now"), BASH) == [True, False]


def test_free_text_cannot_hold_a_control_token() -> None:
    ask = Ask((), tools=(replace(TOOLS[0], strict=True),))
    assert allowed(ask, ANSWER + " <| ", ANSWER + "<|start|>", ANSWER + " a < b <", ANSWER + "<b>") == [
        False,
        False,
        True,
        True,
    ]


def test_faults_name_the_field() -> None:
    with pytest.raises(InvalidAsk) as missing:
        grammar_for(Ask((), tools=TOOLS, tool_choice=ToolChoice(ToolMode.NAMED, "other")))
    assert missing.value.param == "tool_choice"
    schema = {"type": "object", "properties": {"a": {"pattern": r"\b"}}, "required": ["a"]}
    strict = Tool("x", None, schema, strict=True, field="tools[1].parameters")
    with pytest.raises(Unsupported) as refused:
        grammar_for(Ask((), tools=(TOOLS[0], strict)))
    assert refused.value.param == "tools[1].parameters.properties.a.pattern"
