"""A filter for engines that read Harmony themselves and sometimes leak it.

Clean streams pass untouched, as the same event objects. When a leak is found, the rest of the turn goes through our own
parser, which goes on where the engine's left off: an engine's delta says whether it took its text for reasoning or for
the answer, and the markup in it says what it really was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.events import (
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from standpipe.dialects.harmony.calls import Calls, Scrub
from standpipe.dialects.harmony.header import Channel
from standpipe.dialects.harmony.parser import Fault, Parser, Turn
from standpipe.dialects.harmony.reader import callable_tools, must_call, parser_for
from standpipe.dialects.harmony.stripped import Restorer
from standpipe.dialects.harmony.watch import Leak, Said, Watch


class HarmonyFilter:
    """One answer's events. `turn` is there once Finished has passed."""

    __slots__ = (
        "_answered",
        "_ask",
        "_calls",
        "_parser",
        "_reasoning",
        "_refusal",
        "_restorer",
        "_stem",
        "_watch",
        "turn",
    )

    def __init__(self, ask: Ask, stem: str) -> None:
        self.turn: Turn | None = None
        self._ask = ask
        self._stem = stem
        self._watch = Watch()
        self._calls = Calls(frozenset(tool.name for tool in callable_tools(ask)))
        self._refusal = Scrub()
        self._parser: Parser | None = None
        self._restorer: Restorer | None = None
        self._reasoning = False
        self._answered = False

    def take(self, events: Sequence[Event]) -> list[Event]:
        """These events, repaired where they need it."""
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(refusal=True):
                    out += self._refuse(event)
                case TextDelta() | ReasoningDelta():
                    out += self._said(event)
                case ToolCallDelta():
                    out += [*self._watch.release(), *self._calls.take(event)]
                case Finished():
                    out += self._finish(event)
                case Failed():
                    out += [*self._watch.release(), event]
                case _:
                    out.append(event)
        return out

    def __repr__(self) -> str:
        return f"<HarmonyFilter {self._parser or self._watch!r} {self._calls!r}>"

    def _refuse(self, event: TextDelta) -> list[Event]:
        self._answered = True
        text = self._refusal.feed(event.text)
        return [event] if text == event.text else [replace(event, text=text)] if text else []

    def _said(self, event: Said) -> Iterable[Event]:
        if self._parser is not None:
            return self._repair(self._parser, event)
        clean, leak = self._watch.take(event)
        self._note(clean)
        return clean if leak is None else [*clean, *self._take_over(leak)]

    def _note(self, deltas: Iterable[Event]) -> None:
        self._answered = self._answered or any(isinstance(d, TextDelta) and not d.text.isspace() for d in deltas)

    def _take_over(self, leak: Leak) -> list[Event]:
        """From here on the parser reads."""
        self._parser = parser = parser_for(self._ask, self._stem)
        self._reasoning = leak.reasoning
        passed = self._watch.passed
        parser.go_on(reasoning=passed.get(ReasoningDelta, ""), text=passed.get(TextDelta, ""))
        if leak.stripped:
            self._restorer = Restorer(at_start=leak.headless)
        if not leak.headless:
            parser.enter(_channel(reasoning=leak.reasoning), resumed=leak.resumed)
        return self._feed(parser, leak.text)

    def _repair(self, parser: Parser, event: Said) -> list[Event]:
        reasoning = isinstance(event, ReasoningDelta)
        out: list[Event] = []
        if reasoning is not self._reasoning:
            out += self._flush(parser)
            out += self._given(parser.enter(_channel(reasoning=reasoning), resumed=False))
            self._reasoning = reasoning
        return [*out, *self._feed(parser, event.text)]

    def _feed(self, parser: Parser, text: str) -> list[Event]:
        return self._given(parser.feed(text if self._restorer is None else self._restorer.feed(text)))

    def _flush(self, parser: Parser) -> list[Event]:
        return self._given(parser.feed(self._restorer.flush())) if self._restorer else []

    def _given(self, deltas: Iterable[Delta]) -> list[Event]:
        out: list[Event] = [self._calls.adopt(d) if isinstance(d, ToolCallDelta) else d for d in deltas]
        self._note(out)
        return out

    def _finish(self, finished: Finished) -> list[Event]:
        out: list[Event] = []
        reason = finished.reason
        if self._parser is None and reason is FinishReason.LENGTH and (leak := self._watch.cut_off()):
            out += self._take_over(leak)
        if self._parser is None:
            clean = self._watch.release()
            self._note(clean)
            out += clean
        else:
            out += self._flush(self._parser)
            out += self._given(self._parser.finish(reason))
            assert self._parser.turn is not None
            reason = self._parser.turn.reason
        out += self._calls.finish()
        if rest := self._refusal.flush():
            out.append(TextDelta(rest, refusal=True))
        if self._calls.count and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        elif not self._calls.count and reason is FinishReason.TOOL_CALLS:
            reason = FinishReason.STOP
        self.turn = self._judge(reason)
        return [*out, finished if reason is finished.reason else replace(finished, reason=reason)]

    def _judge(self, reason: FinishReason) -> Turn:
        read = self._parser.turn if self._parser else None
        undeclared = (*self._calls.undeclared, *(read.undeclared if read else ()))
        fault = None
        if self._calls.count:
            pass
        elif self._calls.undeclared:
            fault = Fault.UNDECLARED_TOOL
        elif read is not None:
            fault = read.fault
        elif reason is FinishReason.STOP:
            fault = Fault.NO_CALL if must_call(self._ask) else None if self._answered else Fault.EMPTY
        return Turn(reason, fault, undeclared)


def _channel(*, reasoning: bool) -> Channel:
    return Channel.ANALYSIS if reasoning else Channel.FINAL
