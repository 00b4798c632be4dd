"""An engine that plays the model of a coding agent: an OpenAI-compatible server that answers by a script of tool calls.

It calls what the request declares, by the names that the agent gave it, and writes text when the script is over. A
request without tools is a question of the agent's own (a title, a summary) and gets a sentence. Like a vLLM it refuses
what is longer than its context, so that an agent must compact. It counts what it sees.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MODEL = "player"
CHARACTERS = 4
"""Characters in a token, about."""

Json = dict[str, Any]


class Call(NamedTuple):
    """One call: patterns of names, the first that is declared is called, and its arguments."""

    names: Sequence[str]
    arguments: Callable[[str, Json], Json]
    """Given the tool's name and its parameters' schema."""


class Player:
    """Plays a list of calls, one a turn, and then says that it is done."""

    def __init__(self, calls: Sequence[Call], context: int) -> None:
        """`context`: in tokens, by a count of characters."""
        self._calls = calls
        self._context = context
        self._lock = threading.Lock()
        self.called: list[str] = []
        self.missing: Counter[str] = Counter()
        """Names of the script that no request declared."""
        self.longest = self.asides = 0
        """Tokens of the longest request; questions of the agent's own."""

    def turn(self, ask: Json) -> Json:
        """The assistant's message to a request. Raises OverflowError when it is too long."""
        tokens = len(json.dumps(ask)) // CHARACTERS
        with self._lock:
            if tokens > self._context:
                raise OverflowError(tokens)
            self.longest = max(self.longest, tokens)
            declared = {tool["function"]["name"]: tool["function"] for tool in ask.get("tools") or []}
            if not declared or _asks_for_a_summary(ask):
                self.asides += 1
                return {"content": "The work goes on: call the next tool. <summary>Read files, call tools.</summary>"}
            while len(self.called) < len(self._calls):
                call = self._calls[len(self.called)]
                name = next((name for wanted in call.names for name in declared if name == wanted), None)
                if name is None:
                    self.missing[call.names[0]] += 1
                    self.called.append("")
                    continue
                self.called.append(name)
                return called(name, call.arguments(name, declared[name].get("parameters") or {}), len(self.called))
            return {"content": "All calls are done."}


def called(name: str, arguments: Json, number: int) -> Json:
    """The message that makes one call."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}]}


def _asks_for_a_summary(ask: Json) -> bool:
    """Whether this is a request to compact, which agents send with their tools beside it."""
    last: Json = next((message for message in reversed(ask["messages"]) if message["role"] == "user"), {})
    text = json.dumps(last.get("content"))[-20_000:].lower()
    return ask["messages"][-1]["role"] == "user" and "summary" in text and "conversation" in text


def _frames(message: Json, tokens: int) -> Iterator[Json]:
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    yield {**frame, "choices": [{"index": 0, "delta": {"role": "assistant", **message}, "finish_reason": None}]}
    yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    usage = {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}
    yield {**frame, "choices": [], "usage": usage}


@contextmanager
def serving(player: Player, context: int) -> Iterator[str]:
    """The address at which this player is an engine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            listed = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": context}
            self._send(200, "application/json", json.dumps({"object": "list", "data": [listed]}).encode())

        def do_POST(self) -> None:
            ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                message = player.turn(ask)
            except OverflowError as error:
                words = (
                    f"This model's maximum context length is {context} tokens. However, you requested {error} tokens."
                )
                body = {"error": {"message": words, "type": "BadRequestError", "code": 400}}
                return self._send(400, "application/json", json.dumps(body).encode())
            frames = _frames(message, len(json.dumps(ask)) // CHARACTERS)
            stream = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in frames) + b"data: [DONE]\n\n"
            return self._send(200, "text/event-stream", stream)

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def filled(schema: Mapping[str, Any], **known: Any) -> Json:
    """Arguments for a schema: what is known by name, and something small for the rest that is required."""
    properties = schema.get("properties") or {}
    found = {name: value for name, value in known.items() if name in properties}
    small = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    for name in schema.get("required") or []:
        found.setdefault(name, small.get(properties.get(name, {}).get("type"), "x"))
    return found
