from __future__ import annotations

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, FormatKind, OutputFormat, Tool, ToolChoice, ToolMode
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects.harmony.frame import grammar_for
from tests.dialects.gbnf_match import matches
from tests.gptoss.corpus import tool

TOOLS = (tool("get_weather", ["location"]), tool("bash", ["command"]))
THOUGHT = "<|channel|>analysis<|message|>1 < 2, {so} ok<<|end|><|start|>assistant"
PREAMBLE = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
WEATHER = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location":"Oslo"}'
BASH = '<|channel|>commentary to=functions.bash <|constrain|>json<|message|>{"command": "ls"}'
ANSWER = "<|channel|>final<|message|>Hi."
REQUIRED, NAMED = ToolChoice(ToolMode.REQUIRED), ToolChoice(ToolMode.NAMED, "bash")


def allowed(ask: Ask, *texts: str) -> list[bool]:
    grammar = grammar_for(ask)
    assert grammar is not None
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
    strict = Tool("x", None, {"type": "object", "properties": {"a": {"pattern": "y"}}, "required": ["a"]}, strict=True)
    with pytest.raises(Unsupported) as refused:
        grammar_for(Ask((), tools=(TOOLS[0], strict)))
    assert refused.value.param == "tools[1].parameters.properties.a.pattern"
