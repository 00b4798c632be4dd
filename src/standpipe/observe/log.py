"""The log: one line per ask and one per thing that happens to us. Human on a terminal, JSON otherwise.

Never in it: prompts, answers, Authorization, plain addresses. Clients appear as a hash whose key lives in memory only
and changes daily, so that yesterday's lines cannot be joined with today's.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import msgspec
import structlog

from standpipe.observe.hooks import Record

Logger = structlog.typing.FilteringBoundLogger

_DAY = 86_400.0
_REMEMBERED = 4096
"""Names of clients that need not be made anew; for speed only."""


class ClientHash:
    """Names a client by a keyed hash; the key is new every day and never written anywhere."""

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """`clock` gives seconds since any fixed instant."""
        self._clock = clock
        self._random_bytes = random_bytes
        self._day = -1
        self._key = b""
        self._known: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        day = int(self._clock() // _DAY)
        if day != self._day:
            self._day, self._key = day, self._random_bytes(32)
            self._known.clear()
        name = self._known.get(address)
        if name is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            name = hashlib.blake2s(address.encode(), key=self._key, digest_size=6).hexdigest()
            self._known[address] = name
        return name


def build(form: str, level: str, out: TextIO | None = None) -> Logger:
    """The logger. `form` is auto, human or json; lines go to `out` (standard error)."""
    out = out or sys.stderr
    human = form == "human" or (form == "auto" and out.isatty())
    processors: list[Any] = [_as_json]
    if human:
        processors = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=24),
        ]
    wrapper = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])
    # Not through `wrap_logger`: its proxy builds a logger anew for every line.
    return cast("Logger", cast("Callable[..., object]", wrapper)(structlog.WriteLogger(out), processors, {}))


def _as_json(_: object, level: str, line: MutableMapping[str, Any]) -> str:
    """One line, all in one step: every ask writes one."""
    error = line.pop("exc_info", None)
    if isinstance(error, BaseException):
        line["exception"] = "".join(traceback.format_exception(error)).rstrip()
    line["level"] = level
    line["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return _encode(line).decode()


_encode = msgspec.json.Encoder(enc_hook=str).encode


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
