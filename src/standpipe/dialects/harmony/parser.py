"""A streaming parser of Harmony, the format in which gpt-oss writes: pieces of text in, events out.

A turn is a row of messages between control tokens. `analysis` is reasoning, `final` is the answer, `commentary` is a
preamble to the reader, and a message with a recipient is a tool call. Models often write something else. The theory of
this parser is that a turn is always worth something: it never fails, it reads what is there as what it can only mean,
and what has no meaning is left out. No control token ever gets into any field.

The parser knows where in the markup it is, `markup` what a header says, `body` what becomes of a message. It gives text
away as soon as its meaning is decided, and looks at every character a bounded number of times. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, StrEnum, auto

from msgspec import Struct

from standpipe.chat.ask import Tool
from standpipe.chat.events import Delta, FinishReason
from standpipe.dialects.harmony.body import CALLS, Body, EventWriter, MessageEnd, MessageKind, body_for
from standpipe.dialects.harmony.calls import LONGEST_NAME
from standpipe.dialects.harmony.markup import (
    ENDS_TURN,
    Channel,
    Cutter,
    Heading,
    Marker,
    Segment,
    is_header,
    read_header,
    starts_channel,
    starts_message,
    strip_markers,
)
from standpipe.dialects.harmony.stripped import begins_stripped, restore_markers


class TurnFault(StrEnum):
    """Why a whole turn is no answer. One more attempt is worth it, as long as nothing was sent to the client."""

    EMPTY = "empty"
    UNPARSABLE = "unparsable"
    """A call was written that cannot be read."""
    UNDECLARED_TOOL = "undeclared_tool"
    NO_CALL = "no_call"
    """A tool had to be called and was not."""


class TurnOutcome(Struct, frozen=True):
    """What a whole turn came to. `undeclared` names tools that were called and do not exist: for a log, at most."""

    reason: FinishReason
    fault: TurnFault | None = None
    undeclared: tuple[str, ...] = ()


class _Position(Enum):
    """Where in the markup the parser is."""

    OUTSIDE = auto()
    HEADER = auto()
    BODY = auto()
    PEEK = auto()
    """Inside a body, behind a marker that may open the next message."""
    DONE = auto()


_IN_HEADERS = frozenset({Marker.MESSAGE, Marker.CHANNEL, Marker.CONSTRAIN})


class HarmonyParser:
    """One turn. `feed` pieces, then `finish`; `turn` is there afterwards.

    `tools` are those that may be called. `stem` is unique to this turn: the ids of its calls are made of it. `forced`:
    a tool must be called, so an answer that is a call's JSON is one. `parallel`: more than one call may come.
    """

    __slots__ = (
        "_complete", "_cutter", "_forced", "_only_calls", "_opened", "_parallel", "_peeked", "_peeked_at", "_position",
        "_segments", "_stray", "_truncated", "_undeclared", "_writer", "turn",
    )  # fmt: skip

    def __init__(self, tools: Iterable[Tool], stem: str, *, forced: bool = False, parallel: bool = False) -> None:
        self.turn: TurnOutcome | None = None
        self._forced = forced
        self._parallel = parallel
        self._cutter = Cutter()
        self._writer = EventWriter(tools, stem, parallel=parallel)
        self._position = _Position.OUTSIDE
        self._segments: list[tuple[Marker, list[str]]] = []
        self._stray: list[str] = []
        self._peeked: list[str] = []
        self._peeked_at = Marker.START
        self._opened = False
        self._only_calls = False
        self._complete = False
        self._truncated = False
        self._undeclared: list[str] = []

    @property
    def done(self) -> bool:
        """Whether the turn is over: nothing that comes now says anything any more."""
        return self._position is _Position.DONE

    def go_on(self, *, reasoning: str, text: str) -> None:
        """What of this turn was given out already: the last characters of each, empty when there was none."""
        self._writer.go_on(reasoning=reasoning, text=text)

    @property
    def passes_text(self) -> bool:
        """Whether a piece without `<` is answer text as it stands, and need not be fed."""
        return self._position is _Position.BODY and self._writer.speaks and self._cutter.idle

    def feed(self, piece: str) -> list[Delta]:
        """Take a piece of what the model wrote; give what is decided."""
        if self._position is not _Position.DONE:
            self._take(self._cutter.feed(piece))
        return self._given()

    def enter(self, channel: Channel, *, resumed: bool, final: bool = True) -> list[Delta]:
        """What comes now is the body of a message on this channel, by the word of an engine that read its header.

        `resumed`: it goes on where something already given out left off. `final`: an answer, and all of it.
        """
        kind = MessageKind.REASONING if channel is Channel.ANALYSIS else MessageKind.TEXT
        self._let_go_tail()
        if self._position in (_Position.BODY, _Position.PEEK) and not self._writer.writes(kind):
            self._close(ended=False, whole=True)
        if self._position in (_Position.OUTSIDE, _Position.HEADER):
            self._begin(Body(kind, final=final and channel is Channel.FINAL), resumed=resumed)
        return self._given()

    def finish(self, reason: FinishReason | None = None) -> list[Delta]:
        """The model stopped, and why as far as the engine knows; give the rest, and set `turn`."""
        self._let_go_tail()
        self._end_turn(whole=reason in (FinishReason.STOP, FinishReason.TOOL_CALLS))
        self.turn = TurnOutcome(self._reason(reason), self._fault(reason), tuple(self._undeclared))
        return self._given()

    def __repr__(self) -> str:
        return f"<HarmonyParser {self._position.name} {self._writer!r}>"

    # What comes in, by where it comes.

    def _given(self) -> list[Delta]:
        out, self._writer.out = self._writer.out, []
        return out

    def _let_go_tail(self) -> None:
        """What looked like the start of a marker was none."""
        tail = self._cutter.flush()
        if tail:
            self._take([tail])

    def _take(self, pieces: Iterable[str | Marker]) -> None:
        for piece in pieces:
            if isinstance(piece, Marker):
                self._take_marker(piece)
            else:
                self._take_text(piece)

    def _take_text(self, text: str) -> None:
        match self._position:
            case _Position.OUTSIDE:
                self._stray.append(text)
            case _Position.HEADER:
                self._segments[-1][1].append(text)
            case _Position.BODY:
                self._writer.say(text)
            case _Position.PEEK:
                self._peeked.append(text)
                self._look(None)
            case _Position.DONE:
                pass

    def _take_marker(self, marker: Marker) -> None:
        if self._position is _Position.PEEK:
            self._look(marker)
        match self._position:
            case _Position.OUTSIDE:
                self._marker_outside(marker)
            case _Position.HEADER:
                self._marker_in_header(marker)
            case _Position.BODY:
                self._marker_in_body(marker)
            case _Position.PEEK | _Position.DONE:
                pass

    def _marker_outside(self, marker: Marker) -> None:
        """Everything but a stray marker opens a header or ends the turn; `<|start|>` may have been forgotten."""
        if marker in ENDS_TURN:
            self._end_turn()
        elif marker is Marker.START:
            self._set_aside()
            self._begin_header("")
        elif marker in _IN_HEADERS:
            text = "".join(self._stray)
            lost_start = is_header(text, self._writer.tools)
            if not lost_start:
                self._set_aside()
            self._stray.clear()
            self._begin_header(text if lost_start else "")
            self._marker_in_header(marker)
        elif self._opened and marker is Marker.END:
            self._set_aside()

    def _marker_in_header(self, marker: Marker) -> None:
        match marker:
            case Marker.MESSAGE:
                heading = self._heading()
                if " " in heading.loose:
                    self._stray.append(heading.loose)
                self._open(heading)
            case Marker.CHANNEL | Marker.CONSTRAIN:
                self._segments.append((marker, []))
            case Marker.START:
                self._end_header(whole=True)
                if not self.done:
                    self._begin_header("")
            case Marker.END:
                self._end_header(whole=True)
            case Marker.RETURN | Marker.CALL | Marker.ENDOFTEXT:
                self._end_turn()
            case Marker.OTHER:
                pass

    def _marker_in_body(self, marker: Marker) -> None:
        match marker:
            case Marker.START | Marker.CHANNEL:
                self._position = _Position.PEEK
                self._peeked_at = marker
            case Marker.END:
                self._close(ended=True, whole=True)
            case Marker.RETURN | Marker.CALL | Marker.ENDOFTEXT:
                self._end_turn()
            case Marker.MESSAGE | Marker.CONSTRAIN | Marker.OTHER:
                pass

    def _look(self, marker: Marker | None) -> None:
        """Decide whether what follows a marker inside a body opens the next message; `marker` stands behind it."""
        text = "".join(self._peeked)
        if self._peeked_at is Marker.START:
            opens = starts_message(text, self._writer.tools, marked=marker is not None)
        else:
            opens = starts_channel(text, marked=marker in _IN_HEADERS)
        if opens is None and marker is None:
            return
        self._peeked.clear()
        if not opens:
            self._position = _Position.BODY
            self._writer.say(strip_markers(text))
            return
        self._close(ended=False, whole=True)
        if self._position is _Position.DONE:
            return
        self._begin_header(text if self._peeked_at is Marker.START else "")
        if self._peeked_at is Marker.CHANNEL:
            self._segments.append((Marker.CHANNEL, [text]))

    # Headers.

    def _begin_header(self, role: str) -> None:
        self._position = _Position.HEADER
        self._segments = [(Marker.START, [role])]

    def _heading(self) -> Heading:
        return read_header([Segment(marker, "".join(texts)) for marker, texts in self._segments], self._writer.tools)

    def _end_header(self, *, whole: bool) -> None:
        """The header ends without `<|message|>`: what it holds may be the message."""
        heading = self._heading()
        self._position = _Position.OUTSIDE
        called = heading.tool is not None or heading.to not in (None, "assistant")
        if heading.other_role:
            self._end_turn()
            return
        if not heading.body and heading.loose:
            heading = Heading(Channel.ANALYSIS, body=heading.loose)
        if (called or whole) and (heading.body or (called and whole)):
            self._open(heading)
        if self._position is _Position.BODY:
            self._writer.say(strip_markers(heading.body))
            self._close(ended=True, whole=whole)

    def _open(self, heading: Heading) -> None:
        """A message begins; or the turn ends, because it is not the assistant's, or no call where only calls follow."""
        body = body_for(heading, forced=self._forced)
        if heading.other_role or (self._only_calls and body.kind not in CALLS):
            self._position = _Position.OUTSIDE
            self._end_turn()
            return
        if body.kind is MessageKind.DROP and heading.to is not None:
            self._undeclared.append(strip_markers(heading.to)[:LONGEST_NAME])
        self._begin(body)

    # Bodies, and the end.

    def _begin(self, body: Body, *, resumed: bool = False) -> None:
        self._set_aside()
        self._writer.begin(body, resumed=resumed)
        self._position = _Position.BODY
        self._opened = True

    def _close(self, *, ended: bool, whole: bool) -> None:
        self._peeked.clear()
        self._position = _Position.OUTSIDE
        close = self._writer.close(ended=ended, whole=whole)
        if close is MessageEnd.CUT:
            self._truncated = True
        elif close is MessageEnd.CALLED and self._parallel:
            self._only_calls = True
        elif close is not MessageEnd.OPEN:
            self._complete = True
            self._position = _Position.DONE

    def _set_aside(self) -> None:
        """What stands outside any message waits for what follows."""
        self._writer.set_aside(strip_markers("".join(self._stray)))
        self._stray.clear()

    def _end_turn(self, *, whole: bool = True) -> None:
        """Nothing that follows belongs to this turn."""
        if self._position is _Position.HEADER:
            self._truncated = not whole
            self._end_header(whole=whole)
        elif self._position in (_Position.BODY, _Position.PEEK):
            self._close(ended=whole, whole=whole)
        if self._position is _Position.DONE:
            return
        if not self._opened:
            self._end_unmarked(whole=whole)
        elif not self._only_calls:
            self._set_aside()
            self._writer.conclude()
        self._position = _Position.DONE

    def _end_unmarked(self, *, whole: bool) -> None:
        """A turn without any message in it is the answer, or one whose markers were stripped."""
        text = strip_markers("".join(self._stray))
        self._stray.clear()
        self._opened = True
        begins = begins_stripped(text)
        if begins or (begins is None and not whole):
            self._take(Cutter().feed(restore_markers(text)))
            self._end_turn(whole=whole)
        elif text.strip():
            self._begin(Body(MessageKind.TEXT, final=True))
            self._writer.say(text)
            self._close(ended=whole, whole=whole)

    def _reason(self, reason: FinishReason | None) -> FinishReason:
        if self._writer.calls:
            return FinishReason.TOOL_CALLS
        if reason is FinishReason.CONTENT_FILTER:
            return reason
        if self._truncated and not self._complete:
            return FinishReason.LENGTH
        return FinishReason.LENGTH if reason is FinishReason.LENGTH and not self._complete else FinishReason.STOP

    def _fault(self, reason: FinishReason | None) -> TurnFault | None:
        """Numbered by precedence: 1. calls, or a whole answer, are good. 2. A limit of the client's own is no fault."""
        if self._writer.calls or (self._complete and not self._forced):
            return None
        if self._undeclared:
            return TurnFault.UNDECLARED_TOOL
        if reason in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER):
            return None
        if self._writer.unparsable:
            return TurnFault.UNPARSABLE
        if self._forced:
            return TurnFault.NO_CALL
        return None if self._writer.answered else TurnFault.EMPTY
