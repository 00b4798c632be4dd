"""Ollama's native format as we offer it: a chat at `/api/chat`, and one question at `/api/generate`.

Both stream unless told otherwise. Of `options`, only those count that say how to sample: the others would load a model
anew. Thinking is told unless the client forbade it. A request that asks nothing is how clients load a model, or unload
it with `keep_alive` 0, which says nothing else here; its answer says that it is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from msgspec.json import Decoder

from standpipe.chat.ask import Ask
from standpipe.chat.errors import Failure
from standpipe.chat.events import Answer
from standpipe.dialects.dialect import Encoder, Parsed, Stamp
from standpipe.dialects.ollama import request as ollama_ask
from standpipe.dialects.ollama import wire
from standpipe.dialects.ollama.answer import CHAT as CHAT_SHAPE
from standpipe.dialects.ollama.answer import COMPLETION, Lines, Shape, failure_body, whole
from standpipe.dialects.reading import decode, fields, unknown

OPTIONS = frozenset(wire.Options.__struct_fields__)
"""The `options` that are read."""
IGNORED = frozenset({"shift", "truncate"})
"""The fields that say nothing to us, and change no answer."""

_NO_TIME = re.compile(r"0+(\.0*)?[a-zµ]{0,2}")

R = TypeVar("R", bound=wire.Request)


class Ollama(Generic[R]):
    """The dialect of one of the two paths."""

    stream_type = "application/x-ndjson"

    def __init__(self, name: str, request: type[R], ask: Callable[[R], Ask], shape: Shape) -> None:
        self.name = name
        self.taken = frozenset(request.__struct_fields__)
        """The fields that are read."""
        self._request: Decoder[R] = Decoder(request)
        self._ask = ask
        self._shape = shape

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall tell thinking, or the reason for which one to nothing is done.

        `Parsed.dropped` has options as well.
        """
        sent = fields(body)
        request = decode(body, self._request)
        dropped = unknown(sent, self.taken | IGNORED)
        if request.options is not None:
            dropped += tuple(f"options.{name}" for name in unknown(fields(bytes(sent["options"])), OPTIONS))
        ask = self._ask(request)
        return Parsed(
            ask=ask,
            stream=request.stream is not False,
            echo=request.think is not False if ask.messages else _done_nothing(request.keep_alive),
            dropped=dropped,
        )

    def encoder(self, parsed: Parsed, stamp: Stamp) -> Encoder:
        return Lines(stamp, self._shape, thinking=parsed.echo)

    def answer(self, parsed: Parsed, stamp: Stamp, answer: Answer) -> bytes:
        """Raises EngineFailed for a call that no client could read."""
        told = parsed.echo if isinstance(parsed.echo, str) else None
        return whole(stamp, self._shape, answer, thinking=bool(parsed.echo), done_reason=told)

    def failure(self, failure: Failure, request_id: str) -> bytes:  # noqa: ARG002 -- the protocol's
        return failure_body(failure)

    def __repr__(self) -> str:
        return f"<Ollama {self.name}>"


def _done_nothing(keep_alive: Any) -> str:
    """No time at all, as a number of seconds or a duration in Go's spelling, is the wish to unload the model."""
    return "unload" if keep_alive is not None and _NO_TIME.fullmatch(str(keep_alive)) else "load"


CHAT = Ollama("ollama_chat", wire.ChatRequest, ollama_ask.chat, CHAT_SHAPE)
"""POST /api/chat."""
GENERATE = Ollama("ollama_generate", wire.GenerateRequest, ollama_ask.generate, COMPLETION)
"""POST /api/generate."""
