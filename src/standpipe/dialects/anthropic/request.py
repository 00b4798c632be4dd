"""Anthropic's Messages, as we offer them at `/v1/messages`: the dialect, and how its requests become asks.

`x-api-key` and `anthropic-version` are headers, which no dialect sees. What differs from other formats: a turn is a
list of blocks, the results of tools stand in a user's turn, turns of the same role in a row are one turn, and the
system prompt stands beside the messages. Reasoning becomes blocks of thinking where the client asked for thinking.
Where it did not, it is not told, as with Anthropic: programs that never heard of thinking take the first block for
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from standpipe.chat.ask import (
    Ask,
    Effort,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
    now,
)
from standpipe.chat.errors import ContextTooLong, Failure
from standpipe.chat.events import Answer
from standpipe.dialects import asks
from standpipe.dialects.anthropic import wire
from standpipe.dialects.anthropic.answer import Blocks, whole
from standpipe.dialects.anthropic.faults import failure_body
from standpipe.dialects.anthropic.tools import client_side
from standpipe.dialects.asks import (
    filled,
    part_of,
    past_part,
    past_result,
    past_said,
    past_text,
    past_told,
    present,
    schema_format,
    texts,
    told,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.images import Album
from standpipe.dialects.reading import DROPPED, Reader

LOW_BUDGET = 2048
"""Most tokens of thinking that mean a low effort."""
MEDIUM_BUDGET = 8192
"""Most tokens of thinking that mean a medium effort."""

_MODES = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}


class Anthropic:
    """The dialect."""

    name = "anthropic"
    stream_type = "text/event-stream"
    reader = Reader(
        wire.Request,
        ignored={
            "cache_control",
            "context_management",
            "diagnostics",
            "inference_geo",
            "metadata",
            "service_tier",
            "speed",
            "user_profile_id",
            "workspace_id",
        },
        refused={
            "container": "`container` is not supported: this server runs no code.",
            "mcp_servers": "`mcp_servers` is not supported: this server calls no tools.",
        },
    )

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall show thinking."""
        request, dropped = self.reader.read(body)
        present(request.max_tokens, "max_tokens")
        ask, passed_over = _ask(request)
        thinking = request.thinking
        return Parsed(
            ask=ask,
            stream=bool(request.stream),
            echo=thinking is not None and _thinks(thinking) and thinking.display != "omitted",
            dropped=(dropped + passed_over)[:DROPPED],
        )

    def parse_count(self, body: bytes) -> Ask:
        """The ask in a request to count tokens, which is that for a message without its limit. Raises as `parse`."""
        return _ask(self.reader.read(body)[0])[0]

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Blocks(meta, thinking=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """Raises EngineFailed for a call that no client could read."""
        return whole(meta, answer, thinking=parsed.echo)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:  # noqa: ARG002 - a status tells it
        return b""

    def __repr__(self) -> str:
        return "<Anthropic>"


MESSAGES = Anthropic()
"""POST /v1/messages."""


def _ask(request: wire.Request) -> tuple[Ask, tuple[str, ...]]:
    """The ask, and the tools that no model hears of. Raises InvalidAsk, Unsupported or TooLarge."""
    tools, passed_over = asks.functions(asks.placed(request.tools), _function, "input_schema")
    choice = request.tool_choice
    serial = None if choice is None else choice.disable_parallel_tool_use
    ask = Ask(
        messages=tuple(_joined(_messages(request))),
        model=request.model or None,
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=request.max_tokens,
            stop=asks.stops(request.stop_sequences),
            tell_stop=bool(request.stop_sequences),
        ),
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tool_calls=None if serial is None else not serial,
        format=_format(request.output_config),
        effort=_effort(request.thinking, request.output_config),
    )
    return ask, passed_over


def _thinks(thinking: wire.Thinking) -> bool:
    return thinking.type in {"enabled", "adaptive"}


