"""The log: one line per ask and one per thing that happens to us. Human on a terminal, JSON otherwise.

Never in it: prompts, answers, Authorization, plain addresses. Clients appear as a hash whose key lives in memory only
and changes daily, so that yesterday's lines cannot be joined with today's.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

import msgspec
import structlog

from standpipe.observe.hooks import Record

Logger = structlog.typing.FilteringBoundLogger

_DAY = 86_400.0


class ClientHash:
    """Names a client by a keyed hash; the key is new every day and never written anywhere."""

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """`clock` gives seconds since any fixed instant."""
        self._clock = clock
        self._random_bytes = random_bytes
        self._day = -1
        self._key = b""

    def __call__(self, address: str) -> str:
        day = int(self._clock() // _DAY)
        if day != self._day:
            self._day, self._key = day, self._random_bytes(32)
        return hashlib.blake2s(address.encode(), key=self._key, digest_size=6).hexdigest()


def build(form: str, level: str, out: TextIO | None = None) -> Logger:
    """The logger. `form` is auto, human or json; lines go to `out` (standard error)."""
    out = out or sys.stderr
    human = form == "human" or (form == "auto" and out.isatty())
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
    ]
    if human:
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=24))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    wrapper = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])
    logger: Logger = wrapper(structlog.WriteLogger(out), processors, {})
    return logger


def _json(value: Any, **_: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


class AskLog:
    """The hook that writes one line per ask."""

    def __init__(self, log: Logger) -> None:
        self._log = log

    def __call__(self, record: Record) -> None:
        line: dict[str, Any] = {
            "id": record.id,
            "dialect": record.dialect,
            "client": record.client,
            "model": record.model,
            "status": record.status,
            "waited": round(record.waited, 3),
            "first_token": None if record.first_token is None else round(record.first_token, 3),
            "seconds": round(record.duration, 3),
            "prompt_tokens": record.prompt_tokens,
            "tokens": record.completion_tokens,
            "attempts": record.attempts,
        }
        if record.engine is not None:
            line["engine"] = record.engine
        if record.failure is not None:
            line["failure"] = record.failure
        self._log.info("ask", **line)
