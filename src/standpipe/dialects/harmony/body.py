"""What becomes of the messages of a Harmony turn: reasoning, text, a call, or nothing.

`EventWriter` is told by the parser which message begins, what it says and how it ends, and writes events. Here is
decided what is given at once and what is held: a call until it is whole, because half a call must never be seen; what
may be a call without a recipient until it is known; text outside any message until something follows, because then it
was reasoning, and if nothing follows it was the answer. Knows no markers, only that none may get out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from standpipe.chat.ask import Tool
from standpipe.chat.events import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from standpipe.dialects.harmony.calls import guess_call, is_object, parallel_calls, read_arguments, signatures
from standpipe.dialects.harmony.markup import (
    PARALLEL,
    Channel,
    Heading,
    completes_marker,
    strip_markers,
    unfinished_marker,
    worth_keeping,
)


class MessageKind(Enum):
    """What becomes of a message."""

    REASONING = auto()
    TEXT = auto()
    OPEN = auto()
    """Text or reasoning, unless it begins like a JSON object: then it is held as a guess."""
    CALL = auto()
    CALLS = auto()
    """Several calls in one envelope."""
    GUESS = auto()
    """A call if it fits exactly one declared tool."""
    LOOSE = auto()
    """Held until it is known whether something follows."""
    DROP = auto()


CALLS: Final = frozenset({MessageKind.CALL, MessageKind.CALLS})


class MessageEnd(Enum):
    """What the end of a message means for the turn."""

    OPEN = auto()
    """More may follow."""
    ANSWERED = auto()
    CALLED = auto()
    CUT = auto()
    """It broke off in the middle of a call."""


class Body(Struct, frozen=True):
    """A message: what becomes of it, and `otherwise` what does when it was no call after all.

    `tool` is who is called; `json` whether the header said that it is JSON. `final`: it is the answer, and ends the
    turn. `json_is_lost`: JSON that is no call is dropped, because it was meant as one.
    """

    kind: MessageKind
    otherwise: MessageKind = MessageKind.DROP
    tool: str = ""
    json: bool = False
    final: bool = False
    json_is_lost: bool = False


def body_for(heading: Heading, *, forced: bool) -> Body:
    """What becomes of a message with this heading.

    1. A declared tool is called, or several in an envelope: a call. 2. An undeclared one: nothing. 3. `to=` without a
    name: whatever tool fits. 4. Nothing but a content type: nothing. 5. Else by the channel; `to=assistant` is no tool,
    but JSON for it was meant as a call. 6. No known channel: held.
    """
    if heading.tool is not None:
        return Body(MessageKind.CALL, tool=heading.tool, json=heading.json)
    if heading.to == PARALLEL:
        return Body(MessageKind.CALLS)
    if heading.to == "":
        return Body(MessageKind.GUESS, json_is_lost=True)
    self_addressed = heading.to == "assistant"
    if heading.bare_type or (heading.to is not None and not self_addressed):
        return Body(MessageKind.DROP)
    match heading.channel:
        case Channel.FINAL:
            return Body(MessageKind.GUESS if forced else MessageKind.TEXT, otherwise=MessageKind.TEXT, final=True)
        case Channel.ANALYSIS if not self_addressed:
            return Body(MessageKind.REASONING)
        case Channel.ANALYSIS:
            return Body(MessageKind.OPEN, otherwise=MessageKind.REASONING, json_is_lost=True)
        case Channel.COMMENTARY:
            return Body(MessageKind.OPEN, otherwise=MessageKind.TEXT, json_is_lost=self_addressed)
        case None:
            return Body(MessageKind.OPEN, otherwise=MessageKind.LOOSE)


_BLANK_LINE: Final = "\n\n"


class EventWriter:
    """Writes one turn's events. `out` is what was decided since it was last emptied."""

    __slots__ = (
        "_body", "_held", "_join", "_kind", "_loose", "_parallel", "_said", "_spoke", "_stem", "_tails",
        "answered", "calls", "out", "tools", "unparsable",
    )  # fmt: skip

    def __init__(self, tools: Iterable[Tool], stem: str, *, parallel: bool) -> None:
        self.tools = signatures(tools)
        self.out: list[Delta] = []
        self.calls = 0
        self.answered = False
        """Whether anything but white space was said as text."""
        self.unparsable = False
        """Whether a call was lost, because what was written for it could not be read."""
        self._stem = stem
        self._parallel = parallel
        self._body = Body(MessageKind.DROP)
        self._kind = MessageKind.DROP
        self._held: list[str] = []
        self._loose: list[str] = []
        self._said: set[MessageKind] = set()
        self._tails: dict[MessageKind, str] = {}
        """The start of a marker with which each kind's text ended: a space keeps it from becoming one."""
        self._join = ""
        self._spoke = False

    @property
    def speaks(self) -> bool:
        """Whether text goes straight out as text, with nothing to be put before it."""
        return (
            self._kind is MessageKind.TEXT and self._spoke and not self._join and not self._tails.get(MessageKind.TEXT)
        )

    def writes(self, kind: MessageKind) -> bool:
        """Whether a message of this kind is open."""
        return self._kind is kind

    def go_on(self, *, reasoning: str, text: str) -> None:
        """What was given out already by somebody else: the last characters of each, empty when there was none."""
        for kind, last in ((MessageKind.REASONING, reasoning), (MessageKind.TEXT, text)):
            if last:
                self._said.add(kind)
                self._tails[kind] = last[len(last) - unfinished_marker(last) :]

    def begin(self, body: Body, *, resumed: bool = False) -> None:
        """A message begins. `resumed`: it goes on where something already given out left off."""
        if body.kind not in (MessageKind.DROP, MessageKind.LOOSE):
            self.settle()
        self._body, self._kind, self._spoke = body, body.kind, resumed
        self._held.clear()
        self._lead()
        if resumed:
            self._join = ""

    def say(self, text: str) -> None:
        """More of the open message. Holds no marker, but may join into one with what was said before."""
        match self._kind:
            case MessageKind.REASONING | MessageKind.TEXT:
                self._give(text)
            case MessageKind.OPEN:
                self._held.append(text)
                if text.strip():
                    self._decide_open()
            case MessageKind.CALL | MessageKind.CALLS | MessageKind.GUESS | MessageKind.LOOSE:
                self._held.append(text)
            case MessageKind.DROP:
                pass

    def close(self, *, ended: bool, whole: bool) -> MessageEnd:
        """The message is over. `ended`: by a marker of its own, or by the model. `whole`: not cut off."""
        text = strip_markers("".join(self._held))
        self._held.clear()
        close = MessageEnd.OPEN
        match self._kind:
            case MessageKind.CALL:
                close = self._call(text, whole=whole)
            case MessageKind.CALLS:
                close = self._several(text, whole=whole)
            case MessageKind.GUESS:
                close = self._guess(text)
            case MessageKind.LOOSE:
                self._loose.append(text)
        if close is MessageEnd.OPEN and ended and self._body.final and self._spoke:
            close = MessageEnd.ANSWERED
        self._body, self._kind = Body(MessageKind.DROP), MessageKind.DROP
        return close

    def set_aside(self, text: str) -> None:
        """Text outside any message."""
        if worth_keeping(text):
            self._loose.append(text)

    def settle(self) -> None:
        """Something follows: what was outside any message was reasoning."""
        self._let_go(MessageKind.REASONING)

    def conclude(self) -> None:
        """Nothing follows: what was outside any message was the answer."""
        self._let_go(MessageKind.TEXT)

    def __repr__(self) -> str:
        return f"<EventWriter {self._kind.name} calls={self.calls} held={len(self._held)}>"

    def _let_go(self, kind: MessageKind) -> None:
        texts, self._loose = self._loose, []
        for text in texts:
            self._kind, self._spoke = kind, False
            self._lead()
            self._give(text.strip())

    def _lead(self) -> None:
        """Blocks of the same kind are kept apart by a blank line."""
        self._join = _BLANK_LINE if self._kind in self._said else ""

    def _give(self, text: str) -> None:
        if not text:
            return
        blank = text.isspace()
        self._spoke = self._spoke or not blank
        self._said.add(self._kind)
        text = self._join + text
        self._join = ""
        if (tail := self._tails.get(self._kind)) and completes_marker(tail, text):
            text = " " + text
        self._tails[self._kind] = text[len(text) - unfinished_marker(text) :]
        if self._kind is MessageKind.REASONING:
            self.out.append(ReasoningDelta(text))
        else:
            self.answered = self.answered or not blank
            self.out.append(TextDelta(text))

    def _decide_open(self) -> None:
        """The first word of a message that may be a call."""
        text = "".join(self._held)
        may_be_call = text.lstrip().startswith("{") and (self.tools or self._body.json_is_lost)
        self._held.clear()
        self._kind = MessageKind.GUESS if may_be_call else self._body.otherwise
        self._lead()
        self.say(text)

    def _call(self, text: str, *, whole: bool) -> MessageEnd:
        name = self._body.tool
        found = read_arguments(text, name, self.tools[name], says_json=self._body.json, whole=whole)
        if found is not None:
            return self._give_call(name, found)
        self.unparsable = True
        return MessageEnd.OPEN if whole else MessageEnd.CUT

    def _several(self, text: str, *, whole: bool) -> MessageEnd:
        found = parallel_calls(text, self.tools, whole=whole)
        for name, arguments in found if self._parallel else found[:1]:
            self._give_call(name, arguments)
        if found:
            return MessageEnd.CALLED
        self.unparsable = True
        return MessageEnd.OPEN if whole else MessageEnd.CUT

    def _guess(self, text: str) -> MessageEnd:
        if "tool_uses" in text and parallel_calls(text, self.tools, whole=True):
            return self._several(text, whole=True)
        found = guess_call(text, self.tools)
        if found is not None:
            return self._give_call(*found)
        if self._body.json_is_lost and (self._body.otherwise is MessageKind.DROP or is_object(text)):
            self.unparsable = True
            return MessageEnd.OPEN
        self._kind = self._body.otherwise
        self._lead()
        if self._kind is MessageKind.LOOSE:
            self._loose.append(text)
        else:
            self._give(text)
        return MessageEnd.OPEN

    def _give_call(self, name: str, found: str) -> MessageEnd:
        call_id = f"call_{self._stem}{self.calls}"
        self.out.append(ToolCallDelta(self.calls, strip_markers(found), call_id, name))
        self.calls += 1
        return MessageEnd.CALLED
