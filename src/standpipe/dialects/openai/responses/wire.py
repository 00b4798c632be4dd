"""OpenAI's Responses on the wire, as types: what is read from a client, and what is written to one.

What these structs do not declare is not read. Types and ranges are checked here. Fields that a client may
leave out may also be null. What is written has every field that the published schema requires, and null where there is
nothing to say. The names are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from standpipe.chat import events
from standpipe.chat.ask import FormatKind, JsonObject
from standpipe.dialects import bounds
from standpipe.dialects.asks import EffortName, Part

# Read ---------------------------------------------------------------------------------------------------------------

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""What `include` may name. Most of it concerns tools that there are none of here, and so adds nothing."""


class Item(Struct):
    """Of any type: which fields count is the type's business."""

    type: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] | None = None
    summary: list[Part] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Raw = Raw()
    namespace: str | None = None
    input: str | None = None
    action: Raw = Raw()
    operation: Raw = Raw()
    tools: Raw = Raw()
    output: Raw = Raw()


class Environment(Struct):
    """Where a shell's commands run: `local` is at the client's."""

    type: str


class CustomFormat(Struct):
    syntax: str | None = None
    definition: str | None = None


class Tool(Struct):
    """`format` is a custom tool's, `environment` a shell's, `tools` are a namespace's."""

    type: str
    name: bounds.Name | None = None
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    format: CustomFormat | None = None
    environment: Environment | None = None
    tools: bounds.Tools[Tool] | None = None


Tools = bounds.Tools[Tool]


class AllowedTool(Struct):
    type: str
    name: str | None = None


class ChosenTool(AllowedTool):
    """`mode` and `tools` are those of the type `allowed_tools`."""

    mode: Literal["auto", "required"] | None = None
    tools: bounds.Tools[AllowedTool] | None = None


class Format(Struct):
    type: FormatKind
    name: bounds.Name | None = None
    schema: JsonObject | None = None
    description: str | None = None
    strict: bool | None = None


class Text(Struct):
    format: Format | None = None


class Reasoning(Struct, gc=False):
    effort: EffortName | None = None


class Request(Struct):
    """The penalties are Open Responses', as in Chat Completions."""

    input: str | bounds.Messages[Item]
    instructions: str | None = None
    model: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    frequency_penalty: bounds.Penalty | None = None
    include: list[Includable] | None = None
    max_output_tokens: bounds.TokenLimit | None = None
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: bounds.Penalty | None = None
    reasoning: Reasoning | None = None
    temperature: bounds.Temperature | None = None
    text: Text | None = None
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None
    tools: bounds.Tools[Tool] | None = None
    top_logprobs: bounds.TopLogprobs | None = None
    top_p: bounds.Share | None = None
    truncation: Literal["auto", "disabled"] | None = None


# Written ------------------------------------------------------------------------------------------------------------


class Logprob(Struct, frozen=True):
    token: str
    bytes: tuple[int, ...]
    logprob: float


class TopLogprob(Struct, frozen=True):
    token: str
    bytes: tuple[int, ...]
    logprob: float
    top_logprobs: tuple[Logprob, ...]


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    text: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[TopLogprob, ...] = ()


class RefusalText(Struct, frozen=True, tag_field="type", tag="refusal"):
    refusal: str


WrittenPart = ReasoningText | OutputText | RefusalText


class ReasoningItem(Struct, frozen=True, tag_field="type", tag="reasoning"):
    id: str
    status: str
    content: tuple[WrittenPart, ...]
    summary: tuple[()] = ()


class MessageItem(Struct, frozen=True, tag_field="type", tag="message"):
    id: str
    status: str
    content: tuple[WrittenPart, ...]
    role: str = "assistant"


