"""The tiny gpt-oss served by the real embedded engine, and asked over HTTP the way an engine adapter asks it.

with serving(tiny.write(path)) as server:
    events = server.events(ask)
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from standpipe.chat.ask import Ask, Message, Tool, ToolCall, ToolResult
from standpipe.chat.events import Event, Finished, FinishReason, Started, TextDelta
from standpipe.dialects.harmony_frame import grammar_for
from standpipe.dialects.harmony_prompt import prepare
from standpipe.dialects.harmony_reader import HarmonyReader

CHILD = Path(__file__).with_name("child.py")
PATIENCE = 30.0
"""Seconds for any one answer: some thousand times what it takes."""


def wire(message: Message) -> dict[str, Any]:
    """A prepared message as the engine reads it."""
    out: dict[str, Any] = {"role": str(message.role), "content": message.text}
    for part in message.parts:
        match part:
            case ToolCall(call_id, name, arguments):
                function = {"name": name, "arguments": arguments}
                out.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
            case ToolResult(call_id, text):
                out |= {"tool_call_id": call_id, "content": text}
    return out


def wire_tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def body_of(ask: Ask) -> dict[str, Any]:
    """The body of an ask for an engine that hands Harmony over. It takes no grammar beside `tools`, so the tools go
    straight to the template."""
    ready = prepare(ask, reasoning_as_text=True)
    body: dict[str, Any] = {"messages": [wire(message) for message in ready.messages]}
    if ready.tools:
        body["chat_template_kwargs"] = {"tools": [wire_tool(tool) for tool in ready.tools]}
    if ready.effort:
        body["reasoning_effort"] = str(ready.effort)
    if grammar := grammar_for(ask):
        body["grammar"] = grammar
    if ready.sampling.max_tokens is not None:
        body["max_tokens"] = ready.sampling.max_tokens
    return body | {"temperature": 0}


class Server:
    """A running engine."""

    def __init__(self, address: str) -> None:
        self._netloc = urlsplit(address).netloc

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Status and body. One connection per ask: the engine closes it after a stream without saying so."""
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def json(self, path: str, body: dict[str, Any]) -> Any:
        status, text = self.post(path, body)
        assert status == 200, text
        return json.loads(text)

    def prompt(self, ask: Ask) -> str:
        """The prompt that the engine makes of an ask."""
        return str(self.json("/apply-template", body_of(ask))["prompt"])

    def prompt_tokens(self, text: str) -> int:
        """How many tokens the prompt has when a user says this."""
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
        return int(self.json("/v1/chat/completions", body)["usage"]["prompt_tokens"])

    def frames(self, body: dict[str, Any]) -> list[Any]:
        """The frames of a streamed answer, decoded."""
        status, text = self.post("/v1/chat/completions", body | {"stream": True})
        assert status == 200, text
        return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]

    def raw(self, ask: Ask) -> list[Event]:
        """The engine's own events: Harmony as text."""
        events: list[Event] = [Started()]
        for frame in self.frames(body_of(ask)):
            choice = frame["choices"][0]
            if content := choice["delta"].get("content"):
                events.append(TextDelta(content))
            if choice["finish_reason"]:
                events.append(Finished(FinishReason(choice["finish_reason"])))
        return events

    def events(self, ask: Ask) -> tuple[list[Event], HarmonyReader]:
        """The events of an answer, read."""
        reader = HarmonyReader(ask, "t")
        return [event for one in self.raw(ask) for event in reader.take([one])], reader


@contextmanager
def serving(model: Path, *, own_parser: bool = False) -> Iterator[Server]:
    """Serve a model until the block ends."""
    command = [sys.executable, str(CHILD), str(model), "own" if own_parser else "raw"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"The engine did not start:\n{child.communicate()[1][-2000:]}")
        yield Server(address)
    finally:
        child.kill()
        child.communicate()
