"""The official `openai` package against a running server: Responses, legacy Completions and embeddings."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.conftest import QUICK, Server

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
ENGINE = "scripted:?tokens=12&reasoning=4&model=gpt-oss:latest&tool=get_weather"


@pytest.fixture(scope="module")
def house():
    with Server("--engine", ENGINE, "--pace-interval", "0", "--keep-responses", "60") as server:
        yield server


@pytest.fixture
def client(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def reasoning(response):
    return "".join(part.text for item in response.output if item.type == "reasoning" for part in item.content)


def test_a_whole_answer(client):
    response = client.responses.create(model="anything", input="Hello!", instructions="Be brief.")
    assert (response.model, response.status) == ("gpt-oss:latest", "completed")
    assert len(response.output_text.split()) == 12
    assert len(reasoning(response).split()) == 4
    assert response.usage.output_tokens == 16
    assert response.usage.output_tokens_details.reasoning_tokens == 4
    assert response.instructions == "Be brief."


def test_raw_events(client):
    events = list(client.responses.create(model="x", input="Hello!", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type, events[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert text == events[-1].response.output_text
    assert thought == reasoning(events[-1].response)


def test_the_helper_for_streams(client):
    with client.responses.stream(model="x", input="Hello!") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text
    assert final.output_text == client.responses.create(model="x", input="Hello!").output_text


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_fits_a_model(client, stream):
    if stream:
        with client.responses.stream(model="x", input="Weather?", text_format=Weather) as events:
            response = events.get_final_response()
    else:
        response = client.responses.parse(model="x", input="Weather?", text_format=Weather)
    assert isinstance(response.output_parsed, Weather)


def test_a_tool_loop_with_items_sent_back(client):
    items = [{"role": "user", "content": "What is the weather in Zürich?"}]
    first = client.responses.create(model="x", input=items, tools=[WEATHER], store=False)
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    call = first.output[1]
    assert "city" in json.loads(call.arguments)
    items += first.output
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "7 °C"})
    second = client.responses.create(model="x", input=items, tools=[WEATHER], store=False)
    assert [item.type for item in second.output] == ["reasoning", "message"]


def test_a_tool_loop_that_goes_on_from_what_is_kept(client):
    with client.responses.stream(model="x", input="What is the weather?", tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
        first = stream.get_final_response()
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert done[0].arguments == call.arguments
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "7 °C"}
    second = client.responses.create(model="x", input=[output], tools=[WEATHER], previous_response_id=first.id)
    assert second.output_text
    assert second.previous_response_id == first.id


def test_a_kept_response_can_be_had_again_and_deleted(client):
    made = client.responses.create(model="x", input="Hello!")
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="x", input="More", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"


def test_an_answer_that_is_cut_says_so(client):
    response = client.responses.create(model="x", input="Hello!", max_output_tokens=7)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[-1].status == "incomplete"


def test_a_bad_request_names_its_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="x", input="Hello!", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools[0].type"


def test_the_asynchronous_client(house):
    async def scene():
        async with (
            openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="any", max_retries=0) as client,
            client.responses.stream(model="x", input="Hello!") as stream,
        ):
            return await stream.get_final_response()

    assert asyncio.run(scene()).status == "completed"


def test_a_stream_that_fails_ends_in_an_error(serve):
    server = serve("--engine", "scripted:?tokens=12&fault=cut:6", "--pace-interval", "0")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        kinds = []
        with client.responses.create(model="x", input="Hello!", stream=True) as stream, pytest.raises(openai.APIError):
            # After the event that says so, the connection breaks.
            for event in stream:
                kinds.append(event.type)
                last = event
    assert kinds[-1] == "response.failed"
    assert last.response.error.code == "server_error"


def test_heartbeats_and_the_place_in_line_are_taken_by_the_helper(serve):
    slow = "scripted:?tokens=4&reasoning=2&slots=1&first=0.3&rate=30"
    server = serve("--engine", slow, "--pace-interval", "0", first=QUICK)

    async def ask(client):
        async with client.responses.stream(model="x", input="Hello!") as stream:
            kinds = [event.type async for event in stream]
            return kinds, await stream.get_final_response()

    async def scene():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(ask(client), ask(client))

    answers = asyncio.run(scene())
    assert any("response.queued" in kinds for kinds, _ in answers)
    assert any(kinds.count("response.in_progress") > 1 for kinds, _ in answers)
    assert {final.status for _, final in answers} == {"completed"}


def test_a_legacy_completion(client):
    completion = client.completions.create(model="x", prompt="Once upon", max_tokens=16, logprobs=2)
    (choice,) = completion.choices
    assert (len(choice.text.split()), choice.finish_reason) == (12, "stop")
    assert "".join(choice.logprobs.tokens) == choice.text
    chunks = client.completions.create(
        model="x", prompt="Once upon", stream=True, stream_options={"include_usage": True}
    )
    *said, counted = list(chunks)
    assert "".join(chunk.choices[0].text for chunk in said) == choice.text
    assert counted.usage.completion_tokens == 16


def test_without_an_engine_for_it_there_are_no_embeddings(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="x", input="Hello!")
    assert caught.value.code == "unsupported"


class Embedder(BaseHTTPRequestHandler):
    """As much of an engine as embeddings need: a text's vector is its length and a half."""

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "embedder"}]})

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        vectors = [{"index": i, "embedding": [float(len(text)), 0.5]} for i, text in enumerate(sent["input"])]
        self.answer({"object": "list", "data": vectors, "model": sent["model"], "usage": {"prompt_tokens": 5}})

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def embedder():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Embedder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("encoding", ["float", "base64", openai.omit])
def test_embeddings(serve, embedder, encoding):
    server = serve("--engine", embedder, "--pace-interval", "0")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        made = client.embeddings.create(model="embedder", input=["a", "bcd"], encoding_format=encoding)
    if encoding == "base64":
        assert all(isinstance(one.embedding, str) for one in made.data)
    else:
        assert [one.embedding for one in made.data] == [[1.0, 0.5], [3.0, 0.5]]
    assert (made.model, made.usage.prompt_tokens) == ("embedder", 5)
