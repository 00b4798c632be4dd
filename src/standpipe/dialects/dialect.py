"""What a dialect is: one public API format, both ways.

A dialect is stateless; whatever a reply must remember lives in the `Encoder` made for it. Nothing here does I/O or
reads a clock: ids and times come in as a `ResponseMeta`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from standpipe.chat.ask import Ask
from standpipe.chat.errors import ContextTooLong, Failure
from standpipe.chat.events import Answer, Event


class Parsed(Struct, frozen=True):
    """A request as a dialect read it.

    An `ask` without messages asks nothing: no engine is needed for its answer, which is that of an empty `Answer`.
    `stream` tells whether the client wants events. `echo` is whatever this dialect needs to remember for its own
    answer (`stream_options`, fields that the answer repeats); nobody else looks inside. `dropped` names top-level
    fields that were sent and are not on the allow-list, at most 16 of them, for a response header. `others` are what
    else is asked, where one request wants several answers: only the formats of `ManyChoices` have any.
    """

    ask: Ask
    stream: bool
    echo: Any = None
    dropped: tuple[str, ...] = ()
    others: tuple[Ask, ...] = ()


class ResponseMeta(Struct, frozen=True):
    """What an answer is marked with: our request id (letters and digits), creation time in Unix seconds, the name
    of the model that really answers, how many tokens the prompt is estimated to have, and what tells the time when the
    answer ends (None: it ends when it is created)."""

    id: str
    created: int
    model: str
    prompt_estimate: int = 0
    now: Callable[[], float] | None = None


class Encoder(Protocol):
    """Events to bytes, for one streamed reply. Keeps only format state."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The frames for these events, b"" when they have none. Finished or Failed closes the stream's format."""
        ...


class Dialect(Protocol):
    """One public API format."""

    name: str
    """Short and stable, for log lines and metrics."""
    stream_type: str
    """Content-Type of a streamed answer."""

    def parse(self, body: bytes) -> Parsed:
        """Raises InvalidAsk, Unsupported or TooLarge, with `param` naming the field."""
        ...

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        """A new encoder for one streamed reply."""
        ...

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """The body of a whole answer (application/json)."""
        ...

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of a failure (application/json) in this format's shape."""
        ...

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:
        """The whole stream that refuses a prompt that is too long, where this format's clients look for that in a
        stream and not at the status; b"" where they don't."""
        ...


class ManyChoices(Dialect, Protocol):
    """A format in which a request may want several answers. They have numbers, in the order in which they are asked."""

    def encoders(self, parsed: Parsed, meta: ResponseMeta) -> Sequence[Encoder]:
        """The encoders of one streamed reply, one for each answer. The last that finishes closes the stream."""
        ...

    def answers(self, parsed: Parsed, meta: ResponseMeta, answers: Sequence[Answer]) -> bytes:
        """The body of several whole answers (application/json)."""
        ...
