from __future__ import annotations

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    ToolChoice,
    ToolMode,
)
from standpipe.dialects.harmony.request import raw_request
from tests.gptoss.corpus import tool

USER = Message(Role.USER, (Text("hi"),))
BASH = tool("bash", ["command"])


def test_a_plain_ask_needs_nothing_besides() -> None:
    ask = Ask((USER,), sampling=Sampling(temperature=0.5, max_tokens=9))
    assert raw_request(ask).ask == ask
    assert raw_request(ask).fields == {}


def test_tools_go_to_the_template_because_no_grammar_may_stand_beside_them() -> None:
    request = raw_request(Ask((USER,), tools=(BASH,), tool_choice=ToolChoice(ToolMode.REQUIRED)))
    assert (request.ask.tools, request.ask.tool_choice) == ((), None)
    function = {"name": "bash", "description": "The tool bash.", "parameters": BASH.parameters}
    assert request.fields["chat_template_kwargs"] == {"tools": [{"type": "function", "function": function}]}
    assert "to=functions.bash" in request.fields["grammar"]


def test_json_is_enforced_by_the_grammar_and_told_in_the_prompt() -> None:
    request = raw_request(Ask((USER,), format=OutputFormat(FormatKind.JSON_OBJECT)))
    assert request.ask.format == OutputFormat()
    assert "Response Formats" in request.ask.messages[0].text
    assert set(request.fields) == {"grammar"}


def test_stop_strings_are_not_the_engines_to_find() -> None:
    assert raw_request(Ask((USER,), sampling=Sampling(stop=("\n\n",), seed=3))).ask.sampling == Sampling(seed=3)
