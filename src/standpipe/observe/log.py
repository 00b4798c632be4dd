"""The log: one line per request and one per thing that happens to us. Human on a terminal, JSON otherwise.

Never in it: prompts, answers, Authorization, plain addresses. Clients appear as a hash whose key lives in memory only
and changes daily, so that yesterday's lines cannot be joined with today's.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TextIO

import msgspec

from standpipe.observe.hooks import Record
from standpipe.observe.outlet import Outlet


class Level(IntEnum):
    """How much a line matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


Form = Callable[[Level, str, dict[str, Any]], str]
"""Makes one line of a level, what happened, and its fields."""

_DAY = 86_400.0
_MINUTE = 60.0
TRACEBACKS = 10
"""A minute. A bug that every request meets must not fill the disk."""
TRACEBACK = 8192
"""Characters of one, at most: its beginning and its end."""
FRAMES = 30
"""The innermost calls that are shown of each exception."""
_REMEMBERED = 4096
"""Names of clients that need not be made anew; for speed only."""


class ClientHash:
    """Names a client by a keyed hash; the key is new every day and never written anywhere."""

    def __init__(self, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        """`clock` gives seconds since any fixed instant."""
        self._clock = clock
        self._random_bytes = random_bytes
        self._key = b""
        self._until = -1.0
        self._known: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        self._renew()
        name = self._known.get(address)
        if name is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            name = hashlib.blake2s(address.encode(), key=self._key, digest_size=6).hexdigest()
            self._known[address] = name
        return name

    def _renew(self) -> float:
        now = self._clock()
        if now >= self._until:
            self.adopt(self._random_bytes(32), (now // _DAY + 1) * _DAY - now)
        return now

    @property
    def key(self) -> tuple[bytes, float]:
        """The key, and for how many seconds it is used."""
        now = self._renew()
        return self._key, self._until - now

    def adopt(self, key: bytes, seconds: float) -> None:
        """Use the key that others use, for so many seconds."""
        self._key, self._until = key, self._clock() + seconds
        self._known.clear()


class Logger:
    """Writes one line for each thing that happens. A line that cannot be written is dropped and counted: it must not
    cost anybody an answer."""

    def __init__(self, out: Outlet, form: Form, least: Level) -> None:
        """Lines below the level `least` are left out."""
        self._out = out
        self._form = form
        self.least = least
        self._tracebacks = 0
        self._since = -_MINUTE
        self._reported = 0
        out.on_flow = self._flows

    def set_level(self, level: str) -> None:
        """Leave out what is below this level (debug, info, warning, error)."""
        self.least = Level[level.upper()]

    @property
    def dropped(self) -> int:
        """Lines that nobody will read, since the start."""
        return self._out.dropped

    def say(self, level: str, event: str, **fields: Any) -> None:
        """At a level that is named (debug, info, warning, error)."""
        self._write(Level[level.upper()], event, fields)

    def debug(self, event: str, **fields: Any) -> None:
        self._write(Level.DEBUG, event, fields)

    @property
    def tracing(self) -> Callable[..., None] | None:
        """`debug`, where debug lines are written."""
        return self.debug if self.least <= Level.DEBUG else None

    def info(self, event: str, **fields: Any) -> None:
        self._write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(Level.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """`error` is written with its traceback, of bounded size; of too many in a minute, only what they were."""
        if error is not None:
            fields["exception"] = self._describe(error)
        self._write(Level.ERROR, event, fields)

    def _describe(self, error: BaseException) -> str:
        now = time.monotonic()
        if now - self._since >= _MINUTE:
            self._since, self._tracebacks = now, 0
        self._tracebacks += 1
        if self._tracebacks > TRACEBACKS:
            return f"{type(error).__name__} (no traceback: more than {TRACEBACKS} in a minute)"
        text = "".join(traceback.format_exception(error, limit=-FRAMES)).rstrip()
        half = TRACEBACK // 2
        return text if len(text) <= TRACEBACK else f"{text[:half]}\n[...]\n{text[-half:]}"

    def _flows(self) -> None:
        lost, self._reported = self._out.dropped - self._reported, self._out.dropped
        self.warning("log lines were dropped: the reader of the log did not keep up", lines=lost)

    def _write(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        if level < self.least:
            return
        try:
            line = self._form(level, event, fields)
        except ValueError:  # half a character
            line = self._form(level, event, {name: ascii(value) for name, value in fields.items()})
        self._out.write(line)

    def close(self) -> None:
        """Write what still waits, if its reader takes it soon."""
        self._out.close()


def build(form: str, level: str, out: TextIO | None) -> Logger:
    """The logger. `form` is auto, human or json; None is a stream that is closed."""
    outlet = Outlet(out)
    written = _Human(colours=outlet.terminal) if for_people(form, outlet) else _as_json
    return Logger(outlet, written, Level[level.upper()])


def for_people(form: str, outlet: Outlet) -> bool:
    """Whether lines of this form (auto, human or json) are for people."""
    return form == "human" or (form == "auto" and outlet.terminal)


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
        clock = f"{datetime.now().astimezone():%H:%M:%S}"
        words = [
            self._in(_DIM, clock),
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
        if record.continued:
            line["continued"] = record.continued
        if record.engine is not None:
            line["engine"] = record.engine
        if record.failure is not None:
            line["failure"] = record.failure
        self._log.info("request", **line)
