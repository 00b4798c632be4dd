"""Harmony's markup: the control tokens as text, cutting a stream at them, and reading what a header says.

gpt-oss writes turns in Harmony: messages between control tokens such as `<|channel|>` and `<|end|>`. Engines that do
not parse it hand the tokens over as text, in pieces of any size. A `Cutter` turns such pieces into an alternation of
plain text and markers. It gives text away as soon as it cannot become a marker any more: what it keeps back is at most
one unfinished `<|name`, so it neither delays a stream nor grows.

A header is what stands between `<|start|>` and `<|message|>`; the markers inside it cut it into segments. Well-formed
ones are `assistant<|channel|>analysis` and `<|channel|>commentary to=functions.NAME <|constrain|>json`; models write
dozens of others. The reading is by what a header can only mean: the last known channel word is the channel, the first
`to=` is the recipient, a declared tool's name in the place of a role or a channel is a recipient, too. `read_header` is
asked once a header is whole, the `starts_` functions while it is not.

Pure. Knows nothing of what becomes of a message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Marker(StrEnum):
    """A control token that structures a turn."""

    START = "<|start|>"
    CHANNEL = "<|channel|>"
    CONSTRAIN = "<|constrain|>"
    MESSAGE = "<|message|>"
    END = "<|end|>"
    RETURN = "<|return|>"
    CALL = "<|call|>"
    ENDOFTEXT = "<|endoftext|>"
    OTHER = "<|other|>"
    """Any of the rest of the vocabulary's control tokens: never meant to be seen, and without a meaning here."""


ENDS_TURN: Final = frozenset({Marker.RETURN, Marker.CALL, Marker.ENDOFTEXT})

MARKERS: Final = (
    "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
    "<|startoftext|>", "<|endofprompt|>", "<|refusal|>", "<|untrusted|>", "<|end_untrusted|>", "<|meta_sep|>",
    "<|meta_end|>",
)  # fmt: skip
"""The named control tokens of the vocabulary (o200k_harmony) and the published encoder; `<|reserved_N|>` besides."""

_NAMED: Final = "|".join(re.escape(marker) for marker in MARKERS)
_MARKER: Final = re.compile(rf"{_NAMED}|<\|reserved_[0-9]{{1,6}}\|>")
_PREFIXES: Final = frozenset(marker[:end] for marker in (*MARKERS, "<|reserved_") for end in range(1, len(marker))) | {
    "<|reserved_"
}
_RESERVED: Final = re.compile(r"<\|reserved_[0-9]{1,6}\|?>?")
_LONGEST: Final = 24


def find_marker(text: str) -> re.Match[str] | None:
    """The first whole marker in a text."""
    return _MARKER.search(text) if "|>" in text else None


def strip_markers(text: str) -> str:
    """The text with a space for each whole marker, so that what stood around one never joins into another."""
    return _MARKER.sub(" ", text)


def unfinished_marker(text: str) -> int:
    """How many characters at the end of the text may become a marker when more comes."""
    at = text.rfind("<", -_LONGEST)
    if at < 0:
        return 0
    tail = text[at:]
    return len(tail) if tail in _PREFIXES or _RESERVED.fullmatch(tail) else 0


def completes_marker(tail: str, text: str) -> bool:
    """Whether a text goes on writing the marker that the tail begins: they were parted, and must stay so."""
    start = tail + text[0]
    return start in _PREFIXES or start in MARKERS or _RESERVED.fullmatch(start) is not None


def _known(text: str) -> Marker:
    try:
        return Marker(text)
    except ValueError:
        return Marker.OTHER