def _effort(thinking: wire.Thinking | None, config: wire.OutputConfig | None) -> Effort | None:
    """An effort that is named counts more than a budget; no thinking counts more than both."""
    effort = None if config is None else asks.effort(config.effort)
    if thinking is None:
        return effort
    if not _thinks(thinking):
        return Effort.NONE
    if thinking.type == "adaptive":
        return effort
    budget = present(thinking.budget_tokens, "thinking.budget_tokens")
    by_budget = Effort.LOW if budget <= LOW_BUDGET else Effort.MEDIUM if budget <= MEDIUM_BUDGET else Effort.HIGH
    return effort or by_budget


def _format(config: wire.OutputConfig | None) -> OutputFormat:
    if config is None or config.format is None:
        return OutputFormat()
    return schema_format(config.format.schema, "output_config.format.schema")


def _function(sent: wire.Tool, path: str) -> Tool | None:
    if sent.type not in {None, "custom"}:
        return client_side(sent.type or "", sent.name)
    return Tool(sent.name, sent.description, present(sent.input_schema, f"{path}.input_schema"), sent.strict)


def _tool_choice(sent: wire.ToolChoice | None, tools: Sequence[Tool]) -> ToolChoice | None:
    if sent is None:
        return None
    mode = _MODES[sent.type]
    if mode is ToolMode.NAMED:
        return asks.tool_choice(mode, tools, "tool_choice.name", sent.name)
    return asks.tool_choice(mode, tools, "tool_choice.type")


# What was said ------------------------------------------------------------------------------------------------------


def _messages(request: wire.Request) -> Iterator[Message]:
    """The messages as they came, a user's with results of tools as two."""
    if request.system:
        yield Message(Role.SYSTEM, (Text(_text(request.system, "system")),))
    album = Album()
    end_of_past = now([message.role == "assistant" for message in request.messages])
    for i, message in enumerate(request.messages):
        path = f"messages[{i}].content"
        match message.role:
            case "assistant":
                yield Message(Role.ASSISTANT, tuple(_assistant_parts(message.content, path)) or (Text(""),))
            case "system":
                yield Message(Role.SYSTEM, (Text(_text(message.content, path, past=i < end_of_past)),))
            case _:
                yield from _user_turn(message.content, path, album, past=i < end_of_past)


def _joined(messages: Iterator[Message]) -> list[Message]:
    """Turns of the same role in a row are one turn, which is what this format says and what templates insist on."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role is message.role is not Role.SYSTEM:
            joined[-1] = Message(message.role, joined[-1].parts + message.parts)
        else:
            joined.append(message)
    return joined


def _user_turn(content: str | Sequence[wire.Block] | None, path: str, album: Album, *, past: bool) -> Iterator[Message]:
    """Results go first, because they follow the calls that they answer. They are the past, however new."""
    if isinstance(content, str) or not content:
        yield Message(Role.USER, past_told(content, path, album) if past else tuple(told(content, path, album)))
        return
    results: list[Part] = []
    said: list[Part] = []
    for i, block in enumerate(content):
        here = f"{path}[{i}]"
        if block.type == "tool_result":
            call_id = filled(block.tool_use_id, f"{here}.tool_use_id")
            results.append(past_result(call_id, block.content, f"{here}.content", album, failed=bool(block.is_error)))
        else:
            said += past_part(block, here, album) if past else [part_of(block, here, album)]
    if results:
        yield Message(Role.TOOL, tuple(results))
    if said:
        yield Message(Role.USER, tuple(said))


def _assistant_parts(content: str | Sequence[wire.Block] | None, path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for i, block in enumerate(content or ()):
        match block.type:
            case "thinking":
                yield Reasoning(block.thinking or "", block.signature)
            case "redacted_thinking":
                continue  # only who wrote it can read it
            case "tool_use":
                call_id = filled(block.id, f"{path}[{i}].id")
                yield asks.past_call(call_id, block.name, asks.object_text(block.input, f"{path}[{i}].input"))
            case "server_tool_use" | "mcp_tool_use":
                continue  # it ran elsewhere, and what came of it was said
            case _:
                yield from past_said([block])


def _text(content: str | Sequence[wire.Block] | None, path: str, *, past: bool = False) -> str:
    return past_text(content) if past else "\n".join(part.text for part in texts(content, path))
