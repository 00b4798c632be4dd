"""The official `ollama` package against a running server, and against one that has another one for its engine."""

import json
import threading
import urllib.request
from typing import Any

import ollama
import pydantic
import pytest

from tests.e2e.conftest import QUICK, Server

MODEL = "gpt-oss:latest"
MESSAGES = [{"role": "user", "content": "Hello!"}]
ENGINE = f"scripted:?tokens=12&reasoning=4&tool=get_weather&model={MODEL}"


def get_weather(city: str) -> str:
    """The weather now.

    Args:
        city: where
    """
    return f"7 °C in {city}"


@pytest.fixture(scope="module")
def taps():
    """A server with a scripted engine, and one whose engine is the first, as a native Ollama."""
    near = Server("--engine", ENGINE, "--pace-interval", "0")
    servers = [near]
    try:
        place = near.url.replace("http://", "ollama://")
        servers.append(Server("--engine", f"{place}#slots=4", "--pace-interval", "0"))
        yield servers
        assert [server.stop() for server in reversed(servers)] == [0, 0]
    finally:
        for server in servers:
            server.close()


@pytest.fixture(params=[0, 1], ids=["near", "behind another"])
def client(taps, request):
    with ollama.Client(taps[request.param].url) as client:
        yield client


def test_a_whole_answer(client):
    response = client.chat(MODEL, MESSAGES)
    assert (response.model, response.done, response.done_reason) == (MODEL, True, "stop")
    assert len(response.message.content.split()) == 12
    assert len(response.message.thinking.split()) == 4
    assert response.eval_count == 16
    assert response.total_duration >= response.eval_duration


def test_a_streamed_answer_says_what_a_whole_one_says(client):
    whole = client.chat(MODEL, MESSAGES)
    parts = list(client.chat(MODEL, MESSAGES, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count


def test_thinking_may_be_switched_off_and_have_a_level(client):
    assert client.chat(MODEL, MESSAGES, think=False).message.thinking is None
    assert client.chat(MODEL, MESSAGES, think="high").message.thinking


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop(client, streamed):
    def turn(messages: list[Any]) -> Any:
        if not streamed:
            return client.chat(MODEL, messages, tools=[get_weather]).message
        parts = [part.message for part in client.chat(MODEL, messages, tools=[get_weather], stream=True)]
        calls = [call for part in parts for call in part.tool_calls or ()]
        return ollama.Message(
            role="assistant", content="".join(part.content or "" for part in parts), tool_calls=calls or None
        )

    called = turn([*MESSAGES])
    (call,) = called.tool_calls
    assert (call.function.name, set(call.function.arguments)) == ("get_weather", {"city"})
    said = get_weather(**call.function.arguments)
    result = {"role": "tool", "content": said, "tool_name": "get_weather"}
    answered = turn([*MESSAGES, called, result])
    assert len(answered.content.split()) == 12
    assert not answered.tool_calls


def test_one_question(client):
    response = client.generate(MODEL, "Hello!", system="Be brief.")
    assert len(response.response.split()) == 12
    assert response.thinking
    parts = list(client.generate(MODEL, "Hello!", system="Be brief.", stream=True))
    assert "".join(part.response for part in parts) == response.response


def test_formats(client):
    class Weather(pydantic.BaseModel):
        city: str
        degrees: int

    by_schema = client.chat(MODEL, MESSAGES, format=Weather.model_json_schema())
    assert isinstance(Weather.model_validate_json(by_schema.message.content), Weather)
    assert isinstance(json.loads(client.generate(MODEL, "Hello!", format="json").response), dict)


def test_options(client):
    whole = client.chat(MODEL, MESSAGES, options={"num_predict": 6, "temperature": 0, "num_ctx": 4096})
    assert (whole.done_reason, whole.eval_count) == ("length", 6)
    word = client.chat(MODEL, MESSAGES).message.content.split()[3]
    assert word not in client.chat(MODEL, MESSAGES, options={"stop": [word]}).message.content


def test_logprobs(client):
    response = client.chat(MODEL, MESSAGES, logprobs=True, top_logprobs=2)
    assert len(response.logprobs) == 12
    assert [len(token.top_logprobs) for token in response.logprobs] == [2] * 12


def test_the_models(client):
    assert [model.model for model in client.list().models] == [MODEL]
    assert [model.model for model in client.ps().models] == [MODEL]
    assert "tools" in client.show("gpt-oss").capabilities
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("another")
    assert caught.value.status_code == 404


def test_a_model_is_loaded_by_asking_nothing(client):
    assert client.generate(MODEL).done_reason == "load"
    assert client.chat(MODEL, []).done_reason == "load"


def test_models_are_not_managed_from_outside(client):
    for forbidden in (
        lambda: client.pull(MODEL),
        lambda: client.push(MODEL),
        lambda: client.create("mine", from_=MODEL),
        lambda: client.copy(MODEL, "mine"),
        lambda: client.delete(MODEL),
    ):
        with pytest.raises(ollama.ResponseError, match="operator") as caught:
            forbidden()
        assert caught.value.status_code == 403


def test_a_bad_request_names_its_field(client):
    with pytest.raises(ollama.ResponseError, match=r"options\.stop") as caught:
        client.chat(MODEL, MESSAGES, options={"stop": [""]})
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="images"):
        client.chat(MODEL, [{**MESSAGES[0], "images": ["aGk="]}])


def test_a_cut_in_mid_stream_is_an_error_and_no_end(serve):
    server = serve("--engine", "scripted:?tokens=30&rate=100&fault=cut:5")
    parts: list[Any] = []
    with ollama.Client(server.url) as client, pytest.raises(ollama.ResponseError, match="in the middle of an answer"):
        for part in client.chat(MODEL, MESSAGES, stream=True):
            parts.append(part)  # noqa: PERF402 -- what came before the error counts
    assert len(parts) == 5


def test_waiting_in_line_disturbs_no_client(serve):
    engine = "scripted:?tokens=12&rate=20&slots=1"
    server = serve("--engine", engine, "--pace-interval", "0", first=QUICK)
    texts: list[str] = []
    begun = threading.Event()

    def ask() -> None:
        text = ""
        with ollama.Client(server.url) as client:
            for part in client.chat(MODEL, MESSAGES, stream=True):
                text += part.message.content or ""
                if text:
                    begun.set()
        texts.append(text)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    try:
        body = json.dumps({"model": MODEL, "messages": MESSAGES}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/chat", body), timeout=30) as response:
            lines = [json.loads(line) for line in response]
    finally:
        for thread in threads:
            thread.join()
    assert len(texts[0].split()) == 12
    assert texts[0] == texts[1]
    assert lines[0]["queue"]["position"] >= 1
    assert lines[-1]["done"]
