"""gpt-oss behind two kinds of engine: one that hands its Harmony over as it is, and any that reads Harmony itself.

What is sent, read and repaired is the dialect's business (`dialects.harmony_*`); here stands what it takes to put that
between an engine and a sink. A turn that makes no sense and has said nothing ends without a word, which the pool takes
for an invitation to try once more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.events import Event, Finished, FinishReason, Started, says_something
from standpipe.dialects.harmony.filter import HarmonyFilter
from standpipe.dialects.harmony.parser import Turn
from standpipe.dialects.harmony.prompt import prepare
from standpipe.dialects.harmony.reader import HarmonyReader
from standpipe.dialects.harmony.request import raw_request
from standpipe.dialects.openai.to_engine import request_body
from standpipe.engines.engine import Sink
from standpipe.engines.upstream import Upstream
from standpipe.flow import Flow


def speaks_harmony(model: str | None) -> bool:
    """Whether this is a name of gpt-oss: `gpt-oss:20b`, `openai/gpt-oss-120b`, `gpt_oss`."""
    return model is not None and "gpt-oss" in model.lower().replace("_", "-")


class HarmonyUpstream(Upstream):
    """llama.cpp with gpt-oss, its own parsing switched off: Harmony comes as it was written, and is read by us."""

    def _body(self, ask: Ask, model: str) -> bytes:
        raw = raw_request(ask)
        extras = self._capabilities.extras
        return request_body(raw.ask, model, extras=replace(extras, fields=extras.fields | raw.fields))

    async def answer(self, ask: Ask, sink: Sink) -> None:
        reader = HarmonyReader(ask, secrets.token_hex(4))
        with suppress(_Said):  # the turn was over by its own words, and the engine has been stopped
            await super().answer(ask, _Reading(reader, sink))


class _Reader(Protocol):
    """What reads one answer's events; `turn` is there once Finished has passed."""

    turn: Turn | None

    def take(self, events: Sequence[Event]) -> list[Event]: ...


class _Said(Exception):
    """A turn is over although its engine still writes: raised into the engine to stop it."""


class _Reading:
    """A sink that passes on what a reader makes of the events."""

    def __init__(self, reader: _Reader, sink: Sink) -> None:
        self._reader = reader
        self._sink = sink
        self._said = False

    def connect(self, flow: Flow | None) -> None:
        self._sink.connect(flow)

    def take(self, events: list[Event]) -> None:
        out = self._reader.take(events)
        if self._reader.turn is None and getattr(self._reader, "done", False):
            out += self._reader.take([Finished(FinishReason.STOP)])
            self._pass(out)
            raise _Said
        self._pass(out)

    def _pass(self, out: list[Event]) -> None:
        turn = self._reader.turn
        self._said = self._said or any(map(says_something, out))
        if turn is not None and turn.fault is not None and not self._said:
            out = [event for event in out if isinstance(event, Started | Finished)]
        if out:
            self._sink.take(out)


def prepared(ask: Ask) -> Ask:
    """The ask as gpt-oss wants it, for an engine that reads Harmony itself."""
    return prepare(ask, reasoning_as_text=False)


def filtered(ask: Ask, sink: Sink) -> Sink:
    """A sink that repairs what such an engine leaks of Harmony, and passes the rest untouched."""
    return _Reading(HarmonyFilter(ask, secrets.token_hex(4)), sink)
