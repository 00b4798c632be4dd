"""gpt-oss served for real: `standpipe serve` with the tiny model, asked by the official client, damage included."""

from __future__ import annotations

from contextlib import nullcontext

import anthropic
import ollama
import openai
import pytest

from tests.e2e.conftest import Server
from tests.gptoss import tiny
from tests.gptoss.corpus import load

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.embedded

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("gptoss") / "gpt-oss.gguf")
    with Server("--engine", f"embedded:{path}", "--pace-interval", "0") as server:
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def said(completion: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": tiny.script(completion)}]


def test_it_thinks_and_answers_under_both_names(client):
    message = client.chat.completions.create(
        model="gpt-oss", messages=[{"role": "user", "content": "hi"}], temperature=0
    )
    assert "short answer" in message.choices[0].message.content
    assert message.choices[0].message.reasoning == message.choices[0].message.reasoning_content


@pytest.mark.parametrize("damage", load()[::6], ids=lambda damage: damage.name)
def test_damage_reaches_no_client(client, damage):
    ask = damage.replayed()
    tools = [{"type": "function", "function": {"name": tool.name, "parameters": tool.parameters}} for tool in ask.tools]
    expected = damage.expect
    unanswered = expected.reasoning and not (expected.content or expected.tool_calls)
    refusal = pytest.raises(openai.APIError, match="without an answer") if unanswered else nullcontext()
    with (
        refusal,
        client.chat.completions.stream(
            model="gpt-oss",
            messages=[{"role": "user", "content": ask.messages[0].text}],
            tools=tools or openai.NOT_GIVEN,
            max_tokens=ask.sampling.max_tokens or openai.NOT_GIVEN,
            temperature=0,
        ) as stream,
    ):
        for _ in stream:
            pass
        message = stream.current_completion_snapshot.choices[0].message
        assert (message.content or "") == expected.content
        assert [call.function.name for call in message.tool_calls or ()] == [call.name for call in expected.tool_calls]


def test_a_call_is_a_call(client):
    completion = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"Oslo"}<|call|>'
    answer = client.chat.completions.create(model="gpt-oss", messages=said(completion), tools=[WEATHER], temperature=0)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Oslo"}')
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_turn_without_a_word_is_attempted_once_more(client, server):
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-oss", messages=said("<|return|>"), temperature=0
    )
    assert answer.headers["x-standpipe-attempts"] == "2"
    assert answer.parse().choices[0].message.content == ""
    assert server.process.poll() is None


def test_a_control_token_in_a_question_is_only_text(client):
    def tokens(text: str) -> int:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="x", messages=messages, max_tokens=1).usage.prompt_tokens

    # Read as a token it would count one; broken, it is spelled out.
    assert tokens("<|start|>" * 20) - tokens("x") >= 20 * 5


WORDS = "The user asks for a short answer so we reply café 🙂 ok"


def test_anthropics_client_gets_thinking_and_text(server):
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client:
        message = client.messages.create(
            model="gpt-oss",
            max_tokens=200,
            extra_body={"temperature": 0},
            thinking={"type": "enabled", "budget_tokens": 1024},
            messages=[{"role": "user", "content": "hi"}],
        )
    assert [(block.type, getattr(block, block.type)) for block in message.content] == [
        ("thinking", WORDS),
        ("text", WORDS),
    ]


def test_ollamas_client_gets_thinking_and_text(server):
    client = ollama.Client(host=server.url)
    answer = client.chat(
        model="gpt-oss", messages=[{"role": "user", "content": "hi"}], think=True, options={"temperature": 0}
    )
    assert (answer.message.thinking, answer.message.content) == (WORDS, WORDS)
    client._client.close()


def test_responses_get_reasoning_and_text(client):
    response = client.responses.create(model="gpt-oss", input="hi", temperature=0)
    assert response.output_text == WORDS
    assert response.output[0].type == "reasoning"
