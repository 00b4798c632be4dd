"""Raw HTTP to one Standpipe: what was said, in whichever public format, folded into one value that cases can judge.

Every frame is looked at on the way: whatever breaks the rules of its format is `Wrong`, a clean refusal is `Cannot`.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct, field

Frames = Generator[tuple[int, dict[str, str], Any], None, None]
PATIENCE = 120.0
"""Seconds for any one answer: nothing here is timed, and a model on two busy cores is slow."""


class Wrong(Exception):
    """Standpipe did what it must not, whatever its engine does."""


class Cannot(Exception):
    """The engine cannot do this, and the client was told so in words."""


class Said(Struct):
    """One answer. `calls` hold id, name and arguments as text; `whole` is false where it broke off."""

    status: int = 200
    headers: Mapping[str, str] = {}
    model: str = ""
    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    pieces: int = 0
    whole: bool = True

    @property
    def dropped(self) -> str:
        return self.headers.get("x-standpipe-dropped", "")


class Tap:
    """A Standpipe, by its address."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self.model = str(self.get("/v1/models")["data"][0]["id"])
        """The default."""

    def get(self, path: str) -> Any:
        status, _, body = self._exchange("GET", path, None)
        must(status == 200, f"GET {path} answers {status}")
        return json.loads(body)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        """A whole answer: its status, headers and JSON."""
        status, headers, data = self._exchange("POST", path, body)
        return status, headers, json.loads(data)

    def frames(self, path: str, body: dict[str, Any]) -> Frames:
        """A stream's frames as they come, each with the status and headers. Closing the iterator hangs up.

        Raises ConnectionError or http.client.HTTPException where the body breaks off.
        """
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.status != 200:
                yield response.status, headers, json.loads(response.read())
                return
            event = b""
            while line := response.readline():
                line = line.strip()
                if line.startswith(b"event:"):
                    event = line[6:].strip()
                elif line.startswith((b"data:", b"{")):
                    data = line.removeprefix(b"data:").strip()
                    frame = {"done": True} if data == b"[DONE]" else json.loads(data)
                    must(not event or frame.get("type") == event.decode(), f"an event {event!r} holds {data[:80]!r}")
                    yield response.status, headers, frame
                    event = b""
        finally:
            connection.close()

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    # Chat Completions, whole and streamed

    def chat(self, *messages: dict[str, Any] | str, stream: bool = False, **rest: Any) -> Said:
        """An answer to these messages, which must be one: raises Cannot where it is refused in words."""
        said = self.try_chat(*messages, stream=stream, **rest)
        # What is found out when a stream has begun is told in it.
        accepted(said.status if said.whole or not said.error or said.text else 400, said.error)
        must(said.whole, f"the answer broke off: {said.error}")
        must(said.finish is not None, "the answer tells no reason for its end")
        must("\N{REPLACEMENT CHARACTER}" not in said.text or "temperature" in rest, "half a character came through")
        return said

    def try_chat(self, *messages: dict[str, Any] | str, stream: bool = False, **rest: Any) -> Said:
        """As `chat`, but an error and an answer that breaks off are answers, too."""
        body = {"model": self.model, "messages": [_message(one) for one in messages], "stream": stream, **rest}
        if stream:
            return _folded(self.frames("/v1/chat/completions", body | {"stream_options": {"include_usage": True}}))
        status, headers, found = self.post("/v1/chat/completions", body)
        if status != 200:
            return Said(status, headers, error=found.get("error"))
        choice = found["choices"][0]
        message = choice["message"]
        return Said(
            status, headers, found["model"], message["content"] or "", message.get("reasoning") or "",
            [_call(one) for one in message.get("tool_calls") or ()],
            choice["finish_reason"], found.get("usage"), (choice.get("logprobs") or {}).get("content") or [],
        )  # fmt: skip


def must(true: object, otherwise: str) -> None:
    """Raises Wrong."""
    if not true:
        raise Wrong(otherwise)


def accepted(status: int, error: Mapping[str, Any] | None) -> None:
    """Raises Cannot for a refusal as it should be: a client's fault with a code and a sentence. Wrong for others."""
    if status == 200:
        return
    error = error or {}
    sentence = str(error.get("message"))
    must(status in {400, 404, 501} and error.get("code") and error.get("message"), f"{status}: {sentence}")
    raise Cannot(sentence)


def _message(one: dict[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "content": one} if isinstance(one, str) else one


def _call(found: dict[str, Any]) -> dict[str, str]:
    return {"id": found["id"], **found["function"]}


def _folded(frames: Frames) -> Said:
    """Chunks of Chat Completions, joined."""
    said, ids, done = Said(), set(), False
    try:
        for status, headers, frame in frames:
            said.status, said.headers = status, headers
            must(not done, "a frame came after [DONE]")
            if "error" in frame:
                said.error, said.whole = frame["error"], False
            elif "done" in frame:
                done = True
            else:
                ids.add(frame["id"])
                said.model = frame["model"]
                said.usage = frame.get("usage") or said.usage
                for choice in frame["choices"]:
                    _add(said, choice)
    except (OSError, http.client.HTTPException):
        said.whole = False
    if said.status == 200 and said.whole:
        must(done, "a stream that ended cleanly has no [DONE]")
        must(len(ids) == 1, f"chunks of one stream have {len(ids)} ids")
    return said


def _add(said: Said, choice: dict[str, Any]) -> None:
    must(said.finish is None, "a choice came after the reason for the end")
    delta = choice["delta"]
    said.text += delta.get("content") or ""
    said.reasoning += delta.get("reasoning") or ""
    said.pieces += bool(delta.get("content") or delta.get("reasoning"))
    said.logprobs += (choice.get("logprobs") or {}).get("content") or []
    said.finish = choice.get("finish_reason")
    for piece in delta.get("tool_calls") or ():
        if piece["index"] == len(said.calls):
            said.calls.append({"id": piece["id"], "name": piece["function"]["name"], "arguments": ""})
        must(piece["index"] == len(said.calls) - 1, "pieces of calls are not in order")
        said.calls[-1]["arguments"] += piece["function"].get("arguments") or ""
