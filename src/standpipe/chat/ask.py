"""An ask: one request in our own words, whatever format it came in; for an answer, or for embeddings.

Values only. A dialect makes them from bytes, policy bounds them, an engine answers them. They carry what a model
needs and nothing about transport: whether the client wants a stream, which keys its answer echoes and how its ids
look is the dialect's business (`dialects.dialect.Parsed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

JsonObject = dict[str, Any]
"""A JSON object as decoded, kept as it came: schemas are passed on, not understood, here."""


class Role(StrEnum):
    """Who speaks a message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Effort(StrEnum):
    """How long a reasoning model should think."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Text(Struct, frozen=True, tag="text"):
    """What was said."""

    text: str


class Refusal(Struct, frozen=True, tag="refusal"):
    """What an assistant said when it declined."""

    text: str


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """What a model thought before it spoke. `signature` is opaque and only some dialects carry it."""

    text: str
    signature: str | None = None


class _Written(Struct, frozen=True):
    """What a client wrote somewhere. Where is for whoever finds fault with it, and sets no two apart."""

    def _said(self) -> tuple[object, ...]:
        names = (name for name in self.__struct_fields__ if name not in {"field", "fields"})
        return tuple(getattr(self, name) for name in names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Written) and type(self) is type(other) and self._said() == other._said()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # schemas have none


class Image(_Written, frozen=True, tag="image"):
    """What was shown: a picture in base64 as it came, its media type, and the size in pixels that its header tells.
    `field` is where the client wrote it, for whoever finds fault with it."""

    media_type: str
    data: str
    width: int
    height: int
    field: str = "messages"

    def __repr__(self) -> str:
        return f"<Image {self.media_type} {self.width}x{self.height}>"


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A model's wish to have a tool run. `arguments` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a tool gave back for the call `call_id`: text, and what it shows beside that."""

    call_id: str
    text: str
    failed: bool = False
    images: tuple[Image, ...] = ()


Part = Text | Refusal | Reasoning | Image | ToolCall | ToolResult


class Message(Struct, frozen=True):
    """One turn. A user's has Text and Image parts, a tool's ToolResult parts, an assistant's any but those; every other
    role has Text parts."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """All Text parts joined, which is what a model without other notions gets to read."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        """All that is shown, by whoever speaks or by a tool."""
        found: list[Image] = []
        for part in self.parts:
            if type(part) is Image:
                found.append(part)
            elif type(part) is ToolResult:
                found += part.images
        return tuple(found)


class Tool(_Written, frozen=True):
    """A function that the model may call. `parameters` is a JSON Schema object, or None for no parameters. `field` is
    where the client wrote it, for whoever finds fault with it."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    field: str = "tools"


class ToolMode(StrEnum):
    """Whether the model may, must not or must call a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class ToolChoice(Struct, frozen=True):
    """`name` is set exactly when `mode` is NAMED."""

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None


class FormatKind(StrEnum):
    """What shape the answer's text must have."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class OutputFormat(_Written, frozen=True):
    """`schema` is set exactly when `kind` is JSON_SCHEMA. `field` is where the client wrote it, and `fields` where it
    wrote what stands at some places within, for whoever finds fault with it."""

    kind: FormatKind = FormatKind.TEXT
    schema: JsonObject | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    field: str = "response_format"
    fields: dict[str, str] = {}


class Sampling(Struct, frozen=True):
    """How tokens are chosen and when to stop. None always means: the engine's own default.

    `max_tokens` counts output tokens, reasoning included; None means no limit of the client's own. -1 is a spelling
    of that in some dialects and never gets here. `logit_bias` maps token ids, as decimal text, to -100..100.
    `tell_stop` wants to know which of `stop` ended the answer. `top_logprobs` counts the rivals of each token.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tell_stop: bool = False
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class Beginning(Struct, frozen=True):
    """What a model has said of its turn already, for an engine that is to go on behind it. Where there is text, its
    reasoning is whole."""

    reasoning: str = ""
    text: str = ""

    @property
    def message(self) -> Message:
        """The same as the last message of a conversation."""
        thought = (Reasoning(self.reasoning),) if self.reasoning else ()
        return Message(Role.ASSISTANT, (*thought, Text(self.text)))


class Ask(Struct, frozen=True):
    """Everything a model needs to answer once. Without messages, nothing is asked of it.

    `model` is the name as the client wrote it, or None. `tool_choice` None means the dialect's default (auto when
    there are tools). `parallel_tool_calls` and `effort` None mean: the engine's default. `operator_prompt` is what the
    first message begins with that is the operator's and not the client's. `raw`: the client's one text is to be
    continued as it stands, without a chat template, where an engine can; there are no tools and no format then. `begun`
    is set where another engine has begun to answer, `client` where the engine is to be told whose this is: a pseudonym.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: OutputFormat = OutputFormat()
    effort: Effort | None = None
    operator_prompt: str = ""
    raw: bool = False
    begun: Beginning | None = None
    client: str | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in order."""
        found: list[Image] = []
        for message in self.messages:
            if len(message.parts) != 1 or type(message.parts[0]) is not Text:  # as most are
                found += message.images
        return tuple(found)

    @property
    def prompt(self) -> str:
        """All that is to be continued, of an ask that is `raw`: the operator's prompt, where there is one, leads it."""
        return "\n\n".join(message.text for message in self.messages)

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """The tools that the model may call."""
        choice = self.tool_choice
        if choice is None or choice.mode in (ToolMode.AUTO, ToolMode.REQUIRED):
            return self.tools
        return tuple(tool for tool in self.tools if choice.mode is ToolMode.NAMED and tool.name == choice.name)

    @property
    def must_call(self) -> bool:
        """Whether a tool has to be called, so that an answer in prose would be wrong."""
        return self.tool_choice is not None and self.tool_choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)


def now(spoken: Sequence[bool]) -> int:
    """Where the past ends: after the assistant's last turn that something follows. One that nothing follows is a
    beginning for the answer to go on from.

    `spoken` is, for every message, whether it is the assistant's.
    """
    end = len(spoken)
    while end and spoken[end - 1]:
        end -= 1
    while end and not spoken[end - 1]:
        end -= 1
    return end


class EmbedAsk(Struct, frozen=True):
    """Texts to turn into vectors, in order: the one thing besides an answer that some engines give.

    `model` and `dimensions` None mean: the engine's own. `client` is as an `Ask`'s."""

    texts: tuple[str, ...]
    model: str | None = None
    dimensions: int | None = None
    client: str | None = None


class Vectors(Struct, frozen=True):
    """One vector for each text, in the same order. None means that the engine did not say."""

    vectors: tuple[tuple[float, ...], ...]
    model: str | None = None
    prompt_tokens: int | None = None