class Cutter:
    """Cuts pieces of a stream at markers. `feed` gives text and markers in order; text is never empty."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = ""

    @property
    def idle(self) -> bool:
        """Whether nothing is kept back: then a piece without `<` may pass by the cutter."""
        return not self._tail

    def feed(self, piece: str) -> list[str | Marker]:
        """Take a piece; give what is decided. A Marker is a str, too: look at the type before the value."""
        if not self._tail and "<" not in piece:
            return [piece] if piece else []
        text = self._tail + piece
        out: list[str | Marker] = []
        at = 0
        for match in _MARKER.finditer(text):
            if match.start() > at:
                out.append(text[at : match.start()])
            out.append(_known(match.group()))
            at = match.end()
        end = len(text) - unfinished_marker(text[at:])
        if end > at:
            out.append(text[at:end])
        self._tail = text[end:]
        return out

    def flush(self) -> str:
        """What was kept back, now that nothing more comes: it is plain text after all."""
        tail, self._tail = self._tail, ""
        return tail

    def __repr__(self) -> str:
        return f"<Cutter keeps {len(self._tail)}>"


class Channel(StrEnum):
    """What a message is for."""

    ANALYSIS = "analysis"
    COMMENTARY = "commentary"
    FINAL = "final"


class Segment(Struct, frozen=True):
    """A stretch of header text and the marker before it: START for the role part, CHANNEL or CONSTRAIN."""

    marker: Marker
    text: str


class Heading(Struct, frozen=True):
    """What a header says.

    `channel` is None when it names none that is known. `to` is the recipient as written, without `functions.`: None
    without one, empty when the name is missing. `tool` is the declared tool that is called. `other_role`: not the
    assistant speaks. `json`: the content type is said to be JSON. `bare_type`: there is a content type and nothing
    else. `body` is what the header holds beyond its own words, which is the message when `<|message|>` was forgotten;
    `loose` is text that has no place in a header at all.
    """

    channel: Channel | None = None
    to: str | None = None
    tool: str | None = None
    other_role: bool = False
    json: bool = False
    bare_type: bool = False
    body: str = ""
    loose: str = ""


_WORDS: Final = "|".join(Channel)
_CHANNEL: Final = re.compile(rf"[^A-Za-z]*({_WORDS})")
_PART_OF_CHANNEL: Final = re.compile(r"[^A-Za-z]*([a-z]{3,})\W*$")
_TO: Final = re.compile(r'(?:(?<![A-Za-z])|(?<=assistant)|(?<=commentary)|(?<=analysis)|(?<=final))to="?([^\s{"]*)')
_ASSISTANT: Final = re.compile(r"\s*(?:assistant)+")
_ASSISTANTS: Final = re.compile(r"^(?:assistant)*\s*")
_OTHER_ROLE: Final = re.compile(r"\s*(?:user|system|developer|tool)\b")
_NAME: Final = re.compile(r"[\w.:-]+")
_AFTER_NAME: Final = re.compile(r"(?:json|code)?(?:[^\w.-].*)?", re.DOTALL)
_JSON: Final = re.compile(r"\bjson\b|(?<=\w)json$")
_CONTENT_TYPE: Final = re.compile(r"\s*(?:json|code)\b")
_NOISE: Final = re.compile(rf"(?:[\W_]|{_WORDS}|json|code|assistant)*")
_JUNK: Final = re.compile(rf"(?:[\W\d_]|{_WORDS}|json|code|assistant)*")
"""What no header means and nobody says: signs and digits among a header's words."""
_NO_LETTERS: Final = re.compile(r"[\W\d_]+")
_LETTER: Final = re.compile(r"[^\W\d_]")
_FUNCTION: Final = re.compile(r"functions\.[\w.-]*")
_FUNCTIONS: Final = re.compile(r"^(?:functions?\.)+")
_PARTING: Final = re.compile(r"[-_.]")
_AFTER_ROLE: Final = ("to=", *Channel)
_NOT_LETTERS: Final = re.compile(r"^[^A-Za-z]*")

_READERS: Final = frozenset({"user", "all"})
"""Recipients that are whoever reads: the same as none."""
PARALLEL: Final = "multi_tool_use.parallel"
"""A recipient that is no tool: what is sent to it are several calls in one."""
ROLES: Final = ("assistant", "user", "system", "developer", "tool")
STRAY: Final = 8
"""Text outside any message that is at most this long is a stray token, not something said."""
_GARBLED: Final = 32
LONGEST_HEADER: Final = 160
"""Characters after `<|channel|>` in which a header must have ended."""


