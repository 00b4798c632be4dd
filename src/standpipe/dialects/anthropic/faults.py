"""Failures in Anthropic's shape: the type goes by the status, and what the shape has no place for is a detail."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from standpipe.chat.errors import ContextTooLong, Failure

_TYPES = {
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class _Details(Struct, frozen=True):
    error_code: str
    param: str | UnsetType = UNSET


class _Error(Struct, frozen=True):
    type: str
    message: str
    details: _Details


class _Body(Struct, frozen=True, tag="error"):
    error: _Error
    request_id: str


def failure_body(failure: Failure, request_id: str) -> bytes:
    """The JSON body of a failure, and the data of the event that ends a failed stream."""
    message = failure.message
    if isinstance(failure, ContextTooLong):
        known = failure.tokens is not None and failure.window is not None
        # Claude Code looks for exactly this, numbers included, and then shortens its conversation.
        message = (
            f"prompt is too long: {failure.tokens} tokens > {failure.window} maximum" if known else "prompt is too long"
        )
    kind = _TYPES.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    details = _Details(failure.code, UNSET if failure.param is None else failure.param)
    return msgspec.json.encode(_Body(_Error(kind, message, details), request_id))
