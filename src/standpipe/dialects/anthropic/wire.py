"""Anthropic's Messages on the wire, as types: what is read from a client, and what is written to one.

What these structs do not declare is not read (`cache_control`, for one, which changes no answer). Types and ranges are
checked here. Fields that a client may leave out may also be null. What is written has every field
that the published types require, and null where there is nothing to say. The names are Anthropic's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct
from msgspec.structs import asdict

from standpipe.chat import events
from standpipe.chat.ask import Image, JsonObject
from standpipe.chat.events import FinishReason
from standpipe.dialects import bounds
from standpipe.dialects.images import Album

# Read ---------------------------------------------------------------------------------------------------------------


ToolName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$(?!\n)", description="1 to 128 letters, digits, `_` or `-`")
]


class Source(Struct, gc=False):
    """Where an image comes from."""

    type: str | None = None
    data: str | None = None


class Block(Struct):
    """Of any type: which fields count is the type's business."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None
    source: str | Source | None = None

    def image(self, path: str, album: Album) -> Image | None:
        """The image that it shows, if it is one. Raises as `Album.from_base64`, and Unsupported for one elsewhere."""
        if self.type != "image":
            return None
        source = self.source if isinstance(self.source, Source) else Source()
        if source.type != "base64":
            return album.from_url(None, path)
        return album.from_base64(source.data, path)


class Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block] | None = None


class Tool(Struct):
    name: ToolName
    type: str | None = None
    description: str | None = None
    input_schema: JsonObject | None = None
    strict: bool | None = None


class ToolChoice(Struct, gc=False):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, gc=False):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: bounds.TokenLimit | None = None
    display: str | None = None


class Format(Struct):
    type: Literal["json_schema"]
    schema: JsonObject | None = None


class OutputConfig(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Request(Struct):
    """`max_tokens` is required of a message, and has no meaning where tokens are counted."""

    messages: bounds.Messages[Message]
    max_tokens: bounds.TokenLimit | None = None
    model: str | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    temperature: bounds.Share | None = None
    top_p: bounds.Share | None = None
    top_k: bounds.TopK | None = None
    stop_sequences: bounds.Stops | None = None
    tools: bounds.Tools[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


# Written ------------------------------------------------------------------------------------------------------------


SIGNATURE = "unsigned"
"""What stands where clients expect a proof of who thought this: nobody here proves anything."""


class TextBlock(Struct, frozen=True, tag="text"):
    """Without `citations`, as Anthropic's own answers have none where there are none: validators refuse a null."""

    text: str


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    thinking: str
    signature: str


class Caller(Struct, frozen=True, tag="direct"):
    """Who calls a tool: the model itself."""


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: Raw
    caller: Caller = Caller()


WrittenBlock = TextBlock | ThinkingBlock | ToolUseBlock


class OutputDetails(Struct, frozen=True):
    thinking_tokens: int


class Usage(Struct, frozen=True):
    """As the end of a stream tells it."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation_input_tokens: None = None
    server_tool_use: None = None


class MessageUsage(Usage, frozen=True):
    """As a message tells it."""

    cache_creation: None = None
    inference_geo: None = None
    service_tier: None = None
    speed: None = None


class WrittenMessage(Struct, frozen=True, tag="message"):
    id: str
    role: str
    model: str
    content: tuple[WrittenBlock, ...]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsage
    container: None = None
    diagnostics: None = None
    stop_details: None = None


class Ending(Struct, frozen=True):
    """What the end of a stream adds to its message."""

    stop_reason: str
    stop_sequence: str | None
    container: None = None
    stop_details: None = None


def usage(counted: events.Usage | None) -> Usage:
    """Anthropic's spelling of a usage: the tokens that were read from a cache are not among the input.

    Clients insist on the two sums, so they are 0 where an engine did not count.
    """
    if counted is None:
        return Usage(0, 0)
    cached, thought = counted.cached_tokens, counted.reasoning_tokens
    read = max(0, counted.prompt_tokens - (cached or 0))
    return Usage(read, counted.completion_tokens, cached, None if thought is None else OutputDetails(thought))


def message_usage(counted: events.Usage | None) -> MessageUsage:
    """The same for a message."""
    return MessageUsage(**asdict(usage(counted)))


_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}


def stop_reason(reason: FinishReason, stop: str | None) -> str:
    """Anthropic's word for why a model stopped, `stop` being the client's stop string that did it."""
    return "stop_sequence" if reason is FinishReason.STOP and stop is not None else _STOP_REASONS[reason]
