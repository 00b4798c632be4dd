"""Anthropic's Messages, as we offer them at `/v1/messages`: the dialect, and how its requests become asks.

`x-api-key` and `anthropic-version` are headers, which no dialect sees. What differs from other formats: a turn is a
list of blocks, the results of tools stand in a user's turn, turns of the same role in a row are one turn, and the
system prompt stands beside the messages. Reasoning becomes blocks of thinking where the client asked for thinking.
Where it did not, it is not told, as with Anthropic: programs that never heard of thinking take the first block for
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.json import Decoder

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
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
from standpipe.dialects import bounds
from standpipe.dialects.anthropic import wire
from standpipe.dialects.anthropic.answer import Blocks, whole
from standpipe.dialects.anthropic.faults import failure_body
from standpipe.dialects.bounds import (
    TOOLS,
    check_count,
    check_name,
    check_range,
    check_schemas,
    check_tools,
    filled,
    one_of,
    present,
    stops,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.reading import decode, fields, is_null, object_text, unknown

LOW_BUDGET = 2048
"""Most tokens of thinking that mean a low effort."""
MEDIUM_BUDGET = 8192
"""Most tokens of thinking that mean a medium effort."""

_INT32 = 2**31 - 1
_ROLES = (Role.USER, Role.ASSISTANT, Role.SYSTEM)
_UNREADABLE = frozenset({"container_upload", "document", "image", "search_result", "server_tool_use", "mcp_tool_use"})
_MODES = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}
_EFFORTS = {
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
    "max": Effort.HIGH,
}
_THINKS = {"enabled": True, "adaptive": True, "disabled": False, "between_tools": False}

T = TypeVar("T")


def ask(request: wire.Request) -> Ask:
    """Raises InvalidAsk, Unsupported or TooLarge."""
    check_count(request.messages, 1, bounds.MESSAGES, "messages")
    tools = _tools(request.tools or ())
    choice = request.tool_choice
    serial = None if choice is None else choice.disable_parallel_tool_use
    return Ask(
        messages=tuple(_joined(_messages(request))),
        model=request.model or None,
        sampling=_sampling(request),
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tool_calls=None if serial is None else not serial,
        format=_format(request.output_config),
        effort=_effort(request.thinking, request.output_config),
    )


def shows_thinking(thinking: wire.Thinking | None) -> bool:
    """Whether blocks of thinking go into the answer: only if they were asked for, because who did not takes the first
    block for text. For a request that is an ask."""
    return thinking is not None and _THINKS[thinking.type] and thinking.display != "omitted"


def _sampling(request: wire.Request) -> Sampling:
    check_range(request.max_tokens, 1, _INT32, "max_tokens")
    check_range(request.temperature, 0, 1, "temperature")
    check_range(request.top_p, 0, 1, "top_p")
    check_range(request.top_k, 0, _INT32, "top_k")
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        max_tokens=request.max_tokens,
        stop=(stop := stops(request.stop_sequences, "stop_sequences")),
        tell_stop=bool(stop),
    )


def _effort(thinking: wire.Thinking | None, config: wire.OutputConfig | None) -> Effort | None:
    """An effort that is named counts more than a budget; no thinking counts more than both."""
    effort = None
    if config is not None and config.effort is not None:
        effort = _word(config.effort, _EFFORTS, "output_config.effort")
    if thinking is None:
        return effort
    if not _word(thinking.type, _THINKS, "thinking.type"):
        return Effort.NONE
    if thinking.type == "adaptive":
        return effort
    budget = present(thinking.budget_tokens, "thinking.budget_tokens")
    check_range(budget, 1, _INT32, "thinking.budget_tokens")
    by_budget = Effort.LOW if budget <= LOW_BUDGET else Effort.MEDIUM if budget <= MEDIUM_BUDGET else Effort.HIGH
    return effort or by_budget


def _format(config: wire.OutputConfig | None) -> OutputFormat:
    sent = None if config is None else config.format
    if sent is None:
        return OutputFormat()
    param = "output_config.format"
    one_of(sent.type, (FormatKind.JSON_SCHEMA,), f"{param}.type")
    schema = present(sent.schema, f"{param}.schema")
    check_schemas({f"{param}.schema": schema})
    return OutputFormat(FormatKind.JSON_SCHEMA, schema)


def _tools(sent: Sequence[wire.Tool]) -> tuple[Tool, ...]:
    check_count(sent, 0, TOOLS, "tools")
    for i, tool in enumerate(sent):
        if tool.type not in {None, "custom"}:
            raise Unsupported(
                f"`tools[{i}].type` must be `custom`: no tools run on this server.", param=f"tools[{i}].type"
            )
        present(tool.input_schema, f"tools[{i}].input_schema")
    tools = tuple(Tool(tool.name, tool.description, tool.input_schema, tool.strict) for tool in sent)
    check_tools(tools, "name", "input_schema")
    return tools


def _tool_choice(sent: wire.ToolChoice | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    if sent is None:
        return None
    mode = _word(sent.type, _MODES, "tool_choice.type")
    if mode is ToolMode.REQUIRED and not tools:
        raise InvalidAsk("`tool_choice.type` is `any`, but `tools` declares none.", param="tool_choice.type")
    if mode is not ToolMode.NAMED:
        return ToolChoice(mode) if tools else None
    if not any(tool.name == sent.name for tool in tools):
        raise InvalidAsk("`tool_choice.name` must be the name of a declared tool.", param="tool_choice.name")
    return ToolChoice(mode, sent.name)


def _messages(request: wire.Request) -> Iterator[Message]:
    if request.system:
        yield Message(Role.SYSTEM, (Text(_text(request.system, "system")),))
    for i, message in enumerate(request.messages):
        param = f"messages[{i}]"
        match one_of(message.role, _ROLES, f"{param}.role"):
            case Role.ASSISTANT:
                yield Message(Role.ASSISTANT, tuple(_assistant_parts(message.content, f"{param}.content")))
            case Role.SYSTEM:
                yield Message(Role.SYSTEM, (Text(_text(message.content, f"{param}.content")),))
            case _:
                yield from _user_turn(message.content, f"{param}.content")


def _joined(messages: Iterator[Message]) -> list[Message]:
    """Turns of the same role in a row are one turn, which is what this format says and what templates insist on."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role is message.role is not Role.SYSTEM:
            joined[-1] = Message(message.role, joined[-1].parts + message.parts)
        else:
            joined.append(message)
    return joined


