"""What the readers of all dialects share: from typed requests to the vocabulary of an ask.

Types and ranges were checked by the decoder (`reading`); here is what depends on more than one field: that something is
there, that a chosen tool was declared, that a schema fits its bounds. Every function takes the field as the client
spelled it, and raises a failure that names it. It knows no format.

The past is read kindly, and only the new is judged: an agent sends its whole conversation each time, so whatever was
once in it, however odd, would otherwise be refused for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Effort,
    FormatKind,
    Image,
    JsonObject,
    OutputFormat,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import Failure, InvalidAsk, Unsupported
from standpipe.dialects.bounds import check_schemas
from standpipe.dialects.images import Album, words_for
from standpipe.dialects.reading import whole

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""OpenAI's names of efforts."""

T = TypeVar("T")

_BEYOND_HIGH: Final = frozenset({"xhigh", "max"})
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_MEDIUM: Final = re.compile(r"image|audio|video|file|document|screenshot")
_IMAGES: Final = frozenset({"image_url", "input_image", "computer_screenshot"})
"""The types of parts that show an image."""
_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")


class ImageUrl(Struct, gc=False):
    """Where an image is, and in what detail to look at it: that is the engine's business."""

    url: str | None = None


class Part(Struct, gc=False):
    """One part of what a message says, as OpenAI spells it."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | ImageUrl | None = None

    def image(self, path: str, album: Album) -> Image | None:
        """The image that it shows, if it is one. Raises as `Album.from_url`."""
        if self.type not in _IMAGES:
            return None
        url = self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url
        return album.from_url(url, path)


class _Typed(Protocol):
    @property
    def type(self) -> str | None: ...


S = TypeVar("S", bound=_Typed)
P = TypeVar("P")


class _Said(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    def image(self, path: str, album: Album, /) -> Image | None: ...


def present(value: T | None, param: str) -> T:
    """The value of a field that must be set. Raises InvalidAsk."""
    if value is None:
        raise InvalidAsk(f"`{param}` is missing.", param=param)
    return value


def filled(value: str | None, param: str) -> str:
    """The text of a field that must say something. Raises InvalidAsk."""
    if not value:
        raise InvalidAsk(f"`{param}` must be a non-empty string.", param=param)
    return value


def chosen(word: str, words: Mapping[str, T], param: str) -> T:
    """What a client's word means. Raises InvalidAsk."""
    if word not in words:
        raise InvalidAsk(f"`{param}` must be one of {', '.join(f'`{known}`' for known in words)}.", param=param)
    return words[word]


def plain(word: str) -> str:
    """A client's word as it may stand in a sentence: strangers' texts are not repeated."""
    return f"`{word}`" if _WORD.fullmatch(word) else "a word"


def stops(sent: str | Sequence[str] | None) -> tuple[str, ...]:
    """The stop strings: one alone, or a list."""
    return (sent,) if isinstance(sent, str) else tuple(sent or ())


def effort(name: EffortName | None) -> Effort | None:
    """The effort of this name; what no model here knows is the most that they do."""
    return None if name is None else Effort.HIGH if name in _BEYOND_HIGH else Effort(name)


# Tools and formats --------------------------------------------------------------------------------------------------


def placed(tools: Sequence[S] | None) -> Iterator[tuple[str, S]]:
    """Declared tools, each with its place."""
    for i, tool in enumerate(tools or ()):
        yield f"tools[{i}]", tool


