"""The one tree of failures: what can go wrong with an ask, in words that a stranger may read.

A `Failure` is raised anywhere and turned into bytes once, by a dialect. Its message is public: it never carries a
prompt, an address, a path of this machine or a traceback. Whatever else is raised is a bug of ours and becomes
`Internal` at the outermost wall, with an id that finds the traceback in the log.

    429 says that the client's own quota is used up, 503 that our capacity is.
"""

from __future__ import annotations

from typing import ClassVar, Self

SHORTEST_RETRY, LONGEST_RETRY = 1.0, 59.0
"""Seconds. Node's SDK ignores waits above 60 s, and 0 would make a busy loop of a retry."""


class Failure(Exception):
    """Base of the tree.

    Args:
        message: one or two public sentences: what happened, and what to do.
        param: the field at fault, as the client spelled it (`messages[2].content`).
        retry_after: seconds until it makes sense to come back; bounded to 1..59 when it is sent.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    may_retry: bool = False
    """Whether the same ask may succeed later. Sent to SDKs as `x-should-retry: false` when it may not."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """The name of this kind of failure, for logs and metrics."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self.kind}({self.message!r}, param={self.param!r}, retry_after={self.retry_after!r})"


class _ClientFault(Failure):
    """The ask itself is wrong: the same bytes will fail again."""

    status = 400
    type = "invalid_request_error"


class InvalidAsk(_ClientFault):
    """Malformed, of a wrong type or out of range."""

    code = "invalid_value"


class ContextTooLong(InvalidAsk):
    """The messages do not fit into the model's context.

    `tokens` is how many they have at least, `window` how many the context has; None where that is not known. Agents go
    by the words: they shorten their conversation where they know the sentence of the API they speak, and else give up.
    """

    code = "context_length_exceeded"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        tokens: int | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.tokens = tokens
        self.window = window

    @classmethod
    def of(cls, tokens: int | None, window: int | None) -> Self:
        """In the words that most programs know: OpenAI's."""
        if tokens is not None and window is not None:
            tokens = max(tokens, window + 1)  # estimates are low
        size = "limited" if window is None else f"{window} tokens"
        have = "more than that" if tokens is None else f"{tokens} tokens"
        message = (
            f"This model's maximum context length is {size}. However, there are {have} in `messages`, with room for "
            "the answer. Please reduce the length of `messages`."
        )
        return cls(message, param="messages", tokens=tokens, window=window)


class PreviousNotFound(InvalidAsk):
    """The ask goes on from a response that is not kept, or no longer, or is somebody else's."""

    code = "previous_response_not_found"


class Unsupported(_ClientFault):
    """Well-formed, but neither we nor the engine can do it."""

    code = "unsupported"


class ImagesRefused(Unsupported):
    """The engine takes none of the images, or other media, that it was given, or could not read one."""


class UnknownModel(_ClientFault):
    """The named model is not served here, and no default engine takes its place."""

    status = 404
    code = "model_not_found"


class NotFound(_ClientFault):
    """No such path, or no such kept thing."""

    status = 404
    code = "not_found"


class MethodNotAllowed(_ClientFault):
    """The path exists, the method does not. `allowed` goes into the `Allow` header."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class UpgradeRequired(_ClientFault):
    """The client wants a WebSocket where there is none. Codex goes on over plain HTTP at once when it is told so."""

    status = 426
    code = "websocket_unsupported"


class Forbidden(_ClientFault):
    """Understood and refused on principle: a host or origin that is not ours, a path that must not exist here."""

    status = 403
    code = "forbidden"


class TooLarge(_ClientFault):
    """More bytes than the operator takes."""

    status = 413
    code = "too_large"


class Compressed(_ClientFault):
    """The body has a content coding; none is decoded here. `Accept-Encoding: identity` goes with it."""

    status = 415
    code = "unsupported_encoding"


class TooSlow(_ClientFault):
    """The client did not send its request in time."""

    status = 408
    code = "request_timeout"
    may_retry = True


class PaceExceeded(Failure):
    """429: this client's own quota is used up."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    may_retry = True


class _NoCapacity(Failure):
    """503: we, or the engines behind us, cannot take more now."""

    status = 503
    type = "overloaded_error"
    may_retry = True


class LineFull(_NoCapacity):
    """As many asks wait as may wait."""

    code = "line_full"


class MemoryFull(_NoCapacity):
    """Large requests hold as much memory as they may."""

    code = "memory_full"


class WaitTooLong(_NoCapacity):
    """The predicted wait is beyond the deadline, or the deadline came."""

    code = "wait_too_long"


class NoEngine(_NoCapacity):
    """No engine is up, or we are shutting down."""

    code = "no_engine"


class EngineFailed(Failure):
    """The engine refused, broke off or spoke nonsense.

    `upstream_status` is the HTTP status that the engine gave, None when there was none: what a retry is decided by.
    """

    status = 502
    type = "engine_error"
    code = "engine_failed"
    may_retry = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        upstream_status: int | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.upstream_status = upstream_status


class EngineTimeout(EngineFailed):
    """The engine was silent for too long."""

    status = 504
    code = "engine_timeout"


class EngineBusy(EngineFailed):
    """The engine says: not now. It loads its model, or is asked too much; to a client that is our capacity."""

    status = 503
    type = "overloaded_error"
    code = "engine_busy"


class EngineDown(EngineFailed):
    """The engine is not there for now: it refuses connections, loads a model or starts again. Asks may wait for it."""

    status = 503
    type = "overloaded_error"
    code = "no_engine"


class EngineBroke(EngineFailed):
    """The connection to the engine broke, or ended too early, while it worked: it may have died of it."""


class Quarantined(EngineFailed):
    """Engines have died of this very ask: it is given to none."""

    code = "quarantined"
    may_retry = False


class NoAnswer(EngineFailed):
    """The model ended its turn without an answer or a call, after reasoning: the engine works."""

    code = "no_answer"


class Internal(Failure):
    """Our bug. The message carries the request id and nothing else."""