def _user_turn(content: str | list[wire.Block], param: str) -> Iterator[Message]:
    """Results go first, because they follow the calls that they answer."""
    results: list[Part] = []
    texts: list[Part] = []
    for place, block in _blocks(content, param):
        if block.type == "tool_result":
            results.append(_tool_result(block, place))
        else:
            texts.append(Text(_block_text(block, place, "`text` or `tool_result`")))
    if results:
        yield Message(Role.TOOL, tuple(results))
    if texts:
        yield Message(Role.USER, tuple(texts))


def _tool_result(block: wire.Block, param: str) -> ToolResult:
    call_id = filled(block.tool_use_id, f"{param}.tool_use_id")
    text = _text(block.content, f"{param}.content") if block.content else ""
    return ToolResult(call_id, text, failed=bool(block.is_error))


def _assistant_parts(content: str | list[wire.Block], param: str) -> Iterator[Part]:
    spoken = False
    for place, block in _blocks(content, param):
        match block.type:
            case "thinking":
                yield Reasoning(present(block.thinking, f"{place}.thinking"), block.signature)
            case "redacted_thinking":
                continue  # only who wrote it can read it
            case "tool_use":
                call_id = filled(block.id, f"{place}.id")
                name = present(block.name, f"{place}.name")
                check_name(name, f"{place}.name")
                yield ToolCall(call_id, name, object_text(block.input, f"{place}.input"))
            case _:
                yield Text(_block_text(block, place, "`text`, `thinking`, `redacted_thinking` or `tool_use`"))
        spoken = True
    if not spoken:
        yield Text("")


def _blocks(content: str | list[wire.Block], param: str) -> Iterator[tuple[str, wire.Block]]:
    """Each block with its place. A string is one block of text."""
    if isinstance(content, str):
        yield param, wire.Block("text", content)
        return
    if not content:
        raise InvalidAsk(f"`{param}` must be a string, or a list of at least one block.", param=param)
    for i, block in enumerate(content):
        yield f"{param}[{i}]", block


def _text(content: str | list[wire.Block], param: str) -> str:
    return "\n".join(_block_text(block, place, "`text`") for place, block in _blocks(content, param))


def _block_text(block: wire.Block, param: str, allowed: str) -> str:
    if block.type == "text":
        return present(block.text, f"{param}.text")
    if block.type in _UNREADABLE or block.type.endswith("_tool_result"):
        raise Unsupported(f"`{param}` is of type `{block.type}`, and only `text` can be read here.", param=param)
    raise InvalidAsk(f"`{param}.type` must be {allowed}.", param=f"{param}.type")


def _word(word: str, words: Mapping[str, T], param: str) -> T:
    if word not in words:
        raise InvalidAsk(f"`{param}` must be one of {', '.join(f'`{known}`' for known in words)}.", param=param)
    return words[word]


TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "cache_control",
        "diagnostics",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "container": "No code is run on this server: `container` is not supported.",
    "mcp_servers": "No tools are called from this server: `mcp_servers` is not supported.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class Anthropic:
    """The dialect."""

    name = "anthropic"
    stream_type = "text/event-stream"

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall show thinking."""
        request, dropped = _read(body)
        present(request.max_tokens, "max_tokens")
        return Parsed(
            ask=ask(request),
            stream=bool(request.stream),
            echo=shows_thinking(request.thinking),
            dropped=dropped,
        )

    def parse_count(self, body: bytes) -> Ask:
        """The ask in a request to count tokens, which is that for a message without its limit. Raises as `parse`."""
        return ask(_read(body)[0])

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Blocks(meta, thinking=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """Raises EngineFailed for a call that no client could read."""
        return whole(meta, answer, thinking=parsed.echo)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def __repr__(self) -> str:
        return "<Anthropic>"


MESSAGES = Anthropic()
"""POST /v1/messages."""


def _read(body: bytes) -> tuple[wire.Request, tuple[str, ...]]:
    sent = fields(body)
    for name, message in REFUSED.items():
        if not is_null(sent.get(name)):
            raise Unsupported(message, param=name)
    return decode(body, _REQUEST), unknown(sent, _KNOWN)