def functions(
    sent: Iterable[tuple[str, S]], read: Callable[[S, str], Tool | None], schema: str
) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The functions among declared tools, and the places of the other tools, which no model here hears of.

    Agents declare tools of a server's own (a search, a sandbox) whether or not anybody wants them, and work without
    where functions stand beside them. Alone, such a tool is what the answer is about, and is refused.

    Args:
        sent: the tools as they were declared, each with its place.
        read: makes a function of a tool in a place, None of what is no function.
        schema: the field of a tool in which a function's schema stands; its name stands beside that.

    Raises InvalidAsk, Unsupported or TooLarge.
    """
    tools: dict[str, Tool] = {}
    others: dict[str, str] = {}
    schemas: dict[str, JsonObject] = {}
    for path, one in sent:
        tool = read(one, path)
        if tool is None:
            others[path] = one.type or ""
            continue
        if tool.name in tools:
            param = f"{path}.{schema.rpartition('.')[0]}".rstrip(".") + ".name"
            raise InvalidAsk(f"`{param}` is declared twice.", param=param)
        tools[tool.name] = tool = replace(tool, field=f"{path}.{schema}")
        if tool.parameters is not None:
            schemas[tool.field] = tool.parameters
    if others and not tools:
        path, kind = next(iter(others.items()))
        raise Unsupported(f"`{path}.type` is {plain(kind)}, but only functions are supported.", param=f"{path}.type")
    if schemas:
        check_schemas(schemas)
    return tuple(tools.values()), tuple(others)


def tool_choice(mode: ToolMode, tools: Sequence[Tool], param: str, name: str | None = None) -> ToolChoice | None:
    """The choice among these tools; None where there is nothing to choose.

    `param` is where the client spelled the mode, or the name where that is chosen. Raises InvalidAsk.
    """
    if mode is ToolMode.NAMED and all(tool.name != name for tool in tools):
        raise InvalidAsk(f"`{param}` must be the name of a declared tool.", param=param)
    if mode is ToolMode.REQUIRED and not tools:
        raise InvalidAsk(f"`{param}` requires a tool call, but `tools` declares no function.", param=param)
    return ToolChoice(mode, name) if tools else None


def schema_format(
    schema: JsonObject | None,
    param: str,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
) -> OutputFormat:
    """An answer by this schema, which stands in `param`. Raises InvalidAsk, Unsupported or TooLarge."""
    schema = present(schema, param)
    check_schemas({param: schema})
    return OutputFormat(FormatKind.JSON_SCHEMA, schema, name, description, strict, param)


# What was said ------------------------------------------------------------------------------------------------------


def texts(content: str | Sequence[_Said] | None, param: str, kinds: Sequence[str] = ("text",)) -> Iterator[Text]:
    """The parts of what is said now, where there may be text alone. `kinds` are the types of parts that are text; the
    first is named in faults.

    Raises InvalidAsk or Unsupported.
    """
    for part, path in _parts(content, param):
        yield Text(part if isinstance(part, str) else text_of(part, path, kinds))


def told(
    content: str | Sequence[_Said] | None, param: str, album: Album, kinds: Sequence[str] = ("text",)
) -> Iterator[Text | Image]:
    """The parts of what a user says and shows now. Raises as `texts`; TooLarge for an image, too."""
    for part, path in _parts(content, param):
        if isinstance(part, str):
            yield Text(part)
        else:
            yield part_of(part, path, album, kinds)


def part_of(part: _Said, path: str, album: Album, kinds: Sequence[str] = ("text",)) -> Text | Image:
    """The same of one part."""
    return part.image(path, album) or Text(text_of(part, path, kinds))


def _parts(content: str | Sequence[P] | None, param: str) -> Iterator[tuple[str | P, str]]:
    if not content and not isinstance(content, str):
        raise InvalidAsk(f"`{param}` must be a string, or a list of at least one part.", param=param)
    if isinstance(content, str):
        yield content, param
    else:
        yield from ((part, f"{param}[{i}]") for i, part in enumerate(content or ()))


def text_of(part: _Said, path: str, kinds: Sequence[str] = ("text",)) -> str:
    """What one part says now. Raises as `texts`."""
    if part.type in kinds:
        return present(part.text, f"{path}.text")
    if _WORD.fullmatch(part.type):
        raise Unsupported(f"`{path}` is of type `{part.type}`, but only text is supported.", param=path)
    raise InvalidAsk(f"`{path}.type` must be `{kinds[0]}`.", param=f"{path}.type")


def past_texts(content: str | Sequence[_Said] | None) -> Iterator[Text | Refusal]:
    """The parts of what was said before, whatever they were: of a picture there are words, of nothing there is none."""
    if isinstance(content, str):
        yield Text(content)
        return
    for part in content or ():
        if isinstance(part, Part) and part.refusal is not None:
            yield Refusal(part.refusal)
        elif part.text is not None:
            yield Text(part.text)
        else:
            medium = _MEDIUM.search(part.type)
            yield Text(words_for(medium[0] if medium else "something"))


def past_said(content: str | Sequence[_Said] | None) -> tuple[Text, ...]:
    """The same as the parts of a message that has nothing but text."""
    return tuple(Text(part.text) for part in past_texts(content)) or (Text(""),)


def past_told(content: str | Sequence[_Said] | None, param: str, album: Album) -> tuple[Text | Image, ...]:
    """The same of what a user said and showed, `param` being where. An image that is none has words."""
    if isinstance(content, str) or not content:
        return past_said(content)
    return tuple(said for i, part in enumerate(content) for said in past_part(part, f"{param}[{i}]", album))


def past_part(part: _Said, path: str, album: Album) -> tuple[Text | Image, ...]:
    """The same of one part."""
    with suppress(Failure):
        if (image := part.image(path, album)) is not None:
            return (image,)
    return past_said([part])


def past_result(
    call_id: str, content: str | Sequence[_Said] | None, param: str, album: Album, *, failed: bool = False
) -> ToolResult:
    """What a tool said and showed, `param` being where: that is the past, however new."""
    parts = past_told(content, param, album) if content else ()
    text = "\n".join(part.text for part in parts if isinstance(part, Text))
    return ToolResult(call_id, text, failed, tuple(part for part in parts if isinstance(part, Image)))


def past_text(content: str | Sequence[_Said] | None) -> str:
    """The same as one text, of what is no message of its own: the result of a tool."""
    return "\n".join(part.text for part in past_texts(content))


def past_call(call_id: str, name: str | None, arguments: str) -> ToolCall:
    """A call that was made. A name that no tool can have is written as one."""
    if "\\ud" in arguments or "\\uD" in arguments:
        arguments = whole(arguments.encode()).decode()
    return ToolCall(call_id, _NOT_IN_NAMES.sub("_", name or "")[:128] or "unnamed", arguments)


def as_input(text: str | None) -> str:
    """The arguments of a call with one text, as custom tools have it, for a function."""
    return msgspec.json.encode({"input": text or ""}).decode()


def raw_text(sent: Raw, param: str) -> str:
    """A past value of any form: a text as it is, of anything else its JSON, and nothing of null.

    Raises InvalidAsk for what is not UTF-8, which undecoded JSON may hold.
    """
    try:
        text = bytes(sent).decode().strip()
    except UnicodeDecodeError:
        raise InvalidAsk(f"`{param}` is not UTF-8.", param=param) from None
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return "" if text == "null" else text


def object_text(sent: Raw, param: str) -> str:
    """The JSON text of a past call's arguments, where they are an object. No arguments are an empty one.

    Raises as `raw_text`.
    """
    text = raw_text(sent, param).strip()  # the arguments as a text, as other formats have them, are read as well
    if text in {"", "null"}:
        return "{}"
    return text if text.startswith("{") else as_input(text)


class Calls:
    """The calls of a conversation, read in order, and which of them have no result yet.

    Where calls have no ids, or clients lose them, a result finds its call by the tool's name or by its place.
    """

    __slots__ = ("_made", "_open")

    def __init__(self) -> None:
        self._made = 0
        self._open: list[ToolCall] = []

    def turn(self) -> None:
        """Another turn of the assistant begins: what was open has no result."""
        self._open = []

    def made(self, call_id: str | None, name: str | None, arguments: str) -> ToolCall:
        """A call that was made. A name that no tool can have is written as one."""
        self._made += 1
        call = past_call(call_id or f"call_no_{self._made}", name, arguments)
        self._open.append(call)
        return call

    def answered(self, call_id: str | None, name: str | None, param: str) -> str:
        """The id of the call that a result is of: the one it names, the first of its tool, or the first.

        Raises InvalidAsk where there is none, blaming `param`.
        """
        if call_id:
            found = [call for call in self._open if call.id == call_id]
        else:
            found = [call for call in self._open if call.name == name] or self._open
        if found:
            answered = found[0]
            self._open.remove(answered)
            return answered.id
        if call_id:
            return call_id
        raise InvalidAsk(f"`{param}` is a tool result, but no earlier message calls that tool.", param=param)
