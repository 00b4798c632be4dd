"""Control tokens in a client's text, and how they are kept from becoming turns (prompt injection by special tokens).

Most engines render messages into one string and read control tokens out of all of it, so `<|end|><|start|>system` in a
question is a system message. No request switch turns that off. What does is breaking the token's text: a zero-width
space behind its first character reads the same to people, and is no token to any engine.

What is broken is each string as the engine will read it, after every part was joined: `harmless_body` makes the bytes
of a request out of its finished document, and nothing else makes such bytes, so no path can go around it. A token may
also be spread over two strings that a template puts side by side. So none of its strings ends in the beginning of a
token, and none begins with what a template would complete. Escapes of JSON are looked through, because engines decode
a call's arguments. The operator's own prompt stays as it is.

Whether an engine reads control tokens at all is measured once at its start: `probe_texts` are sent, `judge` reads the
counts. Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final, NewType

import msgspec
from msgspec import Raw, Struct

from standpipe.chat.ask import JsonObject

BREAK: Final = "\u200b"
"""Zero-width space."""

FAMILIES: Final = (
    # Harmony (gpt-oss)
    "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>", "<|startoftext|>",
    "<|endoftext|>", "<|endofprompt|>",
    # ChatML, and those who extend it
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
    # Llama
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<|python_tag|>", "<|header_start|>", "<|header_end|>", "<|eot|>", "<<SYS>>", "<</SYS>>",
    # Mistral, and plain SentencePiece
    "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]",
    "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "[THINK]", "[/THINK]",
    # Gemma
    "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<start_function_declaration>",
    "<end_function_declaration>", "<start_function_call>", "<end_function_call>", "<start_function_response>",
    "<end_function_response>",
    *(token for word in ("turn", "channel", "tool", "tool_call", "tool_response", "image", "audio")
      for token in (f"<|{word}>", f"<{word}|>")),
    # GLM
    "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    # DeepSeek
    "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
    # Cohere
    "<BOS_TOKEN>", "<EOS_TOKEN>",
    # MiniMax, Seed, Nemotron, EXAONE
    "]~b]", "[e~[", "]~!b[", "<minimax:tool_call>", "</minimax:tool_call>", "<seed:bos>", "<seed:eos>", "<extra_id_0>",
    "<extra_id_1>", "<SPECIAL_10>", "<SPECIAL_11>", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]",
    "[|tool|]",
)  # fmt: skip
"""Control tokens of the model families in use. `<|anything|>` is taken for one besides, whatever the family; so it is
with the full-width bars that DeepSeek writes."""


class Rendered(str):
    """A prompt that an engine's template has made of a harmless body, and nothing unbroken behind it: left as it is."""

    __slots__ = ()


HarmlessBody = NewType("HarmlessBody", bytes)
"""The body of a request to an engine, with no control token of a client's in it. Only `harmless_body` makes one."""

_NOT_RENDERED: Final = frozenset({"model", "stop", "options", "grammar"})
"""Fields that no template puts into a prompt. Broken there, a stop string would not be found, a grammar not be read."""
_BARS: Final = "|\uff5c"
_LONGEST: Final = 72
"""Characters of the longest token, and a few."""


def _pattern() -> re.Pattern[str]:
    """Finds the first two characters of each token, also of those that overlap: the rest is looked ahead at."""
    rests: dict[str, list[str]] = defaultdict(list)
    for token in sorted(FAMILIES, key=len, reverse=True):
        rests[token[:2]].append(re.escape(token[2:]))
    for bar in _BARS:
        rests[f"<{bar}"].append(f"{_BETWEEN_BARS}[{_BARS}]>")
    return re.compile("|".join(f"{re.escape(begin)}(?=({'|'.join(tails)}))" for begin, tails in rests.items()))


_BETWEEN_BARS: Final = rf"[^|\uff5c<>\s{BREAK}]{{1,64}}"
_TOKEN: Final = _pattern()
_SUSPECT: Final = re.compile(_TOKEN.pattern + r"|\\[u/]")
_BEGINS: Final = frozenset(token[0] for token in FAMILIES)
_PREFIXES: Final = frozenset(token[:end] for token in FAMILIES for end in range(1, len(token))) - {"]"}
"""Half of all lists end in `]`, so a token of MiniMax is broken where the next text goes on with it."""
_UNFINISHED: Final = re.compile(rf"<[|\uff5c](?:{_BETWEEN_BARS}[|\uff5c]?)?")
_COMPLETES: Final = re.compile(rf"[|\uff5c]{_BETWEEN_BARS}[|\uff5c](?:>|\Z)|~!?b[\[\]]")
"""What would be a token behind a `<` of the template's own, as some write one before a name, or behind a `]`."""
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*+)("|\\?\Z)', re.DOTALL)
_COMPLETING: Final = ("|", "\uff5c", "~")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|/)")


def harmless_body(document: JsonObject, operator_prompt: str = "") -> HarmlessBody:
    """The JSON of a request to an engine, whose strings are all as the engine will read them.

    `operator_prompt` is what the first message, or the raw prompt, begins with that is the operator's own: it is left
    as it is.
    """
    harmless = {key: value if key in _NOT_RENDERED else _harmless(value) for key, value in document.items()}
    if operator_prompt:
        raw = "messages" not in document
        content = document["prompt"] if raw else document["messages"][0]["content"]
        if content.startswith(operator_prompt) and not isinstance(content, Rendered):
            place, key = (harmless, "prompt") if raw else (harmless["messages"][0], "content")
            place[key] = break_text(content, len(operator_prompt))
    return HarmlessBody(msgspec.json.encode(harmless))


