"""What stands before every engine: gpt-oss is asked and read the way it needs, wherever it runs, and each engine is
probed for what it does with control tokens.

`Guarded` wraps any engine; `HarmonyUpstream` is the one whose Harmony comes as it was written and is read by us. What
is prepared and repaired is decided by `dialects.harmony`; here stands what it takes to put that between an engine and a
sink. A turn that makes no sense and has said nothing ends without a word, which the pool takes for an invitation to
try once more. That no control token of a client gets into a prompt is seen to where requests leave (`control_tokens`);
once, when asked to (`probe`), a guard measures whether breaking them is enough.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    Beginning,
    FormatKind,
    JsonObject,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
)
from standpipe.chat.errors import EngineFailed, Failure, ImagesRefused
from standpipe.chat.events import Event, Finished, FinishReason, Started, says_something
from standpipe.dialects.gbnf import Grammar
from standpipe.dialects.harmony.filter import HarmonyFilter
from standpipe.dialects.harmony.parser import TurnOutcome
from standpipe.dialects.harmony.prompt import prepare, raw_request, resumed, resumes
from standpipe.dialects.harmony.raw import HarmonyReader
from standpipe.dialects.images import shown
from standpipe.dialects.openai.to_engine import request_body
from standpipe.dialects.schema_grammar import add_schema
from standpipe.engines.engine import Engine, EngineWrapper, NeedsTemplate, Sink, SinkWrapper, lacking
from standpipe.engines.guard.control_tokens import (
    Handling,
    Rendered,
    break_text,
    harmless_body,
    judge,
    probe_texts,
)
from standpipe.engines.upstream import StreamDecoder, Upstream
from standpipe.flow import Flow

_HARMONY_TOKEN: Final = "<|start|>"  # noqa: S105 - no secret
_CHATML_TOKEN: Final = "<|im_start|>"  # noqa: S105
_PROBE_TIMEOUT: Final = 120.0
"""Seconds that the three prompts of a probe may take together: no attempt watches over them."""

_RENDERED: Final = frozenset({"messages", "chat_template_kwargs", "reasoning_effort"})
"""Fields that are in a rendered prompt."""
_RENDERED_LIMIT: Final = 16_777_216
"""Bytes of a rendered prompt."""


class _Prompt(Struct):
    prompt: str


def speaks_harmony(model: str | None) -> bool:
    """Whether this is a name of gpt-oss: `gpt-oss:20b`, `openai/gpt-oss-120b`, `gpt_oss`."""
    return model is not None and "gpt-oss" in model.lower().replace("_", "-")


class Guarded(EngineWrapper):
    """The engine behind its guard. `handling` is None until it has been probed."""

    def __init__(self, engine: Engine, *, reads_harmony: bool = True) -> None:
        """`reads_harmony` is false for one whose Harmony is read by us."""
        super().__init__(engine)
        self._reads_harmony = reads_harmony
        self.handling: Handling | None = None

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """As `Engine.answer`. Not a coroutine itself: one that waits inside another costs every answer memory."""
        if ask.raw:
            return self._continue(ask, sink)
        return self._show(ask, sink) if ask.images else self._ask(ask, sink)

    def _ask(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        if self._reads_harmony and speaks_harmony(ask.model):
            repaired = _TurnSink(HarmonyFilter(ask, secrets.token_hex(4)), sink)
            return self._engine.answer(prepare(ask, reasoning_as_text=False), repaired)
        return self._engine.answer(ask, sink)

    async def _show(self, ask: Ask, sink: Sink) -> None:
        """Have images looked at. Those of the past that the engine refuses become words: the session would be over."""
        counted = _Counted(sink)
        try:
            await self._ask(ask, counted)
        except ImagesRefused:
            told = shown(ask, sees=True, past=False)
            if counted.events or told == ask:
                raise
            await self._ask(told, sink)

    async def _continue(self, ask: Ask, sink: Sink) -> None:
        """Have a text continued as it stands; answered like a question where the engine knows nothing else."""
        try:
            await self._engine.answer(ask, sink)
        except NeedsTemplate:
            await self.answer(replace(ask, raw=False), lacking(sink, ("raw",)))

    async def probe(self) -> Handling:
        """Find out what the engine does with a control token. Costs it three short prompts."""
        token = _CHATML_TOKEN
        try:
            if any(map(speaks_harmony, await self._engine.models())):
                token = _HARMONY_TOKEN
            texts = probe_texts(token)
            async with asyncio.timeout(_PROBE_TIMEOUT):
                counts = [await self._prompt_tokens(text) for text in (texts.plain, texts.control, texts.broken)]
        except (Failure, TimeoutError):
            counts = [None]
        known = [count for count in counts if count is not None]
        self.handling = judge(*known) if len(known) == 3 else Handling.UNCLEAR
        return self.handling

    async def _prompt_tokens(self, text: str) -> int | None:
        count = _PromptTokens()
        message = Message(Role.USER, (Text(text),))
        ask = Ask((message,), sampling=Sampling(max_tokens=1), operator_prompt=text)
        await self._engine.answer(ask, count)
        return count.found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine!r}, control tokens: {self.handling or 'not probed'}>"


class GrammarUpstream(Upstream):
    """llama.cpp, held to a JSON Schema by a grammar of ours.

    Its own converter hangs on some schemas, refuses others (a `$ref` to the root), and passes over what it does not
    know. Ours names what it cannot hold an answer to: it refuses that where the client asked for strictness, and drops
    it otherwise. Beside tools llama.cpp takes no grammar.
    """

    def _document(self, ask: Ask, model: str) -> tuple[JsonObject, tuple[str, ...]]:
        form = ask.format
        if form.kind is not FormatKind.JSON_SCHEMA or not form.schema or ask.tools:
            return super()._document(ask, model)
        grammar = Grammar()
        root = add_schema(grammar, form.schema, form.field, strict=bool(form.strict), fields=form.fields)
        plain, _ = super()._document(replace(ask, format=OutputFormat()), model)
        return plain | {"grammar": grammar.text(root)}, grammar.dropped


class HarmonyUpstream(Upstream):
    """llama.cpp with gpt-oss, its own parsing switched off: Harmony comes as it was written, and is read by us.

    Nor does it go on with a turn by itself then: it renders the prompt, and is given it back with the turn behind it.
    """

    RENDERS: Final = "/apply-template"

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """As `Continuer`."""
        return resumes(ask, begun)

    async def _placed(self, ask: Ask, document: JsonObject) -> tuple[str, JsonObject]:
        if ask.begun is None:
            return await super()._placed(ask, document)
        begun = Beginning(break_text(ask.begun.reasoning), break_text(ask.begun.text))
        answer = await self._client.fetch(
            "POST",
            self.RENDERS,
            body=harmless_body(document, ask.operator_prompt),
            limit=_RENDERED_LIMIT,
            below=False,
        )
        if answer.status != 200:
            raise EngineFailed("The engine could not go on with an answer.", upstream_status=answer.status)
        prompt = Rendered(msgspec.json.decode(answer.body, type=_Prompt).prompt + resumed(begun))
        rest = {name: value for name, value in document.items() if name not in _RENDERED}
        return self.RAW, {**rest, "prompt": prompt}

    def _document(self, ask: Ask, model: str) -> tuple[JsonObject, tuple[str, ...]]:
        if ask.raw:
            return super()._document(ask, model)
        raw = raw_request(ask)
        extras = self._capabilities.extras
        return request_body(raw.ask, model, extras=replace(extras, fields=extras.fields | raw.fields)), raw.dropped

    def _decoder(self, ask: Ask) -> StreamDecoder:
        if ask.raw:
            return super()._decoder(ask)
        # Of the raw text nothing is the answer yet: the reader finds stop strings in what it makes of it.
        return super()._decoder(replace(ask, sampling=replace(ask.sampling, stop=(), tell_stop=False)))

    async def answer(self, ask: Ask, sink: Sink) -> None:
        if ask.raw:  # a continued text has no turns
            return await super().answer(ask, sink)
        reader = HarmonyReader(ask, secrets.token_hex(4))
        with suppress(_TurnOver):  # by its own words; the engine has been stopped
            await super().answer(ask, _TurnSink(reader, sink))
        return None


class _TurnReader(Protocol):
    """What reads one answer's events; `turn` is there once Finished has passed."""

    turn: TurnOutcome | None

    def take(self, events: Sequence[Event]) -> list[Event]: ...


