"""What stands before every engine that takes strangers' words: no control token of theirs becomes a turn, and gpt-oss
is asked and read the way it needs, wherever it runs.

Wraps any engine. What is broken, prepared and repaired is decided by `policy.control_tokens` and `dialects.harmony_*`.
Once, when asked to (`probe`), it measures whether breaking control tokens is enough.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text
from standpipe.chat.errors import Failure
from standpipe.chat.events import Event, Finished
from standpipe.engines.engine import Engine, Sink
from standpipe.engines.guard.control_tokens import ControlTokens, Handling, judge, probe_texts
from standpipe.engines.guard.harmony import filtered, prepared, speaks_harmony
from standpipe.engines.wrapper import Wrapper
from standpipe.flow import Flow

_HARMONY_TOKEN, _CHATML_TOKEN = "<|start|>", "<|im_start|>"


class Guarded(Wrapper):
    """The engine behind its guard. `handling` is None until it has been probed."""

    def __init__(self, engine: Engine, tokens: ControlTokens, *, reads_harmony: bool = True) -> None:
        """`reads_harmony` is false for one whose Harmony is read by us."""
        super().__init__(engine)
        self._tokens = tokens
        self._reads_harmony = reads_harmony
        self.handling: Handling | None = None

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """As `Engine.answer`. Not a coroutine itself: one that waits inside another costs every answer memory."""
        ask = self._tokens.break_ask(ask)
        if self._reads_harmony and speaks_harmony(ask.model):
            return self._engine.answer(prepared(ask), filtered(ask, sink))
        return self._engine.answer(ask, sink)

    async def probe(self) -> Handling:
        """Find out what the engine does with a control token. Costs it three short prompts."""
        token = _CHATML_TOKEN
        try:
            if any(map(speaks_harmony, await self._engine.models())):
                token = _HARMONY_TOKEN
            texts = probe_texts(token)
            counts = [await self._prompt_tokens(text) for text in (texts.plain, texts.control, texts.broken)]
        except Failure:
            counts = [None]
        known = [count for count in counts if count is not None]
        self.handling = judge(*known) if len(known) == 3 else Handling.UNCLEAR
        return self.handling

    async def _prompt_tokens(self, text: str) -> int | None:
        count = _Count()
        ask = Ask((Message(Role.USER, (Text(text),)),), sampling=Sampling(max_tokens=1))
        await self._engine.answer(ask, count)
        return count.prompt_tokens

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine!r}, control tokens: {self.handling or 'not probed'}>"


class _Count:
    """A sink that wants nothing but the usage."""

    def __init__(self) -> None:
        self.prompt_tokens: int | None = None

    def connect(self, flow: Flow | None) -> None:
        pass

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Finished) and event.usage is not None:
                self.prompt_tokens = event.usage.prompt_tokens
