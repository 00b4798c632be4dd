"""Faults: a failure to status, headers and a dialect's body. The only place where a failure meets HTTP."""

from __future__ import annotations

import math

import msgspec

from standpipe.chat.errors import Failure, Internal, MethodNotAllowed
from standpipe.dialects.dialect import Dialect
from standpipe.serve.exchange import JSON, Exchange, Header

_SHORTEST, _LONGEST = 1.0, 59.0
"""Seconds. Node's SDK ignores waits above 60 s, and 0 would make a busy loop of a retry."""


def bug(request_id: str) -> Internal:
    """What the public is told of a bug of ours: the id under which the log has the rest."""
    return Internal(f"Something broke on our side. If it lasts, tell the operator this id: {request_id}.")


def body(failure: Failure, request_id: str) -> bytes:
    """The body where no dialect has been chosen: OpenAI's shape, which most programs can read."""
    error = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
        "request_id": request_id,
    }
    return msgspec.json.encode({"error": error})


def headers(failure: Failure) -> list[Header]:
    """When to come back, in both spellings; or that it makes no sense to."""
    found: list[Header] = []
    if failure.retry_after is not None or failure.status in {429, 503}:
        wait = min(max(failure.retry_after or _SHORTEST, _SHORTEST), _LONGEST)
        found.append((b"retry-after", str(math.ceil(wait)).encode()))
        found.append((b"retry-after-ms", str(math.ceil(wait * 1000)).encode()))
    if not failure.may_retry and failure.status != 500:  # a bug of ours may pass
        found.append((b"x-should-retry", b"false"))
    if isinstance(failure, MethodNotAllowed):
        found.append((b"allow", ", ".join(failure.allowed).encode()))
    return found


def send(exchange: Exchange, failure: Failure, dialect: Dialect | None = None) -> None:
    """Answer with a failure. The answer must not have begun."""
    content = dialect.failure(failure, exchange.id) if dialect else body(failure, exchange.id)
    exchange.send(failure.status, content, JSON, headers(failure))