def _harmless(value: Any) -> Any:
    """A value of a document with all its strings broken, keys included."""
    if isinstance(value, str):
        return str(value) if isinstance(value, Rendered) else break_text(value)
    if isinstance(value, dict):
        harmless: JsonObject = {}
        for key, item in value.items():  # a name has nothing that begins a token
            harmless[key if key.isidentifier() else break_text(key)] = (
                break_text(item) if type(item) is str else _harmless(item)
            )
        if isinstance(arguments := value.get("arguments"), str):
            harmless["arguments"] = break_json(arguments)
        return harmless
    if isinstance(value, list | tuple):
        return [_harmless(item) for item in value]
    if isinstance(value, Raw):
        return Raw(break_json(bytes(value).decode()).encode())
    return value


def break_json(text: str) -> str:
    """The same for what should be JSON, whose strings a template may write one by one."""
    return break_text(_STRING.sub(lambda match: f'"{break_text(match[1])}{match[2]}', text))


def break_text(text: str, own: int = 0) -> str:
    """The text with every control token broken, and what would become one with the text before or behind it.

    `own` is how many characters at its beginning are the operator's: only tokens that reach beyond them are broken.
    """
    if not ("<" in text or "[" in text or "]" in text or "\\" in text or text.startswith(_COMPLETING)):
        return text  # most texts have nothing that begins a token
    if _SUSPECT.search(text) is None and not _unfinished(text) and not text.startswith(_COMPLETING):
        return text
    breaks = {1} if not own and _COMPLETES.match(text) else set()
    for read in (_Reading(text), _Unescaped(text)) if _ESCAPE.search(text) else (_Reading(text),):
        for match in _TOKEN.finditer(read.text):
            if read.at(match.end(match.lastindex or 0)) > own:
                breaks.add(max(read.at(match.start() + 1), own))
        # What begins at the end must not go on in the next text, even where the end is the operator's.
        breaks |= {max(read.at(start + 1), own) for start in _unfinished(read.text)}
    places = sorted(breaks)
    return BREAK.join(text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True))


def holds_token(text: str) -> bool:
    """Whether a whole control token is written in this text."""
    return _TOKEN.search(text) is not None


def _unfinished(text: str) -> list[int]:
    """Where tokens begin that the end of the text leaves unfinished. White space there does not count: templates strip
    it; and no token has any, so only the last word is looked at."""
    end = len(text.rstrip())
    word = text[max(0, end - _LONGEST) : end].rsplit(None, 1)[-1:]
    if not word or _BEGINS.isdisjoint(word[0]):
        return []
    starts = range(end - len(word[0]), end)
    return [n for n in starts if text[n:end] in _PREFIXES or _UNFINISHED.fullmatch(text, n, end)]


class _Reading:
    """A text as an engine may read it, and the way back to the places in it as written."""

    def __init__(self, written: str) -> None:
        self.text = written

    def at(self, place: int) -> int:
        """The place as written of a place in `text`."""
        return place


class _Unescaped(_Reading):
    """A text with the escapes of JSON read. Whether they are escapes is not ours to know: both readings count."""

    def __init__(self, written: str) -> None:
        self._ends: list[tuple[int, int]] = [(0, 0)]
        """Where escapes end: in what is read, and as written."""
        super().__init__(_ESCAPE.sub(self._read, written))

    def at(self, place: int) -> int:
        end, written_end = self._ends[bisect_right(self._ends, place, key=itemgetter(0)) - 1]
        return written_end + place - end

    def _read(self, match: re.Match[str]) -> str:
        end, written_end = self._ends[-1]
        self._ends.append((end + match.start() - written_end + 1, match.end()))
        return chr(int(match[1], 16)) if match[1] else "/"


REPEATS: Final = 50
"""How often the token stands in a probe: far more than what a template or a merged token can blur."""


class Probe(Struct, frozen=True):
    """Texts to send as user messages, one ask each, and to have their prompt tokens counted."""

    plain: str
    control: str
    broken: str


class Handling(StrEnum):
    """What an engine does with a control token in a message."""

    SPELLS = "spells"
    """It is text like any other."""
    READS = "reads"
    """It becomes the token; broken, it does not."""
    READS_ANYWAY = "reads_anyway"
    """It becomes the token even when it is broken: the engine drops zero-width spaces."""
    UNCLEAR = "unclear"


def probe_texts(token: str) -> Probe:
    """What to send to find out how an engine handles this control token."""
    return Probe(plain="x", control=token * REPEATS, broken=break_text(token) * REPEATS)


def judge(plain: int, control: int, broken: int) -> Handling:
    """What the prompt tokens of a probe's three asks say.

    A token that is read counts one, one that is spelled counts about five, one that is broken a few more. Between one
    and a half and three, nothing can be said.
    """
    each, each_broken = (control - plain) / REPEATS, (broken - plain) / REPEATS
    if each >= 3:
        return Handling.SPELLS
    if each > 1.5 or each < 0.5:
        return Handling.UNCLEAR
    return Handling.READS if each_broken >= 2 * each else Handling.READS_ANYWAY