class _TurnOver(Exception):
    """A turn is over although its engine still writes: raised into the engine to stop it."""


class _TurnSink(SinkWrapper):
    """Passes on what a reader makes of the events."""

    def __init__(self, reader: _TurnReader, sink: Sink) -> None:
        super().__init__(sink)
        self._reader = reader
        self._spoke = False

    def take(self, events: list[Event]) -> None:
        out = self._reader.take(events)
        if self._reader.turn is None and getattr(self._reader, "done", False):
            out += self._reader.take([Finished(FinishReason.STOP)])
            self._pass(out)
            raise _TurnOver
        self._pass(out)

    def _pass(self, out: list[Event]) -> None:
        turn = self._reader.turn
        self._spoke = self._spoke or any(map(says_something, out))
        if turn is not None and turn.fault is not None and not self._spoke:
            out = [event for event in out if isinstance(event, Started | Finished)]
        self._sink.take(out)


class _Counted(SinkWrapper):
    """Counts the events that have passed."""

    events = 0

    def take(self, events: list[Event]) -> None:
        self.events += len(events)
        self._sink.take(events)


class _PromptTokens:
    """A sink that wants nothing but how many tokens the prompt had."""

    def __init__(self) -> None:
        self.found: int | None = None

    def connect(self, flow: Flow | None) -> None:
        pass

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Finished) and event.usage is not None:
                self.found = event.usage.prompt_tokens