class CallItem(Struct, frozen=True, tag_field="type", tag="function_call"):
    id: str
    status: str
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomCallItem(Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    id: str
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


class ShellAction(Struct, frozen=True, tag_field="type", tag="exec"):
    """What is not said is left out: validators refuse a null here."""

    command: tuple[str, ...]
    env: dict[str, str] = {}
    timeout_ms: int | UnsetType = UNSET
    working_directory: str | UnsetType = UNSET


class LocalShellItem(Struct, frozen=True, tag_field="type", tag="local_shell_call"):
    id: str
    status: str
    call_id: str
    action: ShellAction


class ShellCommands(Struct, frozen=True):
    commands: tuple[str, ...]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class LocalEnvironment(Struct, frozen=True, tag_field="type", tag="local"):
    pass


class ShellItem(Struct, frozen=True, tag_field="type", tag="shell_call"):
    id: str
    status: str
    call_id: str
    action: ShellCommands
    environment: LocalEnvironment = LocalEnvironment()


class PatchOperation(Struct, frozen=True):
    """`diff` is absent where a file is deleted."""

    type: str
    path: str
    diff: str | UnsetType = UNSET


class PatchItem(Struct, frozen=True, tag_field="type", tag="apply_patch_call"):
    id: str
    status: str
    call_id: str
    operation: PatchOperation


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class InputMessage(Struct, frozen=True, tag_field="type", tag="message"):
    id: str
    role: str
    content: tuple[InputText, ...]


class ResultItem(Struct, frozen=True, tag_field="type", tag="function_call_output"):
    id: str
    status: str
    call_id: str
    output: str


ListedItem = InputMessage | MessageItem | ReasoningItem | CallItem | ResultItem


class Page(Struct, frozen=True):
    """Some of a list's items (`ListedItem`s), all of which have different ids."""

    data: Sequence[Any]
    has_more: bool
    first_id: str
    last_id: str
    object: str = "list"


WrittenItem = ReasoningItem | MessageItem | CallItem | CustomCallItem | LocalShellItem | ShellItem | PatchItem


class WrittenTool(Struct, frozen=True, tag_field="type", tag="function"):
    name: str
    description: str | None
    parameters: JsonObject | None
    strict: bool | None


class WrittenFormat(Struct, frozen=True):
    type: str
    name: str | UnsetType = UNSET
    schema: JsonObject | UnsetType = UNSET
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class WrittenText(Struct, frozen=True):
    format: WrittenFormat


class WrittenReasoning(Struct, frozen=True):
    effort: str | None = None
    summary: None = None


class InputDetails(Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int


class Usage(Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Error(Struct, frozen=True):
    code: str
    message: str


class Incomplete(Struct, frozen=True):
    reason: str


class Response(Struct, frozen=True, kw_only=True):
    """One answer in whatever state. The fields without which nothing could be asked again repeat the request.

    Clients want numbers for how it was sampled: what the request left to the engine is told as OpenAI's default.
    """

    id: str = ""
    object: str = "response"
    access_programs: None = None
    created_at: int = 0
    completed_at: int | None = None
    status: str = "in_progress"
    background: bool = False
    error: Error | None = None
    frequency_penalty: float = 0.0
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: None = None
    metadata: dict[str, str] = {}
    model: str = ""
    output: tuple[WrittenItem, ...] = ()
    parallel_tool_calls: bool = True
    presence_penalty: float = 0.0
    previous_response_id: str | None = None
    prompt_cache_key: None = None
    reasoning: WrittenReasoning = WrittenReasoning()
    safety_identifier: None = None
    service_tier: str = "default"
    store: bool = False
    temperature: float = 1.0
    text: WrittenText = WrittenText(WrittenFormat("text"))
    tool_choice: Any = "auto"
    tools: tuple[WrittenTool, ...] = ()
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: str = "disabled"
    usage: Usage | None = None


def page(items: Sequence[ListedItem], after: str | None, limit: int) -> Page:
    """As many items as may be had at a time, from the beginning or after the one with this id."""
    start = 0 if after is None else next((i for i, item in enumerate(items, 1) if item.id == after), len(items))
    found = items[start : start + limit]
    ends = (found[0].id, found[-1].id) if found else ("", "")
    return Page(found, len(items) > start + limit, *ends)


def usage(counted: events.Usage) -> Usage:
    """OpenAI's spelling of a usage. The details are required there: what the engine did not tell is 0."""
    return Usage(
        counted.prompt_tokens,
        InputDetails(counted.cached_tokens or 0),
        counted.completion_tokens,
        OutputDetails(counted.reasoning_tokens or 0),
        counted.prompt_tokens + counted.completion_tokens,
    )


def logprobs(tokens: tuple[events.TokenLogprob, ...]) -> tuple[TopLogprob, ...]:
    """OpenAI's spelling of log-probabilities. Bytes are required there: those of the token's text where none came."""
    return tuple(
        TopLogprob(
            token.token,
            _bytes(token),
            token.logprob,
            tuple(Logprob(rival.token, _bytes(rival), rival.logprob) for rival in token.top),
        )
        for token in tokens
    )


def _bytes(token: events.TokenLogprob) -> tuple[int, ...]:
    return tuple(token.token.encode()) if token.bytes is None else token.bytes
