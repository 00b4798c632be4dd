"""A filter for engines that read Harmony themselves and sometimes leak it.

Clean streams pass untouched, as the same event objects. When a leak is found, the rest of the turn goes through our own
parser, which goes on where the engine's left off: an engine's delta says whether it took its text for reasoning or for
the answer, and the markup in it says what it really was.

`LeakWatch` looks for leaks. A delta is kept back only while its end may become a control token or a stripped header,
which in running text is next to never; then it is let go as the same object. Once a whole one has come there is a
`Leak`, and the watch is over: what was kept back goes with it.

Pure. Knows no engine and no sink.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
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
from standpipe.dialects.harmony.calls import DeclaredCalls, MarkerStripper
from standpipe.dialects.harmony.markup import Channel, find_marker, is_header, is_noise, unfinished_marker
from standpipe.dialects.harmony.parser import HarmonyParser, TurnFault, TurnOutcome
from standpipe.dialects.harmony.raw import parser_for
from standpipe.dialects.harmony.stripped import (
    MarkerRestorer,
    begins_stripped,
    has_stripped_header,
    unfinished_header,
)


class HarmonyFilter:
    """One answer's events. `turn` is there once Finished has passed."""

    __slots__ = (
        "_answered", "_ask", "_calls", "_parser", "_reasoning", "_refusal", "_restorer", "_stem", "_watch", "turn",
    )  # fmt: skip

    def __init__(self, ask: Ask, stem: str) -> None:
        self.turn: TurnOutcome | None = None
        self._ask = ask
        self._stem = stem
        self._watch = LeakWatch()
        self._calls = DeclaredCalls(frozenset(tool.name for tool in ask.callable_tools))
        self._refusal = MarkerStripper()
        self._parser: HarmonyParser | None = None
        self._restorer: MarkerRestorer | None = None
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
            self._restorer = MarkerRestorer(at_start=leak.headless)
        if not leak.headless:
            # Only what follows reasoning is known to be the answer: a turn without any may have lost a header.
            final = not leak.reasoning and ReasoningDelta in passed
            parser.enter(_channel(reasoning=leak.reasoning), resumed=leak.resumed, final=final)
        return self._feed(parser, leak.text)

    def _repair(self, parser: HarmonyParser, event: Said) -> list[Event]:
        reasoning = isinstance(event, ReasoningDelta)
        out: list[Event] = []
        if reasoning is not self._reasoning:
            out += self._flush(parser)
            out += self._given(parser.enter(_channel(reasoning=reasoning), resumed=False))
            self._reasoning = reasoning
        return [*out, *self._feed(parser, event.text)]

    def _feed(self, parser: HarmonyParser, text: str) -> list[Event]:
        return self._given(parser.feed(text if self._restorer is None else self._restorer.feed(text)))

    def _flush(self, parser: HarmonyParser) -> list[Event]:
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

    def _judge(self, reason: FinishReason) -> TurnOutcome:
        read = self._parser.turn if self._parser else None
        undeclared = (*self._calls.undeclared, *(read.undeclared if read else ()))
        fault = None
        if self._calls.count:
            pass
        elif self._calls.undeclared:
            fault = TurnFault.UNDECLARED_TOOL
        elif read is not None:
            fault = read.fault
        elif reason is FinishReason.STOP:
            fault = TurnFault.NO_CALL if self._ask.must_call else None if self._answered else TurnFault.EMPTY
        return TurnOutcome(reason, fault, undeclared)


def _channel(*, reasoning: bool) -> Channel:
    return Channel.ANALYSIS if reasoning else Channel.FINAL


Said = TextDelta | ReasoningDelta

_CONTEXT: Final = 40
"""Characters said before in which a marker or a stripped header may have begun."""
_BEGINNING: Final = 64
"""Characters in which a text shows whether it begins like a stripped turn."""


class Leak(Struct, frozen=True):
    """Text with Harmony in it, and where it came: as reasoning or answer, and whether any of that had passed before.

    `headless`: the text begins like a turn does, before any header. `stripped`: it is words, not markers, that leaked.
    """

    text: str
    reasoning: bool
    resumed: bool
    headless: bool
    stripped: bool


class LeakWatch:
    """One answer's text. `passed` has the last characters that were let go, by the kind of their delta."""

    __slots__ = ("_beginning", "_context", "_kept", "_kind", "_suspect", "passed")

    def __init__(self) -> None:
        self.passed: dict[type[Said], str] = {}
        self._kind: type[Said] = TextDelta
        self._kept: list[Said] = []
        self._context = ""
        self._beginning: str | None = ""
        """What the text began with; None once it is known to begin neither like a stripped turn nor with noise."""
        self._suspect = False
        """It begins with *analysis* glued to a word: all is kept until a second header confirms it."""

    def take(self, event: Said) -> tuple[list[Said], Leak | None]:
        """Take a delta. Give the deltas that are clean, and the leak when there is one."""
        clean = self._turn_to(type(event))
        window = self._context + event.text
        marker = find_marker(window) is not None
        if marker or has_stripped_header(window) or self._begins_stripped(event.text):
            return clean, self._leak(event, words_only=not marker)
        self._kept.append(event)
        self._context = window[-_CONTEXT:]
        if self._beginning is None and not self._suspect:
            clean += self._let_go(max(unfinished_marker(window), unfinished_header(window)))
        return clean, None

    def release(self) -> list[Said]:
        """What was kept back, now that no more comes: it was clean after all."""
        return self._let_go(0)

    def cut_off(self) -> Leak | None:
        """The stream was cut off while all of it was kept: then what began like analysis was."""
        return self._leak(TextDelta(""), words_only=True, headless=True) if self._suspect else None

    def __repr__(self) -> str:
        return f"<LeakWatch keeps {len(self._kept)}>"

    def _turn_to(self, kind: type[Said]) -> list[Said]:
        """From reasoning to answer or back: what was kept of the one is decided."""
        if kind is self._kind and (self._kept or kind in self.passed):
            return []
        kept = self.release()
        self._kind = kind
        self._context = self.passed.get(kind, "")
        self._beginning = None if kind in self.passed else ""
        self._suspect = False
        return kept

    def _begins_stripped(self, text: str) -> bool:
        if self._beginning is None or self._suspect:
            return False
        self._beginning += text
        begins = begins_stripped(self._beginning)
        self._suspect = begins is None and len(self._beginning) > _BEGINNING
        decided = len(self._beginning) - unfinished_marker(self._beginning)
        if begins is True or (begins is False and not is_noise(self._beginning[:decided])):
            self._beginning = None
        return begins is True

    def _let_go(self, keep: int) -> list[Said]:
        """The deltas before those that hold the last `keep` characters."""
        at = len(self._kept)
        while keep > 0 and at:
            at -= 1
            keep -= len(self._kept[at].text)
        clean, self._kept = self._kept[:at], self._kept[at:]
        for said in clean:
            self.passed[self._kind] = (self.passed.get(self._kind, "") + said.text)[-_CONTEXT:]
        return clean

    def _leak(self, event: Said, *, words_only: bool, headless: bool = False) -> Leak:
        text = "".join(said.text for said in (*self._kept, event))
        self._kept.clear()
        resumed = self._kind in self.passed
        if not resumed and not headless:
            marker = find_marker(text)
            before = text[: marker.start()] if marker else None
            opens = before is not None and (is_header(before, ()) or is_noise(before))
            headless = opens or begins_stripped(text) is True
        return Leak(text, self._kind is ReasoningDelta, resumed, headless, words_only)
