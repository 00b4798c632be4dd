"""OpenAI's Chat Completions as we offer them: the dialect, and how its requests become asks.

There are two flavours that differ in their defaults alone. `/v1/chat/completions` has OpenAI's: a whole answer, and
whatever sampling the engine prefers. `/api` has ours: a stream, with temperature 0.8 and top_p 0.9. Both take the same
fields, and drop what they do not know. What an operator allows is policy's business, and whether an engine can do it
is the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.json import Decoder

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import Failure, InvalidAsk, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.bounds import (
    MESSAGES,
    TOOLS,
    check_count,
    check_name,
    check_range,
    check_schemas,
    check_tools,
    effort,
    filled,
    one_of,
    present,
    stops,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.openai import wire
from standpipe.dialects.openai.answer import Chunks, whole
from standpipe.dialects.openai.faults import failure_body
from standpipe.dialects.reading import decode, fields, is_null, unknown

BIASED_TOKENS = 64
TOP_LOGPROBS = 5

_INT32 = 2**31 - 1
_INT64 = 2**63
_TOKEN_ID = re.compile(r"[0-9]{1,9}")
_MEDIA = frozenset(
    f"{prefix}{medium}" for prefix in ("", "input_") for medium in ("image", "image_url", "audio", "file", "video")
) | {"audio_url", "video_url"}
_MODES = (ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED)
_ROLES, _FORMATS = tuple(Role), tuple(FormatKind)
_RANGES = (
    ("temperature", 0, 2),
    ("top_p", 0, 1),
    ("frequency_penalty", -2, 2),
    ("presence_penalty", -2, 2),
    ("seed", -_INT64, _INT64 - 1),
    ("top_logprobs", 0, TOP_LOGPROBS),
)
_PLAIN = OutputFormat()

T = TypeVar("T")


class Defaults(Struct, frozen=True):
    """What holds where a client says nothing. None means: the engine's own default."""

    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None


def ask(request: wire.Request, defaults: Defaults) -> Ask:
    """Raises InvalidAsk, Unsupported or TooLarge."""
    check_count(request.messages, 1, MESSAGES, "messages")
    _check_outputs(request)
    tools = _tools(request.tools) if request.tools else ()
    return Ask(
        messages=tuple(_message(message, f"messages[{i}]") for i, message in enumerate(request.messages)),
        model=request.model or None,
        sampling=_sampling(request, defaults),
        tools=tools,
        tool_choice=_tool_choice(request.tool_choice, tools),
        parallel_tool_calls=request.parallel_tool_calls,
        format=_format(request.response_format),
        effort=effort(request.reasoning_effort, "reasoning_effort"),
    )


def _check_outputs(request: wire.Request) -> None:
    if request.n not in {None, 1}:
        raise Unsupported("`n` must be 1: one ask gets one answer.", param="n")
    for i, modality in enumerate(request.modalities or ()):
        if modality != "text":
            raise Unsupported("Answers are text only: `modalities` may hold `text`.", param=f"modalities[{i}]")


