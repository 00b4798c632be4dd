"""The log: one line per request and one per thing that happens to us. Human on a terminal, JSON otherwise.

Never in it: prompts, answers, Authorization, plain addresses. Clients appear as a hash whose key lives in memory only
and changes daily, so that yesterday's lines cannot be joined with today's.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TextIO

import msgspec

from standpipe.observe.hooks import Record


class Level(IntEnum):
    """How much a line matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


Form = Callable[[Level, str, dict[str, Any]], str]
"""Makes one line of a level, what happened, and its fields."""

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


class Logger:
    """Writes one line for each thing that happens, in one write. A line that cannot be written is dropped: that must
    not cost anybody an answer."""

    def __init__(self, out: TextIO, form: Form, least: Level) -> None:
        """Lines below the level `least` are dropped."""
        self._out = out
        self._form = form
        self._least = least

    def debug(self, event: str, **fields: Any) -> None:
        self._write(Level.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(Level.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """`error` is told with its traceback."""
        if error is not None:
            fields["exception"] = "".join(traceback.format_exception(error)).rstrip()
        self._write(Level.ERROR, event, fields)

    def _write(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        if level < self._least:
            return
        try:
            self._out.write(self._form(level, event, fields))
            self._out.flush()
        except (OSError, ValueError):  # no room, nobody who reads; or a text that is no Unicode
            return


def build(form: str, level: str, out: TextIO | None = None) -> Logger:
    """The logger. `form` is auto, human or json; lines go to `out` (standard error)."""
    out = out or sys.stderr
    human = form == "human" or (form == "auto" and out.isatty())
    return Logger(out, _Human(colours=out.isatty()) if human else _as_json, Level[level.upper()])


def _as_json(level: Level, event: str, fields: dict[str, Any]) -> str:
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"timestamp": timestamp, "level": level.name.lower(), "event": event, **fields}
    return _encode(line).decode() + "\n"


_encode = msgspec.json.Encoder(enc_hook=str).encode

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_COLOURS = {Level.DEBUG: _DIM, Level.INFO: "\x1b[32m", Level.WARNING: "\x1b[33m", Level.ERROR: "\x1b[31m"}
_EVENT_WIDTH = 24


class _Human:
    """Lines for a terminal: local time, level, what happened, then the fields, and an exception below."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, level: Level, event: str, fields: dict[str, Any]) -> str:
        exception = fields.pop("exception", None)
        event = event if event.isprintable() else ascii(event)
        time = f"{datetime.now().astimezone():%H:%M:%S}"
        words = [
            self._in(_DIM, time),
            self._in(_COLOURS[level], f"{level.name.lower():7}"),
            self._in(_BOLD, f"{event:{_EVENT_WIDTH}}" if fields else event),
        ]
        words += (f"{self._in(_DIM, name + '=')}{_value(value)}" for name, value in fields.items())
        line = " ".join(words) + "\n"
        return line if exception is None else f"{line}{exception}\n"

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text


def _value(value: object) -> str:
    """Whatever could be taken for something else, or move a terminal's cursor, is quoted."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else ascii(text)


class RequestLog:
    """The hook that writes one line per request."""

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
        self._log.info("request", **line)
