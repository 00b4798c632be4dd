"""An OpenAI-compatible engine's answer to events, one decoder for each.

It takes what engines really send: a stream or a whole completion, whatever it is labelled; a first frame without
content, or none at all; reasoning under either name or both; frames of progress without text; usage in any frame;
comments; an error in the middle. It is strict in one thing: an answer is whole only if the engine gave a reason for
its end. Once it has, nothing that follows takes anything away from it.

Frames are read as the format says. What does not fit is read a second time, kindly: side fields that cannot be read
are left out (and told by name), and only what can be no content ends an answer.

`Started` comes with the first delta that says something, not with the first frame: as long as nothing was said,
another attempt may take this one's place. `Finished` comes with the end of the stream, because usage follows the
reason.
"""

from __future__ import annotations

from itertools import zip_longest
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Struct

import standpipe.chat.events as chat
from standpipe.chat.ask import Sampling
from standpipe.chat.errors import EngineBroke, EngineFailed
from standpipe.chat.events import Event, Finished, FinishReason, ReasoningDelta, Started, TextDelta, TokenLogprob
from standpipe.dialects.engine_output import ending, is_error, is_known, reason_word, shown_model, timings, usage
from standpipe.dialects.framing import LIMIT, FrameTooLarge, SseFrames
from standpipe.dialects.openai.calls import Calls, Piece, PieceFunction
from standpipe.dialects.openai.engine_frames import (
    FRAME,
    Choice,
    CompletionDetails,
    Delta,
    Frame,
    Odd,
    PromptDetails,
    Timings,
    Usage,
    read_kindly,
)
from standpipe.dialects.openai.faults import failure_in_stream
from standpipe.dialects.text_pieces import Halves, StopText

_ANY = Sampling()


