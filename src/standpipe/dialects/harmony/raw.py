"""Events of an engine that hands gpt-oss's Harmony over as it is, read into what it means.

Such an engine (llama.cpp with its own parsing switched off) knows only text and why it stopped. A reader stands behind
it: text in, reasoning, text and calls out, in the same batches. What a turn came to, and whether it is worth another
attempt, is a value beside the events; whoever pools engines decides.

Stop strings are found here, in the answer: an engine would look for them in headers and in reasoning, too, and a blank
line for a stop string would end the turn before the answer began.

Pure. Knows no engine and no sink.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.events import Delta, Event, Finished, FinishReason, TextDelta
from standpipe.dialects.harmony.markup import Channel
from standpipe.dialects.harmony.parser import HarmonyParser, TurnOutcome
from standpipe.dialects.text_pieces import StopText


def parser_for(ask: Ask, stem: str) -> HarmonyParser:
    """A parser for one answer to this ask. `stem`: letters and digits, unique to this attempt, for the calls' ids."""
    return HarmonyParser(ask.callable_tools, stem, forced=ask.must_call, parallel=ask.parallel_tool_calls is True)


class HarmonyReader:
    """One answer's events. `turn` is there once Finished has passed.

    Stop strings are looked for here, in the answer, and must not be sent to the engine: it would find them in headers.
    """

    __slots__ = ("_parser", "_stop", "turn")

    def __init__(self, ask: Ask, stem: str) -> None:
        self.turn: TurnOutcome | None = None
        self._parser = parser_for(ask, stem)
        if (begun := ask.begun) is not None:
            self._parser.go_on(reasoning=begun.reasoning, text=begun.text)
            self._parser.enter(Channel.FINAL if begun.text else Channel.ANALYSIS, resumed=True)
        self._stop = StopText(ask.sampling.stop)

    @property
    def done(self) -> bool:
        """Whether the turn is over by its own words or by a stop string: the engine may be stopped."""
        return self._parser.done or self._stop.done

    def take(self, events: Sequence[Event]) -> list[Event]:
        """What these events of the engine mean. Text that is answer as it stands passes as the same object."""
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text) if self._parser.passes_text and "<" not in text:
                    out += self._until_stop(event)
                case TextDelta(text):
                    for delta in self._parser.feed(text):
                        out += self._until_stop(_with_logprobs(delta, event))
                case Finished():
                    out += self._finish(event)
                case _:
                    out.append(event)
        return out

    def __repr__(self) -> str:
        return f"<HarmonyReader {self._parser!r} {self._stop!r}>"

    def _until_stop(self, delta: Delta) -> list[Event]:
        if not isinstance(delta, TextDelta):
            return [] if self._stop.done else [*self._kept_back(), delta]
        text = self._stop.take(delta.text)
        if text == delta.text:
            return [delta]
        return [TextDelta(text)] if text else []

    def _kept_back(self) -> list[Event]:
        kept = self._stop.flush()
        return [TextDelta(kept)] if kept else []

    def _finish(self, finished: Finished) -> list[Event]:
        out: list[Event] = []
        for delta in self._parser.finish(finished.reason):
            out += self._until_stop(delta)
        out += self._kept_back()
        self.turn = self._parser.turn
        assert self.turn is not None
        if self._stop.done:
            self.turn = TurnOutcome(FinishReason.STOP)
            return [*out, replace(finished, reason=FinishReason.STOP, stop=self._stop.found)]
        return [*out, finished if self.turn.reason is finished.reason else replace(finished, reason=self.turn.reason)]


def _with_logprobs(delta: Delta, event: TextDelta) -> Delta:
    """Log-probabilities stay with a text that came through unchanged; those of control tokens are nobody's."""
    if event.logprobs and isinstance(delta, TextDelta) and delta.text == event.text:
        return replace(delta, logprobs=event.logprobs)
    return delta
