"""The official `openai` package against a running server."""

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Hello!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(tap):
    with openai.OpenAI(base_url=f"{tap.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_whole_answer(client):
    completion = client.chat.completions.create(model="anything", messages=MESSAGES)
    assert completion.model == "gpt-oss:latest"
    assert len(completion.choices[0].message.content.split()) == 12
    assert completion.usage.completion_tokens == 12


def test_a_streamed_answer(client):
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="anything", messages=MESSAGES, stream=True, stream_options=options)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 12
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 12


def test_the_models(client):
    assert [model.id for model in client.models.list()] == ["gpt-oss:latest"]
    assert client.models.retrieve("gpt-oss:latest").object == "model"
    assert client.models.retrieve("any-name").id == "gpt-oss:latest"  # as a request for it would be served


def test_a_tool_call(client):
    completion = client.chat.completions.create(
        model="x", messages=MESSAGES, tools=[WEATHER], tool_choice="required", stream=False
    )
    (call,) = completion.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert "city" in call.function.arguments


def test_a_bad_request_names_its_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="x", messages=MESSAGES, temperature=9)
    assert caught.value.param == "temperature"
