"""The official `anthropic` package against a running server with a scripted engine that reasons and calls tools."""

import threading
from typing import Any

import anthropic
import pydantic
import pytest

from tests.e2e.conftest import QUICK, Server

ASK: dict[str, Any] = {"model": "anything", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello!"}]}
ENABLED: Any = {"type": "enabled", "budget_tokens": 2048}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather now.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def tap():
    with Server(
        "--engine", "scripted:?tokens=12&reasoning=4&tool=get_weather&model=gpt-oss:latest", "--pace-interval", "0"
    ) as server:
        yield server


def client_of(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0)


@pytest.fixture
def client(tap):
    with client_of(tap) as client:
        yield client


def test_a_whole_answer(client):
    message = client.messages.create(**ASK)
    assert message.model == "gpt-oss:latest"
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    (block,) = message.content
    assert len(block.text.split()) == 12
    assert message.usage.output_tokens == 16
    assert message.usage.output_tokens_details.thinking_tokens == 4
    assert message._request_id


def test_a_whole_answer_with_thinking(client):
    thinking, text = client.messages.create(**ASK, thinking=ENABLED).content
    assert (thinking.type, text.type) == ("thinking", "text")
    assert len(thinking.thinking.split()) == 4


def test_a_streamed_answer_says_what_a_whole_one_says(client):
    whole = client.messages.create(**ASK, thinking=ENABLED)
    with client.messages.stream(**ASK, thinking=ENABLED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[1].text
    assert final.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})


def test_the_events_of_a_stream(client):
    kinds = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop(client, streamed):
    def turn(messages):
        fields: dict[str, Any] = {**ASK, "messages": messages, "tools": [WEATHER], "thinking": ENABLED}
        if not streamed:
            return client.messages.create(**fields)
        with client.messages.stream(**fields) as stream:
            return stream.get_final_message()

    called = turn(ASK["messages"])
    assert called.stop_reason == "tool_use"
    thinking, call = called.content
    assert (thinking.type, call.name, set(call.input)) == ("thinking", "get_weather", {"city"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "7 °C"}
    messages = [
        *ASK["messages"],
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    answered = turn(messages)
    assert answered.stop_reason == "end_turn"
    assert answered.content[-1].type == "text"


def test_a_tool_may_be_forbidden_and_required(client):
    forbidden = client.messages.create(**ASK, tools=[WEATHER], tool_choice={"type": "none"})
    assert forbidden.stop_reason == "end_turn"
    other = {**WEATHER, "name": "get_time"}
    required = client.messages.create(**ASK, tools=[other], tool_choice={"type": "any"})
    assert [block.name for block in required.content] == ["get_time"]


def test_a_stop_sequence_is_told(client):
    said = client.messages.create(**ASK).content[0].text
    word = said.split()[5]
    message = client.messages.create(**ASK, stop_sequences=[word])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", word)
    assert said.startswith(message.content[0].text)


def test_a_limit_is_told(client):
    message = client.messages.create(**{**ASK, "max_tokens": 7})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 7)


def test_an_answer_by_a_schema(client):
    class Weather(pydantic.BaseModel):
        city: str
        degrees: int

    message = client.messages.parse(**ASK, output_format=Weather)
    assert isinstance(message.parsed_output, Weather)


def test_tokens_are_counted(client):
    few = client.messages.count_tokens(model="x", messages=ASK["messages"])
    many = client.messages.count_tokens(model="x", messages=ASK["messages"], system="Be brief. " * 50, tools=[WEATHER])
    assert 1 <= few.input_tokens < 30
    assert 100 < many.input_tokens < 300


def test_the_beta_path_is_the_same_path(client):
    message = client.beta.messages.create(**ASK, betas=["interleaved-thinking-2025-05-14"])
    assert message.stop_reason == "end_turn"


def test_a_bad_request_names_its_field(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**ASK, extra_body={"temperature": 2})
    error = caught.value
    assert (error.type, error.error_code) == ("invalid_request_error", "invalid_value")
    assert "temperature" in (error.api_message or "")
    assert error.request_id
    image: Any = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        client.messages.create(**{**ASK, "messages": [{"role": "user", "content": [image]}]})


def test_a_cut_in_mid_stream_is_an_error_and_no_end(serve):
    server = serve("--engine", "scripted:?tokens=30&rate=100&fault=cut:5")
    text: list[str] = []
    with (
        client_of(server) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(**ASK) as stream,
    ):
        text.extend(stream.text_stream)
    assert len(text) == 5
    assert caught.value.type == "api_error"


def test_an_engine_that_fails_at_once_has_its_true_status(serve):
    server = serve("--engine", "scripted:?fault=status:500", first=QUICK)
    with client_of(server) as client, pytest.raises(anthropic.InternalServerError) as caught:
        list(client.messages.create(**ASK, stream=True))
    assert (caught.value.status_code, caught.value.type) == (502, "api_error")


def test_waiting_in_line_disturbs_no_client(serve):
    engine = "scripted:?tokens=12&rate=20&slots=1"
    server = serve("--engine", engine, "--pace-interval", "0", first=QUICK)
    texts: list[str] = []
    begun = threading.Event()

    def ask() -> None:
        with client_of(server) as client, client.messages.stream(**ASK) as stream:
            for _ in stream.text_stream:
                begun.set()
            texts.append(stream.get_final_text())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    try:
        with client_of(server) as client, client.messages.create(**ASK, stream=True) as stream:
            events = list(stream.raw_events(stream.response))
    finally:
        for thread in threads:
            thread.join()
    assert len(texts[0].split()) == 12
    assert texts[0] == texts[1]
    assert [event.event for event in (*events[:2], events[-1])] == ["message_start", "ping", "message_stop"]
    assert events[1].json()["queue"]["position"] >= 1