def _sampling(request: wire.Request, defaults: Defaults) -> Sampling:
    for name, low, high in _RANGES:
        value = getattr(request, name)
        if value is not None:
            check_range(value, low, high, name)
    if request.top_logprobs and not request.logprobs:
        raise InvalidAsk("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    if request.logit_bias:
        _check_bias(request.logit_bias)
    older = _token_limit(request.max_tokens, "max_tokens")
    newer = _token_limit(request.max_completion_tokens, "max_completion_tokens")
    return Sampling(
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        max_tokens=older if request.max_completion_tokens is None else newer,
        stop=stops(request.stop, "stop"),
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=request.logit_bias or None,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )


def _token_limit(value: int | None, param: str) -> int | None:
    if value is None or value == -1:
        return None
    if not 1 <= value <= _INT32:
        raise InvalidAsk(f"`{param}` must be at least 1, or -1 for no limit of its own.", param=param)
    return value


def _check_bias(bias: dict[str, float]) -> None:
    check_count(bias, 0, BIASED_TOKENS, "logit_bias")
    for token, value in bias.items():
        if not _TOKEN_ID.fullmatch(token):
            raise InvalidAsk("The keys of `logit_bias` must be token ids in decimal.", param="logit_bias")
        check_range(value, -100, 100, "logit_bias")


def _format(sent: wire.ResponseFormat | None) -> OutputFormat:
    if sent is None:
        return _PLAIN
    kind = one_of(sent.type, _FORMATS, "response_format.type")
    if kind is not FormatKind.JSON_SCHEMA:
        return OutputFormat(kind)
    param = "response_format.json_schema"
    described = present(sent.json_schema, param)
    check_name(described.name, f"{param}.name")
    schema = present(described.schema, f"{param}.schema")
    check_schemas({f"{param}.schema": schema})
    return OutputFormat(kind, schema, described.name, described.description, described.strict)


def _tools(sent: Sequence[wire.Tool]) -> tuple[Tool, ...]:
    check_count(sent, 0, TOOLS, "tools")
    functions = [_function(tool.type, tool.function, f"tools[{i}]") for i, tool in enumerate(sent)]
    tools = tuple(Tool(one.name, one.description, one.parameters, one.strict) for one in functions)
    check_tools(tools, "function.name", "function.parameters")
    return tools


def _tool_choice(sent: str | wire.NamedTool | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    if sent is None:
        return None
    if isinstance(sent, str):
        mode = one_of(sent, _MODES, "tool_choice")
        if mode is ToolMode.REQUIRED and not tools:
            raise InvalidAsk("`tool_choice` is `required`, but `tools` declares none.", param="tool_choice")
        return ToolChoice(mode) if tools else None
    name = _function(sent.type, sent.function, "tool_choice").name
    if not any(tool.name == name for tool in tools):
        param = "tool_choice.function.name"
        raise InvalidAsk(f"`{param}` must be the name of a declared tool.", param=param)
    return ToolChoice(ToolMode.NAMED, name)


def _message(sent: wire.Message, param: str) -> Message:
    if sent.role == "function":
        raise Unsupported("The role `function` is not supported: use `tool`.", param=f"{param}.role")
    role = one_of(sent.role, _ROLES, f"{param}.role")
    if sent.name is not None:
        check_name(sent.name, f"{param}.name")
    match role:
        case Role.ASSISTANT:
            parts = tuple(_assistant_parts(sent, param))
        case Role.TOOL:
            parts = (_tool_result(sent, param),)
        case Role.SYSTEM | Role.DEVELOPER | Role.USER:
            content = sent.content
            parts = (Text(content),) if isinstance(content, str) else tuple(_texts(content, f"{param}.content"))
    return Message(role, parts, sent.name)


def _assistant_parts(sent: wire.Message, param: str) -> Iterator[Part]:
    for name in ("function_call", "audio"):
        if getattr(sent, name) is not None:
            raise Unsupported(f"`{param}.{name}` is not supported.", param=f"{param}.{name}")
    reasoning = sent.reasoning or sent.reasoning_content or sent.thinking
    if reasoning:
        yield Reasoning(reasoning)
    if sent.content or not (reasoning or sent.refusal or sent.tool_calls):
        yield from _texts(sent.content, f"{param}.content", refusals=True)
    if sent.refusal:
        yield Refusal(sent.refusal)
    for i, call in enumerate(sent.tool_calls or ()):
        place = f"{param}.tool_calls[{i}]"
        function = _function(call.type, call.function, place)
        check_name(function.name, f"{place}.function.name")
        yield ToolCall(filled(call.id, f"{place}.id"), function.name, function.arguments)


def _tool_result(sent: wire.Message, param: str) -> ToolResult:
    call_id = filled(sent.tool_call_id, f"{param}.tool_call_id")
    return ToolResult(call_id, "\n".join(part.text for part in _texts(sent.content, f"{param}.content")))


def _texts(content: str | list[wire.Part] | None, param: str, *, refusals: bool = False) -> Iterator[Text | Refusal]:
    if isinstance(content, str):
        yield Text(content)
        return
    if not content:
        raise InvalidAsk(f"`{param}` must be a string, or a list of at least one text part.", param=param)
    for i, part in enumerate(content):
        place = f"{param}[{i}]"
        match part.type:
            case "text":
                yield Text(present(part.text, f"{place}.text"))
            case "refusal" if refusals:
                yield Refusal(present(part.refusal, f"{place}.refusal"))
            case medium if medium in _MEDIA:
                raise Unsupported(f"`{place}` is of type `{medium}`, and only `text` can be read here.", param=place)
            case _:
                allowed = "`text` or `refusal`" if refusals else "`text`"
                raise InvalidAsk(f"`{place}.type` must be {allowed}.", param=f"{place}.type")


def _function(kind: str, function: T | None, param: str) -> T:
    if kind != "function":
        raise Unsupported(f"`{param}.type` must be `function`: other kinds are not supported.", param=f"{param}.type")
    return present(function, f"{param}.function")


TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "audio": "Answers are text only.",
    "function_call": "`function_call` is not supported: use `tool_choice`.",
    "functions": "`functions` is not supported: use `tools`.",
    "moderation": "Nothing is moderated here.",
    "web_search_options": "No tools run on this server: `web_search_options` is not supported.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class OpenAIChat:
    """The dialect, with the defaults of one of its flavours."""

    stream_type = "text/event-stream"

    def __init__(self, name: str, defaults: Defaults) -> None:
        self.name = name
        self._defaults = defaults

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the stream shall tell its usage."""
        sent = fields(body)
        for name, message in REFUSED.items():
            if name in sent and not is_null(sent[name]):
                raise Unsupported(message, param=name)
        request = decode(body, _REQUEST)
        options = request.stream_options
        return Parsed(
            ask=ask(request, self._defaults),
            stream=self._defaults.stream if request.stream is None else request.stream,
            echo=bool(options and options.include_usage),
            dropped=unknown(sent, _KNOWN),
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Chunks(meta, include_usage=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:  # noqa: ARG002 -- the protocol's
        return whole(meta, answer)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def __repr__(self) -> str:
        return f"<OpenAIChat {self.name}>"


API = OpenAIChat("api", Defaults(stream=True, temperature=0.8, top_p=0.9))
"""POST /api."""
COMPLETIONS = OpenAIChat("openai_chat", Defaults())
"""POST /v1/chat/completions."""
