"""A stream that outlives its engine: what was sent of an answer, and how another engine goes on with it.

It stands between the attempts at one ask and the sink of a client who has seen what came. It keeps what was said, makes
of it the beginning of a turn, and joins what the next engine says so that at the seam nothing is doubled or lost. White
space there is the difficulty: templates strip it from the end of a text, and models write it before the next word.
So none is given back, and what comes is held against what was sent.

Only text and reasoning are gone on with, in this order: half a call, half a JSON or a token's probability has no seam.
Must not know which engine goes on, nor decide whether one does.
"""

from __future__ import annotations

from io import StringIO

from msgspec.structs import replace

from standpipe.chat.ask import Ask, Beginning, FormatKind, Role
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.text_pieces import StopText
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Sink, SinkWrapper


class StoppedAtSeam(Exception):
    """A stop string lay over the seam: the answer is whole, and the engine still writes. Raised to stop it."""


def has_no_seam(ask: Ask) -> bool:
    """Whether no answer to this ask could be gone on with."""
    if ask.raw or ask.must_call or ask.sampling.logprobs or ask.format.kind is not FormatKind.TEXT:
        return True
    return bool(ask.messages) and ask.messages[-1].role is Role.ASSISTANT  # the turn was begun by the client


class Continued(SinkWrapper):
    """The client's sink, over all attempts at one ask. `go_on` between one that has spoken and the next."""

    def __init__(self, ask: Ask, sink: Sink, report: Report) -> None:
        """`report` is told how often it went on."""
        super().__init__(sink)
        self._report = report
        self._ask = ask
        self._reasoning = StringIO()
        self._text = StringIO()
        self.tokens = self._thoughts = 0
        """Deltas that were sent, and those of reasoning among them: engines send one for each token."""
        self._plain = True
        self._seam: _Seam | None = None

    @property
    def begun(self) -> Beginning | None:
        """What another engine is to go on with; None where that is nothing that can be gone on with."""
        if not self._plain:
            return None
        reasoning, text = self._reasoning.getvalue(), self._text.getvalue()
        # White space that ends a text is not given back. Reasoning behind which text came is whole as it is.
        return Beginning(reasoning, text.rstrip()) if text.rstrip() else Beginning(reasoning.rstrip())

    def go_on(self, begun: Beginning) -> Ask | None:
        """The engine has died. Gives what to ask the next one; None where the answer was at its limit, and now ends.

        The client is told that it is waited for.
        """
        sampling = self._ask.sampling
        left = None if sampling.max_tokens is None else sampling.max_tokens - self.tokens
        if left is not None and left <= 0:
            self._sink.take([Finished(FinishReason.LENGTH)])
            return None
        sent = Usage(0, self.tokens, self._thoughts)
        self._seam = _Seam(begun, self._reasoning.getvalue(), self._text.getvalue(), sent, sampling.stop)
        self._sink.take([Waiting()])
        said = begun if begun.reasoning or begun.text else None
        return replace(self._ask, begun=said, sampling=replace(sampling, max_tokens=left))

    def take(self, events: list[Event]) -> None:
        seam = self._seam
        if seam is not None:
            if not seam.passed:
                seam.passed = True
                self._report.continued += 1
            events = seam.joined(events)
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                self._text.write(event.text)  # type: ignore[union-attr]
                self.tokens += 1
                self._plain = self._plain and not event.refusal  # type: ignore[union-attr]
            elif kind is ReasoningDelta:
                self._reasoning.write(event.text)  # type: ignore[union-attr]
                self.tokens += 1
                self._thoughts += 1
                self._plain = self._plain and not self._text.tell()
            elif kind is ToolCallDelta:
                self._plain = False
        self._sink.take(events)
        if seam is not None and seam.stopped:
            raise StoppedAtSeam


