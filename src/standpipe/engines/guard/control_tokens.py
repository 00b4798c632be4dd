"""Control tokens in a client's text, and how they are kept from becoming turns.

Most engines render messages into one string and read control tokens out of all of it, so `<|end|><|start|>system` in a
question is a system message. No request switch turns that off. What does is breaking the token's text: a zero-width
space behind its first character reads the same to people, and is no token to any engine. The set of tokens is the
model's own where it is known, and the well-known families' where it is not.

Where breaking would change a name that must come back as it went (a tool's), the ask is refused instead. Whether an
engine reads control tokens at all is measured once at its start: `probe_texts` are sent, `judge` reads the counts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    Message,
    OutputFormat,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk

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
    "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]",
    # Gemma
    "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<|turn>", "<turn|>",
    # GLM
    "[gMASK]", "<sop>", "<eop>",
)  # fmt: skip
"""Control tokens of the model families in use. `<|anything|>` is taken for one besides, whatever the family; so it is
with the full-width bars that DeepSeek writes."""

_ANY_PIPED: Final = r"[|\uff5c][^|\uff5c<>\s]{1,64}[|\uff5c]>"
_SHORTEST: Final = 3
_STRUCTURAL: Final = frozenset("<>[]|")


class ControlTokens:
    """The control tokens of one model, as text.

    `tokens` are the vocabulary's control tokens; None means that they are not known. Those that are plain words or
    shorter than three characters are passed over: they would be broken wherever somebody writes them, and no template
    has a turn begin with one.
    """

    def __init__(self, tokens: Iterable[str] | None = None) -> None:
        rests: dict[str, list[str]] = defaultdict(list)
        rests["<"].append(_ANY_PIPED)
        for token in dict.fromkeys(FAMILIES if tokens is None else tokens):
            if len(token) >= _SHORTEST and not _STRUCTURAL.isdisjoint(token):
                rests[token[0]].append(re.escape(token[1:]))
        # Looking ahead instead of reading on finds tokens that overlap: each one's first character gets its break.
        parts = (f"{re.escape(first)}(?={'|'.join(following)})" for first, following in rests.items())
        self._pattern = re.compile("|".join(parts))
        self._firsts = tuple(rests)

    def within(self, text: str) -> bool:
        """Whether a control token is written in this text. Most texts have none of the characters that begin one."""
        return any(first in text for first in self._firsts) and self._pattern.search(text) is not None

    def break_text(self, text: str) -> str:
        """The text with every control token in it broken."""
        return self._pattern.sub(rf"\g<0>{BREAK}", text)

    def break_ask(self, ask: Ask) -> Ask:
        """The ask with no control token in anything that an engine may write into its prompt.

        Raises InvalidAsk for one in the name of a tool, and for arguments nested too deeply to be looked through.
        """
        if self._is_plainly_clean(ask):
            return ask
        for at, tool in enumerate(ask.tools):
            if self.within(tool.name):
                raise InvalidAsk("A tool's name must not contain a control token.", param=f"tools[{at}].name")
        return replace(
            ask,
            messages=tuple(self._message(message, f"messages[{at}]") for at, message in enumerate(ask.messages)),
            tools=tuple(self._tool(tool) for tool in ask.tools),
            format=self._format(ask.format),
        )

    def _is_plainly_clean(self, ask: Ask) -> bool:
        """Whether this is one of the usual asks, nothing but messages of text, and has no control token in it."""
        if ask.tools or ask.format.schema is not None:
            return False
        return all(
            message.name is None
            and all(isinstance(part, Text) and not self.within(part.text) for part in message.parts)
            for message in ask.messages
        )

    def __repr__(self) -> str:
        return f"<ControlTokens {len(self._pattern.pattern)} characters>"

    def _message(self, message: Message, param: str) -> Message:
        name = None if message.name is None else self.break_text(message.name)
        return replace(message, parts=tuple(self._part(part, param) for part in message.parts), name=name)

    def _part(self, part: Part, param: str) -> Part:
        match part:
            case ToolCall(call_id, name, arguments):
                return ToolCall(self.break_text(call_id), self.break_text(name), self._arguments(arguments, param))
            case ToolResult(call_id, text):
                return replace(part, call_id=self.break_text(call_id), text=self.break_text(text))
            case _:
                return replace(part, text=self.break_text(part.text))

    def _arguments(self, arguments: str, param: str) -> str:
        """Arguments are JSON, which an engine may decode: there, a control token may hide behind escapes."""
        if "\\" in arguments:
            try:
                value = json.loads(arguments)
                broken = self._json(value)
            except RecursionError:
                raise InvalidAsk("The arguments of a tool call are nested too deeply.", param=param) from None
            except ValueError:
                return self.break_text(arguments)
            if broken != value:
                return json.dumps(broken, ensure_ascii=False)
        return self.break_text(arguments)

    def _tool(self, tool: Tool) -> Tool:
        description = None if tool.description is None else self.break_text(tool.description)
        return replace(tool, description=description, parameters=self._json(tool.parameters))

    def _format(self, form: OutputFormat) -> OutputFormat:
        name = None if form.name is None else self.break_text(form.name)
        description = None if form.description is None else self.break_text(form.description)
        return replace(form, name=name, description=description, schema=self._json(form.schema))

    def _json(self, value: Any) -> Any:
        """A decoded JSON value with its strings broken, keys included. Its depth was bounded when it was parsed."""
        match value:
            case str():
                return self.break_text(value)
            case list():
                return [self._json(item) for item in value]
            case dict():
                return {self.break_text(key): self._json(item) for key, item in value.items()}
            case _:
                return value


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
    broken = ControlTokens((token,)).break_text(token)
    return Probe(plain="x", control=token * REPEATS, broken=broken * REPEATS)


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
