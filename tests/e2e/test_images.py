"""Images from the official packages, through a running server, to a pretended engine that sees: what it was shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.e2e.conftest import Server
from tests.pictures import PNG, gif, text

GIF = text(gif(5, 7))
URL = f"data:image/png;base64,{PNG}"
FUNCTION: Any = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}


class Eyes(BaseHTTPRequestHandler):
    """A llama-server with a projector: its answer is what it was shown, message by message."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        pages = {
            "/v1/models": {"data": [{"id": "eyes", "owned_by": "llamacpp"}]},
            "/props": {"modalities": {"vision": True}},
        }
        self._send(200 if self.path in pages else 404, json.dumps(pages.get(self.path, {})).encode())

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"]
        seen = json.dumps([[message["role"], message["content"]] for message in messages])
        frames = [
            {"choices": [{"index": 0, "delta": {"content": seen}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 1}},
        ]
        body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
        self._send(200, body.encode(), "text/event-stream")

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def tap() -> Iterator[Server]:
    engine = ThreadingHTTPServer(("127.0.0.1", 0), Eyes)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
        with Server("--engine", url, "--pace-interval", "0", "--log-level", "debug") as server:
            yield server
        assert PNG not in server.log
    finally:
        engine.shutdown()
        engine.server_close()


def image(data: str = URL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data}}


LOOKED = [["user", [{"type": "text", "text": "What?"}, image()]]]
OF_TOOL = [["tool", "See."], ["user", [image()]]]


def test_openai_chat_completions(tap):
    with openai.OpenAI(base_url=f"{tap.url}/v1", api_key="-") as client:
        (model,) = client.models.list().data
        assert getattr(model, "input_modalities") == ["text", "image"]  # noqa: B009 - the type has none
        content: Any = [{"type": "text", "text": "What?"}, image()]
        call: Any = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        shown: Any = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "See."}, image()]}
        said = client.chat.completions.create(model="eyes", messages=[{"role": "user", "content": content}])
        assert json.loads(said.choices[0].message.content or "") == LOOKED
        asked: Any = [{"role": "user", "content": "Look."}, {"role": "assistant", "tool_calls": [call]}, shown]
        said = client.chat.completions.create(model="eyes", messages=asked)
        assert json.loads(said.choices[0].message.content or "")[2:] == OF_TOOL
        content[1] = image("https://example.com/a.png")
        with pytest.raises(openai.BadRequestError, match="none is fetched") as caught:
            client.chat.completions.create(model="eyes", messages=[{"role": "user", "content": content}])
        assert caught.value.param == "messages[0].content[1]"


def test_openai_responses(tap):
    with openai.OpenAI(base_url=f"{tap.url}/v1", api_key="-") as client:
        seen: Any = {"type": "input_image", "image_url": URL, "detail": "auto"}
        said = client.responses.create(
            model="eyes", input=[{"role": "user", "content": [{"type": "input_text", "text": "What?"}, seen]}]
        )
        assert json.loads(said.output_text) == LOOKED
        call: Any = {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}
        output: Any = [{"type": "input_text", "text": "See."}, seen]
        result: Any = {"type": "function_call_output", "call_id": "1", "output": output}
        said = client.responses.create(model="eyes", input=[{"role": "user", "content": "Look."}, call, result])
        assert json.loads(said.output_text)[2:] == OF_TOOL


def test_anthropic(tap):
    with anthropic.Anthropic(base_url=tap.url, api_key="-") as client:
        seen: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        content: Any = [{"type": "text", "text": "What?"}, seen]
        said: Any = client.messages.create(
            model="eyes", max_tokens=9, messages=[{"role": "user", "content": content}]
        ).content[0]
        assert json.loads(said.text) == LOOKED
        result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "See."}, seen]}
        used = {"type": "tool_use", "id": "1", "name": "look", "input": {}}
        asked: Any = [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ]
        said = client.messages.create(model="eyes", max_tokens=9, messages=asked).content[0]
        assert json.loads(said.text)[2:] == OF_TOOL
        seen["source"] = {"type": "url", "url": "https://example.com/a.png"}
        with pytest.raises(anthropic.BadRequestError, match="none is fetched"):
            client.messages.create(model="eyes", max_tokens=9, messages=[{"role": "user", "content": content}])
        counted = [
            client.messages.count_tokens(model="eyes", messages=[{"role": "user", "content": [block]}]).input_tokens
            for block in (
                seen | {"source": {"type": "base64", "media_type": "image/gif", "data": large}} for large in LARGE
            )
        ]
        assert counted[1] - counted[0] > 500


LARGE = [text(gif(10, 10)), text(gif(900, 900))]


def test_ollama(tap):
    with ollama.Client(tap.url) as client:
        assert "vision" in (client.show("eyes").capabilities or ())
        said = client.chat("eyes", [{"role": "user", "content": "What?", "images": [PNG]}])
        assert json.loads(said.message.content or "") == LOOKED
        asked = client.generate("eyes", "What?", images=[GIF])
        assert json.loads(asked.response) == [
            ["user", [{"type": "text", "text": "What?"}, image(f"data:image/gif;base64,{GIF}")]]
        ]
