"""Events of an engine that hands gpt-oss's Harmony over as it is, read into what it means.

Such an engine (llama.cpp with its own parsing switched off) knows only text and why it stopped. A reader stands behind
it: text in, reasoning, text and calls out, in the same batches. What a turn came to, and whether it is worth another
attempt, is a value beside the events; whoever pools engines decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from standpipe.chat.ask import Ask, Tool, ToolMode
from standpipe.chat.events import Event, Finished, TextDelta
from standpipe.dialects.harmony import Parser, Turn


def callable_tools(ask: Ask) -> tuple[Tool, ...]:
    """The tools that this ask lets the model call."""
    choice = ask.tool_choice
    if choice is None or choice.mode in (ToolMode.AUTO, ToolMode.REQUIRED):
        return ask.tools
    return tuple(tool for tool in ask.tools if choice.mode is ToolMode.NAMED and tool.name == choice.name)


def must_call(ask: Ask) -> bool:
    """Whether this ask wants a tool called in any case."""
    return ask.tool_choice is not None and ask.tool_choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)


def parser_for(ask: Ask, stem: str) -> Parser:
    """A parser for one answer to this ask. `stem`: letters and digits, unique to this attempt, for the calls' ids."""
    return Parser(callable_tools(ask), stem, forced=must_call(ask), parallel=ask.parallel_tool_calls is True)


class HarmonyReader:
    """One answer's events. `turn` is there once Finished has passed."""

    __slots__ = ("_parser",)

    def __init__(self, ask: Ask, stem: str) -> None:
        self._parser = parser_for(ask, stem)

    @property
    def turn(self) -> Turn | None:
        """What the turn came to, None while it goes on."""
        return self._parser.turn

    @property
    def done(self) -> bool:
        """Whether the turn is over in the model's own words: the engine may be stopped, what still comes is dropped."""
        return self._parser.done

    def take(self, events: Sequence[Event]) -> list[Event]:
        """What these events of the engine mean. Text that is answer as it stands passes as the same object."""
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text) if self._parser.passes_text and "<" not in text:
                    out.append(event)
                case TextDelta(text):
                    out += self._kept_logprobs(event, self._parser.feed(text))
                case Finished(reason, usage, timings):
                    out += self._parser.finish(reason)
                    assert self._parser.turn is not None
                    out.append(Finished(self._parser.turn.reason, usage, timings))
                case _:
                    out.append(event)
        return out

    @staticmethod
    def _kept_logprobs(event: TextDelta, given: Sequence[Event]) -> Sequence[Event]:
        """Log-probabilities stay with a text that came through unchanged; of control tokens they are nobody's."""
        if event.logprobs and len(given) == 1 and isinstance(only := given[0], TextDelta) and only.text == event.text:
            return [replace(only, logprobs=event.logprobs)]
        return given

    def __repr__(self) -> str:
        return f"<HarmonyReader {self._parser!r}>"
