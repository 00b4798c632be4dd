"""OpenAI's Chat Completions on the wire, as types: what is read from a client, and what is written to one.

What these structs do not declare is not read. Types and ranges are checked here. Fields that a client may leave out may
also be null, because many clients spell "not set" that way. The names are OpenAI's. Which models there are is not known
here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import encode

from standpipe.chat import events
from standpipe.chat.ask import FormatKind, JsonObject
from standpipe.dialects import bounds
from standpipe.dialects.asks import EffortName, Part

Speaker = Annotated[
    str,
    Meta(
        pattern=r"^[^\s<|\\/>]{1,64}$(?!\n)",
        description=r"1 to 64 characters other than spaces, `<`, `>`, `|`, `/` and `\`",
    ),
]
"""The name of who speaks, by OpenAI's own rule."""
MaxTokens = Annotated[int, Meta(ge=-1, description="at least 1, or -1 for no limit of its own")]
LogitBias = Annotated[
    dict[Annotated[int, Meta(ge=0, le=999_999_999)], Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=64)
]
"""By the ids of tokens."""

# Read ---------------------------------------------------------------------------------------------------------------


class CalledFunction(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class CustomCall(Struct, gc=False):
    name: str | None = None
    input: str | None = None


class Call(Struct):
    """Of a function, or of a custom tool, which takes one text."""

    id: str | None = None
    function: CalledFunction | None = None
    custom: CustomCall | None = None


class Message(Struct):
    """Of any role: which fields count is the role's business. `function` and `function_call` are the older way."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: Speaker | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None


class Function(Struct):
    name: bounds.Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Struct):
    type: str = "function"
    function: Function | None = None


class NamedFunction(Struct, gc=False):
    name: str


class NamedTool(Struct):
    type: str = "function"
    function: NamedFunction | None = None


class JsonSchema(Struct):
    name: bounds.Name | None = None
    schema: JsonObject | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct):
    """`schema` is llama.cpp's and Together's way to ask for a schema: beside the type `json_object`."""

    type: FormatKind
    json_schema: JsonSchema | None = None
    schema: JsonObject | None = None


class StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class Sampled(Struct):
    """What Chat Completions and Completions have in common."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.Share | None = None
    max_tokens: MaxTokens | None = None
    n: bounds.Choices | None = None
    stop: bounds.Stop | bounds.Stops | None = None
    seed: bounds.Seed | None = None
    frequency_penalty: bounds.Penalty | None = None
    presence_penalty: bounds.Penalty | None = None
    logit_bias: LogitBias | None = None


class Request(Sampled, kw_only=True):
    messages: bounds.Messages[Message]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: bounds.TopLogprobs | None = None
    tools: bounds.Tools[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: EffortName | None = None
    modalities: list[str] | None = None


# Written ------------------------------------------------------------------------------------------------------------


class Logprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None


class TopLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None
    top_logprobs: tuple[Logprob, ...]


class Logprobs(Struct, frozen=True):
    content: tuple[TopLogprob, ...] | None
    refusal: tuple[TopLogprob, ...] | None


class PromptDetails(Struct, frozen=True):
    cached_tokens: int


class CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | UnsetType = UNSET
    completion_tokens_details: CompletionDetails | UnsetType = UNSET


class WrittenFunction(Struct, frozen=True):
    name: str
    arguments: str


class WrittenCall(Struct, frozen=True):
    id: str
    type: str
    function: WrittenFunction


class WrittenMessage(Struct, frozen=True):
    role: str
    content: str | None
    refusal: str | None
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[WrittenCall, ...] | UnsetType = UNSET


class WrittenChoice(Struct, frozen=True):
    index: int
    message: WrittenMessage
    logprobs: Logprobs | None
    finish_reason: str


class Completion(Struct, frozen=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[WrittenChoice, ...]
    usage: Usage | UnsetType = UNSET


def usage(counted: events.Usage) -> Usage:
    """OpenAI's spelling of a usage. What the engine did not tell is left out."""
    cached, thought = counted.cached_tokens, counted.reasoning_tokens
    return Usage(
        counted.prompt_tokens,
        counted.completion_tokens,
        counted.prompt_tokens + counted.completion_tokens,
        UNSET if cached is None else PromptDetails(cached),
        UNSET if thought is None else CompletionDetails(thought),
    )


def logprobs(tokens: tuple[events.TokenLogprob, ...], *, refusal: bool) -> Logprobs:
    """OpenAI's spelling of log-probabilities, of the text or of a refusal."""
    written = tuple(
        TopLogprob(
            token.token,
            token.logprob,
            token.bytes,
            tuple(Logprob(rival.token, rival.logprob, rival.bytes) for rival in token.top),
        )
        for token in tokens
    )
    return Logprobs(None, written) if refusal else Logprobs(written, None)


class Model(Struct, frozen=True):
    """The body of GET /v1/models/{id}."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "standpipe"
    """Not who owns it at the engine: by this name, clients and another Standpipe in front know what server they ask."""
    input_modalities: tuple[str, ...] = ("text",)
    """What it takes, by OpenRouter's name for it: `text`, and `image` where it sees."""
    max_model_len: int | UnsetType = UNSET
    """Tokens of prompt and answer together, where that is known; by vLLM's name for it, which tools read."""


class _Models(Struct, frozen=True):
    data: tuple[Model, ...]
    object: str = "list"


def models_list(models: Iterable[Model]) -> bytes:
    """The body of GET /v1/models."""
    return encode(_Models(tuple(models)))


def model(name: str, created: int, window: int | None, *, sees: bool) -> Model:
    """A model, its window in tokens, and whether it may be shown images. `created` is in Unix seconds."""
    takes = ("text", "image") if sees else ("text",)
    return Model(name, created, input_modalities=takes, max_model_len=UNSET if window is None else window)