def is_noise(text: str) -> bool:
    """Whether a text has no letter, and is so short that nobody said it."""
    return len(text) <= _GARBLED and _LETTER.search(text) is None


def worth_keeping(text: str) -> bool:
    """Whether text outside any message is worth keeping: longer than a stray token, with letters, no question marks."""
    bare = text.strip()
    if len(bare) <= STRAY or _LETTER.search(bare) is None:
        return False
    return len(bare) > _GARBLED or bare.count("?") <= 1


def tool_named(text: str, tools: Collection[str]) -> str | None:
    """The declared tool whose name the text starts with, `functions.` before it or not, `json` glued to it or not.

    A name that differs from just one tool's by case, `-`, `_` or `.` alone is that tool's.
    """
    bare = bare_name(text)
    fitting = [name for name in tools if bare.startswith(name) and _AFTER_NAME.fullmatch(bare, len(name))]
    if fitting:
        return max(fitting, key=len)
    word = _NAME.match(bare)
    alike = [name for name in tools if word and _squeezed(name) == _squeezed(word.group())]
    return alike[0] if len(alike) == 1 else None


def bare_name(text: str) -> str:
    """A recipient without `functions.`, which models also write as `function.` and more than once."""
    return _FUNCTIONS.sub("", text.strip())


def _squeezed(name: str) -> str:
    """A name without what models get wrong in it: case, and which sign parts its words."""
    return _PARTING.sub("", name).lower()


def is_header(text: str, tools: Collection[str]) -> bool:
    """Whether text outside any message, with a header's marker behind it, is a header that lost its `<|start|>`:
    nothing but a role, channel words and a recipient."""
    if len(text) > LONGEST_HEADER:
        return False
    return bool(_NOISE.fullmatch(text) or _TO.search(text)) or text.strip().removeprefix("functions.") in tools


def starts_message(text: str, tools: Collection[str], *, marked: bool) -> bool | None:
    """Whether text after `<|start|>` inside a body opens a message: a role, then a marker, a channel or a recipient.

    `marked`: a marker follows the text. None while it is too short to tell.
    """
    functions = _FUNCTION.match(text)
    roles = (functions.group(),) if functions else (*ROLES, *tools)
    role = max((role for role in roles if text.startswith(role)), key=len, default=None)
    if role is None:
        return None if not marked and any(role.startswith(text) for role in ("functions.", *roles)) else False
    rest = _ASSISTANTS.sub("", text[len(role) :])
    if not rest:
        return True if marked else None
    if rest.startswith(_AFTER_ROLE):
        return True
    return None if not marked and any(word.startswith(rest) for word in ("assistant", *_AFTER_ROLE)) else False


def starts_channel(text: str, *, marked: bool) -> bool | None:
    """Whether text after `<|channel|>` inside a body opens a message: a channel word, then a marker or ` to=`.

    `marked`: a marker follows the text. None while it is too short to tell.
    """
    word = _CHANNEL.match(text)
    if word is None:
        bare = _NOT_LETTERS.sub("", text)
        return (
            None if not marked and len(text) <= LONGEST_HEADER and any(w.startswith(bare) for w in Channel) else False
        )
    if re.match(r"\s*to=", text[word.end() :]):
        return True
    if len(text) > LONGEST_HEADER:
        return False
    return True if marked else None