class _Seam:
    """Joins what one engine says to what was sent before."""

    def __init__(self, begun: Beginning, reasoning: str, text: str, usage: Usage, stop: tuple[str, ...]) -> None:
        """`reasoning`, `text` and `usage` are of what was sent."""
        self._begun = begun
        self._usage = usage
        self._thought = _Space(reasoning[len(begun.reasoning) :])
        self._said = _Space(text[len(begun.text) :])
        self._stop: _StopOverSeam | None = _StopOverSeam(stop, text) if stop and text else None
        self.passed = False
        """Something has come."""
        self.stopped = False
        """A stop string has ended the answer."""

    def joined(self, events: list[Event]) -> list[Event]:
        """The events as they go on behind what was sent."""
        out: list[Event] = []
        for event in events:
            if self.stopped:
                break
            match event:
                case Started():
                    pass
                case TextDelta(text):
                    self._end_reasoning(out)
                    self._say(event, self._said.take(text), out)
                case ReasoningDelta(text):
                    if self._begun.text:
                        raise EngineFailed("The engine began anew instead of going on with its answer.")
                    if text := self._thought.take(text):
                        out.append(replace(event, text=text))
                case Finished():
                    self._end(out)
                    usage = None if event.usage is None else _summed(self._usage, event.usage)
                    out.append(replace(event, usage=usage, timings=None))  # it tells of its own time only
                case _:
                    self._end(out)
                    out.append(event)
        return out

    def _say(self, event: TextDelta, text: str, out: list[Event]) -> None:
        if self._stop is not None:
            text = self._stop.take(text)
        if text:
            out.append(event if text == event.text else replace(event, text=text))
        if self._stop is not None and self._stop.over:
            found, self._stop = self._stop.found, None
            if found is not None:
                self.stopped = True
                out.append(Finished(FinishReason.STOP, stop=found))

    def _end_reasoning(self, out: list[Event]) -> None:
        if rest := self._thought.end():
            out.append(ReasoningDelta(rest))

    def _end(self, out: list[Event]) -> None:
        """No more text comes: what was kept back of it."""
        self._end_reasoning(out)
        rest = self._said.end()
        if self._stop is not None:
            rest, self._stop = self._stop.take(rest) + self._stop.flush(), None
        if rest:
            out.append(TextDelta(rest))


class _Space:
    """White space at the seam of one text: what was `sent` of it, and what the engine begins with."""

    def __init__(self, sent: str) -> None:
        self._sent = sent
        self._comes: str | None = ""
        """None once the first word has come."""

    def take(self, piece: str) -> str:
        """The piece as it goes on; nothing while there is no word in what came."""
        if self._comes is None:
            return piece
        self._comes += piece
        word = self._comes.lstrip()
        return self._joined(word) if word else ""

    def end(self) -> str:
        """What is left, now that no word comes."""
        return "" if self._comes is None else self._joined("")

    def _joined(self, word: str) -> str:
        """The word behind as much of its white space as the client does not have."""
        assert self._comes is not None
        comes, self._comes = self._comes[: len(self._comes) - len(word)], None
        if comes.startswith(self._sent):
            return comes[len(self._sent) :] + word
        # The client has other white space. Where that ends no line, an end of a line is still to come.
        return comes + word if "\n" in comes and "\n" not in self._sent else word


def _summed(sent: Usage, told: Usage) -> Usage:
    """The whole answer's: the engine has counted what was sent before as prompt."""
    prompt = max(0, told.prompt_tokens - sent.completion_tokens)
    return Usage(
        prompt,
        sent.completion_tokens + told.completion_tokens,
        None if told.reasoning_tokens is None else (sent.reasoning_tokens or 0) + told.reasoning_tokens,
        None if told.cached_tokens is None else min(told.cached_tokens, prompt),
    )


class _StopOverSeam:
    """Stop strings that begin in the text that was sent and end in what comes: no engine can find them.

    `over` once none can, or one was found; those that lie in what comes alone are the engine's to find.
    """

    def __init__(self, stops: tuple[str, ...], sent: str) -> None:
        self._text = StopText(stops)
        tail = sent[-max(map(len, stops)) :]
        self._owed = len(tail) - len(self._text.take(tail))
        """Characters that were sent and may be part of one."""
        self.over = self._text.done or not self._owed
        self.found: str | None = None

    def take(self, piece: str) -> str:
        """What of this text can be given."""
        if self.over:
            return piece
        text = self._given(self._text.take(piece))
        if self._text.done:
            self.over, self.found = True, self._text.found
        elif not self._owed:
            self.over = True
            text += self._text.flush()
        return text

    def flush(self) -> str:
        """What was kept back, now that no more text comes."""
        return self._given(self._text.flush())

    def _given(self, text: str) -> str:
        """Without what was sent before."""
        sent = min(self._owed, len(text))
        self._owed -= sent
        return text[sent:]
