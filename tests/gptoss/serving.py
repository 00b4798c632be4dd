"""The tiny gpt-oss served by the real embedded engine, and asked over HTTP the way an engine adapter asks it.

with serving(tiny.write(path)) as server:
    events = server.events(ask)
"""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.events import Event
from standpipe.dialects.harmony.prompt import prepare, raw_request
from standpipe.dialects.harmony.raw import HarmonyReader
from standpipe.dialects.openai.from_engine import Decoder
from standpipe.dialects.openai.to_engine import LLAMA, request_body
from standpipe.engines.guard.control_tokens import harmless_body
from standpipe.http_client.client import Client

CHILD = Path(__file__).with_name("child.py")
PATIENCE = 30.0
"""Seconds for any one answer: some thousand times what it takes."""
READ = 700
"""Bytes of a read: two or three frames, and often a part of one."""


def raw_body(ask: Ask) -> bytes:
    """The body of an ask for an engine that hands Harmony over."""
    raw = raw_request(ask)
    return _body(raw.ask, raw.fields)


def own_body(ask: Ask) -> bytes:
    """The body of an ask for an engine that parses Harmony itself."""
    return _body(prepare(ask, reasoning_as_text=False), {})


def _body(ask: Ask, fields: dict[str, Any]) -> bytes:
    extras = replace(LLAMA, fields={**LLAMA.fields, **fields, "temperature": 0})
    return harmless_body(request_body(ask, "tiny", extras=extras), ask.operator_prompt)


class Server:
    """A running engine."""

    def __init__(self, address: str) -> None:
        self._netloc = urlsplit(address).netloc

    def post(self, path: str, body: bytes) -> bytes:
        """What it answers, which must be with status 200. One connection per ask: the engine closes it after a stream
        without saying so."""
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()

    def client(self) -> Client:
        """What an adapter talks to it with."""
        return Client(f"http://{self._netloc}/v1")

    def prompt(self, ask: Ask) -> str:
        """The prompt that the engine makes of an ask."""
        return str(msgspec.json.decode(self.post("/apply-template", raw_body(ask)))["prompt"])

    def prompt_tokens(self, text: str) -> int:
        """How many tokens the prompt has when a user says this."""
        body = msgspec.json.encode({"messages": [{"role": "user", "content": text}], "max_tokens": 1})
        return int(msgspec.json.decode(self.post("/v1/chat/completions", body))["usage"]["prompt_tokens"])

    def stream(self, body: bytes) -> list[list[Event]]:
        """The engine's events, in the batches in which a slow network might bring them. Raises what it reports."""
        answer, decoder = self.post("/v1/chat/completions", body), Decoder("t")
        reads = [answer[at : at + READ] for at in range(0, len(answer), READ)]
        return [*(decoder.feed(read) for read in reads), decoder.end()]

    def events(self, ask: Ask) -> tuple[list[Event], HarmonyReader]:
        """The events of an answer, read."""
        reader = HarmonyReader(ask, "t")
        return [event for batch in self.stream(raw_body(ask)) for event in reader.take(batch)], reader


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