class _TopLogprob(Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[_TopLogprob, ...] | None = None


class _Logprobs(Struct):
    content: tuple[_TopLogprob, ...] | None = None
    refusal: tuple[_TopLogprob, ...] | None = None


class _LegacyLogprobs(Struct):
    """Those of completions, whose first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class Decoder:
    """One answer. `feed` it every read, in order, then `end` it.

    Both raise the failure that the engine reported, or EngineFailed for what is nonsense or not whole. After that the
    decoder must not be used.

    Args:
        mark: letters and digits that tell this answer's made-up tool call ids from those of other answers.
        sampling: what was asked for: log-probabilities, and stop strings. Where the client wants to know which of
            these it was, they are found here, and must not be sent to the engine.
        odd: is told the name of whatever had to be left out.
    """

    __slots__ = (
        "_calls", "_frames", "_halves", "_mark", "_model", "_odd", "_sampling", "_size", "_spoke", "_started", "_stop",
        "_stop_text", "_streams", "_thought", "_timings", "_usage", "_whole", "_whole_said", "_word", "done",
    )  # fmt: skip

    def __init__(self, mark: str = "", sampling: Sampling = _ANY, odd: Odd = lambda _: None) -> None:
        self.done = False
        """Whether Finished has come out: the engine's connection is not needed any more."""
        self._frames = SseFrames()
        self._streams: bool | None = None  # or is it one whole completion? None before the first byte
        self._whole: list[bytes] = []
        self._size = 0  # bytes before it was known
        self._mark = mark
        self._odd = odd
        self._sampling = sampling
        # Beside log-probabilities a piece of text cannot be kept back: there engines are trusted with stop strings.
        found_here = sampling.tell_stop or (sampling.stop and not sampling.logprobs)
        self._stop_text = StopText(sampling.stop) if found_here else None
        self._calls: Calls | None = None  # most answers call nothing
        self._halves: dict[object, Halves] | None = None  # most engines cut no characters
        self._started = self._spoke = self._thought = self._whole_said = False
        self._model: str | None = None
        self._word = ""  # why it ended
        self._stop: str | None = None
        self._usage: chat.Usage | None = None
        self._timings: Timings | None = None

    @property
    def over(self) -> bool:
        """Whether the engine has told why it ended: what it does from now on takes nothing away."""
        return bool(self._word)

    def feed(self, read: bytes) -> list[Event]:
        """The events in these bytes, in legal order."""
        if not self._streams:
            read = self._streamed(read)
        try:
            frames = self._frames.feed(read)
        except FrameTooLarge:
            raise _too_large() from None
        events: list[Event] = []
        for frame in frames:
            if self.done:
                break
            if frame == b"[DONE]":
                self._finish(events)
            else:
                self._take(frame, events)
        return events if self._started else self._begun(events)

    def end(self) -> list[Event]:
        """The engine's body has ended: what had to wait for that. An engine need not send `[DONE]`."""
        if self.done:
            return []
        whole = b"".join(self._whole).removeprefix(b"\xef\xbb\xbf")
        events: list[Event] = []
        for frame in [whole] if whole else self._frames.end():
            self._take(frame, events)
        if not self.done:
            self._finish(events)
        return self._begun(events)

    def _streamed(self, read: bytes) -> bytes:
        """As much as belongs to a stream; nothing while that is not known, or of a whole completion, which is kept."""
        if self._streams is None and (start := read.lstrip(b"\xef\xbb\xbf \t\r\n")):
            self._streams = not start.startswith(b"{")
        self._whole.append(read)
        self._size += len(read)
        if self._size > LIMIT:
            raise _too_large()
        if not self._streams:
            return b""
        read = b"".join(self._whole)
        self._whole.clear()
        return read

    def _begun(self, events: list[Event]) -> list[Event]:
        if events and not self._started:
            self._started = True
            events.insert(0, Started(self._model))
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        try:
            frame = FRAME.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if data.strip() == b"[DONE]":
                return self._finish(events)
            found = self._read_kindly(data)
            if found is None:
                return None
            frame = found
        if frame.error or (frame.choices is None and b'"object":"error"' in data.replace(b" ", b"")):
            self._fail(frame, data)
        if frame.usage is not None:
            self._count(frame.usage)
        self._timings = frame.timings or self._timings
        for choice in frame.choices or ():
            if choice.index:
                continue  # one answer was asked for
            if choice.delta is not None:
                self._say(choice.delta, choice.logprobs, events)
            elif choice.message is not None or choice.text:
                self._say_whole(choice, events)
            if choice.finish_reason and not self._word:
                self._end(choice.finish_reason)
            if choice.stop_reason is not None and choice.stop_reason in self._sampling.stop:
                self._stop = choice.stop_reason
            if choice.usage is not None:
                self._count(choice.usage)
        if self._model is None and frame.model:
            self._model = shown_model(frame.model)
        return None

    def _read_kindly(self, data: bytes) -> Frame | None:
        """None for what is to be passed over: keep-alives at any time, and everything once the answer is over."""
        if data.strip() in {b"", b"null"}:
            return None
        frame = read_kindly(data, self._odd)
        if frame is not None:
            self._halves = {} if self._halves is None else self._halves
        elif self._word:
            self._odd("frame")
        elif b'"error"' in data:
            raise failure_in_stream(data)
        else:
            raise EngineFailed("The engine sent an unreadable event.")
        return frame

    def _fail(self, frame: Frame, data: bytes) -> None:
        """Raises what the engine reports, but not when the answer is over, nor when it reports nothing."""
        if not self._word and (not frame.error or is_error(frame.error)):
            raise failure_in_stream(data)

    def _end(self, reason: str) -> None:
        self._word = reason_word(reason)
        if self._word and not is_known(self._word):
            self._odd("finish_reason")

    def _say_whole(self, choice: Choice, events: list[Event]) -> None:
        """What came as a whole message, or as a text. Behind deltas it only repeats them."""
        if self._spoke and not self._whole_said:
            return
        self._whole_said = True
        self._say(choice.message or Delta(content=choice.text), choice.logprobs, events)

    def _say(self, delta: Delta, logprobs: Any, events: list[Event]) -> None:
        if self._halves is not None:
            self._join(delta)
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._thought = True
            events.append(ReasoningDelta(reasoning))
        wanted = logprobs if logprobs and self._sampling.logprobs else None
        if delta.content or (wanted and delta.content is not None):
            event = TextDelta(delta.content, self._tokens(wanted, "content") if wanted else ())
            if self._stop_text is None:
                self._spoke = True
                events.append(event)
            else:
                self._say_until_stop(self._stop_text, event, events)
        if delta.refusal:
            self._spoke = True
            refused = self._tokens(wanted, "refusal") if wanted else ()
            events.append(TextDelta(delta.refusal, refused, refusal=True))
        if delta.tool_calls:
            self._call(delta.tool_calls, events)
        elif delta.function_call is not None:
            self._call([Piece(0, function=delta.function_call)], events)

    def _say_until_stop(self, stop_text: StopText, event: TextDelta, events: list[Event]) -> None:
        self._spoke = True
        goes_on = stop_text.done
        text = stop_text.take(event.text)
        if text or not event.text:
            events.append(event if text == event.text else TextDelta(text))
        # One that was given the stop strings and wrote one out, as `transformers serve` does, still has usage to tell.
        if stop_text.done and (goes_on or self._sampling.tell_stop) and not self.done:
            self._finish(events)

    def _call(self, pieces: list[Piece], events: list[Event]) -> None:
        calls = self._calls = self._calls or Calls(self._mark)
        events.extend(call for piece in pieces if (call := calls.take(piece)))

    def _join(self, delta: Delta, *, last: bool = False) -> None:
        """Put halves of characters together, each text by itself."""
        assert self._halves is not None
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            if (text := getattr(delta, name)) is not None:
                setattr(delta, name, self._halves.setdefault(name, Halves()).take(text, last=last))
        for piece in delta.tool_calls or ():
            if piece.function and isinstance(piece.function.arguments, str):
                halves = self._halves.setdefault(piece.index or 0, Halves())
                piece.function.arguments = halves.take(piece.function.arguments, last=last)

    def _count(self, told: Usage) -> None:
        """Keep the latest usage that can be. Zeros come from engines that have not counted, or never do."""
        if not (told.prompt_tokens or told.completion_tokens):
            return
        counted = usage(
            told.prompt_tokens,
            told.completion_tokens,
            reasoning=(told.completion_tokens_details or CompletionDetails()).reasoning_tokens,
            cached=(told.prompt_tokens_details or PromptDetails()).cached_tokens,
        )
        self._usage = counted or self._usage

    def _finish(self, events: list[Event]) -> None:
        self.done = True
        if self._halves is not None:
            self._say(self._last_halves(self._halves), None, events)
        stop_text = self._stop_text
        if stop_text is not None:
            if stop_text.found is not None:
                self._word, self._stop = "stop", stop_text.found
            elif kept := stop_text.flush():
                events.append(TextDelta(kept))
        if not self._word:
            raise EngineBroke("The engine ended its answer before it was complete.")
        called = self._calls is not None and self._calls.finish()
        reason = ending(self._word, spoke=self._spoke, called=called, thought=self._thought)
        if self._calls is not None and reason is FinishReason.TOOL_CALLS:
            events += self._calls.without_arguments()
        events.append(Finished(reason, self._usage or _counted(self._timings), _seconds(self._timings), self._stop))

    def _last_halves(self, halves: dict[object, Halves]) -> Delta:
        """What is left of characters that will not come any more."""
        calls = [Piece(index, function=PieceFunction(arguments="")) for index in halves if isinstance(index, int)]
        last = Delta("", "", "", "", calls)
        self._join(last, last=True)
        self._halves = None
        return last

    def _tokens(self, logprobs: Any, kind: str) -> tuple[TokenLogprob, ...]:
        """Log-probabilities, with as many rivals as were asked for. In any shape but OpenAI's they are left out."""
        most = self._sampling.top_logprobs or 0
        try:
            if isinstance(logprobs, dict) and "tokens" in logprobs:
                return _from_legacy(msgspec.convert(logprobs, _LegacyLogprobs), most)
            found = getattr(msgspec.convert(logprobs, _Logprobs), kind)
        except msgspec.ValidationError:
            self._odd("logprobs")
            return ()
        return tuple(_ours(token, tuple(map(_ours, (token.top_logprobs or ())[:most]))) for token in found or ())


def _ours(token: _TopLogprob, rivals: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token.token, token.logprob, token.bytes, rivals)


def _from_legacy(found: _LegacyLogprobs, most: int) -> tuple[TokenLogprob, ...]:
    tokens = zip_longest(found.tokens, found.token_logprobs, found.top_logprobs or ())
    return tuple(
        TokenLogprob(token, logprob, None, tuple(TokenLogprob(*rival) for rival in _best(rivals or {}, most)))
        for token, logprob, rivals in tokens
        if token is not None and logprob is not None
    )


def _best(rivals: dict[str, float], most: int) -> list[tuple[str, float]]:
    return sorted(rivals.items(), key=itemgetter(1), reverse=True)[:most]


def _seconds(told: Timings | None) -> chat.Timings | None:
    if told is None or told.prompt_ms is None or told.predicted_ms is None:
        return None
    return timings(told.prompt_ms / 1000, told.predicted_ms / 1000)


def _counted(told: Timings | None) -> chat.Usage | None:
    """llama.cpp counts in its timings as well, also of an answer that was stopped from here."""
    if told is None or told.prompt_n is None or told.predicted_n is None:
        return None
    cached = told.cache_n or 0
    return usage(told.prompt_n + cached, told.predicted_n, cached=cached)


def _too_large() -> EngineFailed:
    return EngineFailed(f"The engine sent an event of more than {LIMIT} bytes.")