def read_header(segments: Sequence[Segment], tools: Collection[str]) -> Heading:
    """What these segments say. `tools` are the names of the declared tools."""
    role = segments[0].text if segments and segments[0].marker is Marker.START else ""
    assistant = _ASSISTANT.match(role)
    texts = [segment.text for segment in segments]
    if assistant:
        texts[0] = role[assistant.end() :]
    at, to = next(((n, m) for n, text in enumerate(texts) if (m := _TO.search(text))), (0, None))
    named = None if to is None or to[1] in _READERS else bare_name(to[1])
    other = not assistant and _speaks_for_another(role, named)
    tool = None
    if named and named != "assistant" and to is not None:
        tool = tool_named(texts[at][to.start(1) :], tools)
    elif named is None and not other:
        at, tool = _misplaced(texts, tools)
    channel = next((found for text in reversed(texts) if (found := _channel(text))), None)
    if channel is None and not any(_NAME.search(text) for text in texts[_roles(segments) :]):
        channel = Channel.FINAL
    if named is None and tool is None and role and not assistant and not other and channel is Channel.COMMENTARY:
        named = _lone_name(role)
    addressed = tool is not None or (named is not None and named != "assistant")
    return Heading(
        channel=channel,
        to=named,
        tool=tool,
        other_role=other,
        json=any(_JSON.search(text) for text in texts),
        bare_type=channel is None and not addressed and _only_constrained(segments),
        body=_from_brace(texts[at:]) if addressed else _behind_channel(texts),
        loose="" if other else _loose([] if addressed else texts, segments),
    )


def _roles(segments: Sequence[Segment]) -> int:
    """How many of the segments are a role part: one or none."""
    return 1 if segments and segments[0].marker is Marker.START else 0


def _only_constrained(segments: Sequence[Segment]) -> bool:
    markers = {segment.marker for segment in segments}
    return Marker.CONSTRAIN in markers and Marker.CHANNEL not in markers


def _speaks_for_another(role: str, named: str | None) -> bool:
    """Whether the role is not the assistant: by its word, or because somebody speaks *to* the assistant."""
    before = role.partition("to=")[0].strip()
    return bool(_OTHER_ROLE.match(role)) or (named == "assistant" and bool(before))


def _channel(text: str) -> Channel | None:
    """The channel that a segment names, also misspelt: more behind the word, less of it, or noise in it."""
    if (word := _CHANNEL.match(text)) or (
        len(text.split()) == 1 and (word := _CHANNEL.match(_NO_LETTERS.sub("", text)))
    ):
        return Channel(word[1])
    part = _PART_OF_CHANNEL.match(text)
    if part is None:
        return None
    if part[1].startswith("assistant"):
        return Channel.FINAL
    return next((channel for channel in Channel if channel.startswith(part[1])), None)


def _misplaced(texts: Sequence[str], tools: Collection[str]) -> tuple[int, str | None]:
    """A declared tool's name where a role or a channel should be, or `functions.NAME` without `to=`; and where."""
    for at, text in enumerate(texts):
        bare = text.strip().removeprefix("functions.")
        if bare in tools and bare not in (*Channel, *ROLES):
            return at, bare
        start = text.find("functions.")
        if start >= 0 and (tool := tool_named(text[start:], tools)):
            return at, tool
    return 0, None


def _lone_name(role: str) -> str | None:
    """One unknown word where the role should be: the name of a tool that nobody declared."""
    word = role.strip()
    return word if _NAME.fullmatch(word) and _channel(word) is None else None


def _from_brace(texts: Sequence[str]) -> str:
    """The message in a header with a recipient: from the first brace on."""
    text = " ".join(texts)
    brace = text.find("{")
    return text[brace:] if brace >= 0 else ""


def _behind_channel(texts: Sequence[str]) -> str:
    """The message in a header without a recipient: what follows the last channel word, without a content type."""
    for at in range(len(texts) - 1, -1, -1):
        word = _CHANNEL.match(texts[at])
        if word and not texts[at][word.end() :][:1].islower():
            own = _TO.sub("", texts[at][word.end() :])
            rest = " ".join([own, *(_CONTENT_TYPE.sub("", text) for text in texts[at + 1 :])])
            return "" if _NOISE.fullmatch(rest) else rest.lstrip()
    return ""


def _loose(texts: Sequence[str], segments: Sequence[Segment]) -> str:
    """Free text where a role, a channel or a content type should be: none of their words starts it."""
    free = [text for text in texts if not (m := _CHANNEL.match(text)) or text[m.end() :][:1].islower()]
    if not texts:
        free = [s.text for s in segments if s.marker is Marker.CONSTRAIN and not _CONTENT_TYPE.match(s.text)]
    text = " ".join(free).strip()
    return text if worth_keeping(text) and not _JUNK.fullmatch(text) else ""
