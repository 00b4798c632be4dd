"""OpenAI's Responses as we offer them: the dialect, and how its requests become asks.

Function tools, reasoning in the open, text in and text out. Reasoning comes as items with `reasoning_text` content,
never summarised and never encrypted, and is taken back the same way. What one assistant's message is to us, there is
up to a reasoning item, a message and some calls: such neighbours become one message, in the order in which they came.

Whoever keeps responses between asks builds the dialect with `keeps`, and hands each parsed ask through `kept.joined`;
without that nothing is kept, `store` is answered with false, and `previous_response_id` is refused. The outline of a
response tells what really holds: an effort that no model here knows is the highest one that they do, and nothing is
ever cut from the beginning of a conversation, so its truncation is always `disabled`.

The past is read kindly: items of tools that ran elsewhere are told as far as they can be, and passed over otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Raw

from standpipe.chat.ask import (
    Ask,
    FormatKind,
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
    ToolResult,
    now,
)
from standpipe.chat.errors import ContextTooLong, Failure, InvalidAsk, Unsupported
from standpipe.chat.events import Answer, Event, Failed, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.dialects.asks import Part as SentPart
from standpipe.dialects.asks import (
    as_input,
    effort,
    filled,
    functions,
    object_text,
    past_call,
    past_result,
    past_said,
    past_text,
    past_texts,
    past_told,
    plain,
    present,
    raw_text,
    schema_format,
    texts,
    told,
    tool_choice,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.openai.faults import RESPONSES, failure_body, renamed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.answer import ResponseEvents
from standpipe.dialects.openai.responses.kept import Echo
from standpipe.dialects.openai.responses.tools import NAMELESS, CalledAs, full_name, function, placed
from standpipe.dialects.reading import DROPPED, Reader

_TEXTS = ("input_text", "output_text", "text")


class OpenAIResponses:
    """The dialect of POST /v1/responses."""

    name = "openai_responses"
    stream_type = "text/event-stream"
    reader = Reader(
        wire.Request,
        ignored={
            "access_programs",
            "background_options",
            "context_management",
            "image",
            "max_tool_calls",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning.generate_summary",
            "reasoning.summary",
            "safety_identifier",
            "service_tier",
            "stream_options",
            "text.verbosity",
            "user",
        },
        refused={
            "conversation": "Conversations are not stored: send the whole conversation in `input`.",
            "moderation": "Moderation is not supported.",
            "prompt": "Prompt templates are not stored: send `instructions` and `input`.",
        },
    )

    def __init__(self, *, keeps: bool = False) -> None:
        """`keeps` promises that somebody keeps what clients want kept; who does not say wants it, as at OpenAI."""
        self._keeps = keeps

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is an `Echo`."""
        request, dropped = self.reader.read(body)
        if request.previous_response_id is not None and not self._keeps:
            raise Unsupported(
                "This server does not store responses. Omit `previous_response_id` and send the whole conversation in "
                "`input`.",
                param="previous_response_id",
            )
        ask, outline, called_as, passed_over = _ask(request)
        return Parsed(
            ask=ask,
            stream=bool(request.stream),
            echo=Echo(outline, keep=self._keeps and request.store is not False, called_as=called_as),
            dropped=(dropped + passed_over)[:DROPPED],
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return ResponseEvents(parsed, meta)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """The response with which the stream of this answer would have ended."""
        events = ResponseEvents(parsed, meta)
        events.encode(_told(answer))
        return events.final

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(RESPONSES, failure), request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:
        """Codex shortens its conversation when a response fails with this code, and gives up on a status of 400."""
        return ResponseEvents(self.parse(b'{"input": "-"}'), meta).encode([Failed(failure)])

    def __repr__(self) -> str:
        return f"<OpenAIResponses{' that keeps' if self._keeps else ''}>"


def _told(answer: Answer) -> list[Event]:
    return [
        Started(answer.model),
        ReasoningDelta(answer.reasoning),
        TextDelta(answer.text, answer.logprobs if answer.text else ()),
        TextDelta(answer.refusal, refusal=True),
        *(ToolCallDelta(index, call.arguments, call.id, call.name) for index, call in enumerate(answer.tool_calls)),
        Finished(answer.reason, answer.usage),
    ]


def _ask(request: wire.Request) -> tuple[Ask, wire.Response, dict[str, CalledAs], tuple[str, ...]]:
    """The ask, the outline of its response, what calls are to the client, and the tools that no model hears of.

    Raises InvalidAsk, Unsupported or TooLarge.
    """
    if request.background:
        raise Unsupported("`background` must be false: background responses are not supported.", param="background")
    said = _messages(request.input)
    if request.instructions:
        said = (Message(Role.SYSTEM, (Text(request.instructions),)), *said)
    sent = list(_declared_tools(request))
    declared, passed_over = functions(((path, tool) for path, tool, _ in sent), function, "parameters")
    choice, tools = _choice(request.tool_choice, declared)
    form = _format(None if request.text is None else request.text.format)
    called_as = {
        called.type if called.type in NAMELESS else tool.name or "": called
        for _, tool, called in sent
        if called.type != "function" or called.namespace is not None
    }
    how_hard = effort(None if request.reasoning is None else request.reasoning.effort)
    logprobs = "message.output_text.logprobs" in (request.include or ()) or bool(request.top_logprobs)
    ask = Ask(
        messages=said,
        model=request.model or None,
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_output_tokens,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            logprobs=logprobs,
            top_logprobs=request.top_logprobs if logprobs else None,
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        format=form,
        effort=how_hard,
    )
    sampled = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    outline = wire.Response(
        **{name: value for name in sampled if (value := getattr(request, name)) is not None},
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning=wire.WrittenReasoning(how_hard),
        text=wire.WrittenText(_written_format(form)),
        tool_choice="auto" if request.tool_choice is None else _written_choice(request.tool_choice),
        tools=tuple(
            wire.WrittenTool(tool.name, tool.description, tool.parameters, tool.strict)
            for tool in declared
            if tool.name not in called_as
        ),
        top_logprobs=request.top_logprobs or 0,
    )
    return ask, outline, called_as, passed_over


def _declared_tools(request: wire.Request) -> Iterator[tuple[str, wire.Tool, CalledAs]]:
    """The tools, and those that came later, as items of the input."""
    yield from placed(request.tools or ())
    for i, item in enumerate(request.input if isinstance(request.input, list) else ()):
        if item.type == "additional_tools":
            yield from placed(_later_tools(item.tools, f"input[{i}].tools"), f"input[{i}].tools")


def _format(sent: wire.Format | None) -> OutputFormat:
    if sent is None:
        return OutputFormat()
    if sent.type is not FormatKind.JSON_SCHEMA:
        return OutputFormat(sent.type)
    return schema_format(
        sent.schema, "text.format.schema", name=sent.name, description=sent.description, strict=sent.strict
    )


def _written_format(form: OutputFormat) -> wire.WrittenFormat:
    described = {
        name: value
        for name in ("name", "schema", "description", "strict")
        if (value := getattr(form, name)) is not None
    }
    return wire.WrittenFormat(form.kind, **described)


def _choice(sent: str | wire.ChosenTool | None, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that are left by it."""
    if sent is None:
        return None, tools
    if isinstance(sent, str):
        return tool_choice(ToolMode(sent), tools, "tool_choice"), tools
    if sent.type == "allowed_tools":
        mode = ToolMode(present(sent.mode, "tool_choice.mode"))
        allowed = {_declared(tool, tools, f"tool_choice.tools[{i}]").name for i, tool in enumerate(sent.tools or ())}
        left = tuple(tool for tool in tools if tool.name in allowed)
        return tool_choice(mode, left, "tool_choice.tools"), left
    return _declared(sent, tools, "tool_choice"), tools


def _declared(sent: wire.AllowedTool, tools: Sequence[Tool], path: str) -> ToolChoice:
    """The choice of one tool that the client runs; there are no others here."""
    nameless = sent.type in NAMELESS
    if not nameless and sent.type not in {"function", "custom"}:
        raise Unsupported(f"`{path}.type` is {plain(sent.type)}, which is not supported.", param=f"{path}.type")
    name = sent.type if nameless else present(sent.name, f"{path}.name")
    choice = tool_choice(ToolMode.NAMED, tools, f"{path}.{'type' if nameless else 'name'}", name)
    assert choice is not None
    return choice


def _written_choice(sent: str | wire.ChosenTool) -> Any:
    if isinstance(sent, str):
        return sent
    if sent.type == "allowed_tools":
        return {"type": sent.type, "mode": sent.mode, "tools": [_named(tool) for tool in sent.tools or ()]}
    return _named(sent)


def _named(sent: wire.AllowedTool) -> dict[str, str | None]:
    return {"type": sent.type} if sent.type in NAMELESS else {"type": sent.type, "name": sent.name}


# What was said ------------------------------------------------------------------------------------------------------


def _messages(sent: str | Sequence[wire.Item]) -> tuple[Message, ...]:
    """Raises InvalidAsk or Unsupported."""
    if isinstance(sent, str):
        return (Message(Role.USER, (Text(sent),)),)
    end_of_past = now([_is_spoken(item) for item in sent])
    found: list[Message] = []
    turns = (turn for i, item in enumerate(sent) for turn in _read(item, f"input[{i}]", past=i < end_of_past))
    for role, turn in groupby(turns, key=itemgetter(0)):
        if role is Role.ASSISTANT:
            found.append(Message(role, tuple(part for _, parts in turn for part in parts) or (Text(""),)))
        else:
            found += [Message(role, parts) for _, parts in turn]
    if not found:
        raise InvalidAsk("`input` has no content for the model.", param="input")
    return tuple(found)


def _is_spoken(item: wire.Item) -> bool:
    """Whether this is the assistant's."""
    return item.role == "assistant" or (item.type or "").endswith(("reasoning", "_call"))


def _read(item: wire.Item, path: str, *, past: bool) -> Iterator[tuple[Role, tuple[Part, ...]]]:
    """One item: who speaks, and what. Items up to the assistant's last are the past, and so is whatever a tool said."""
    match item.type:
        case "message" | None:
            role = Role(present(item.role, f"{path}.role"))
            if role is Role.ASSISTANT:
                yield role, tuple(past_texts(item.content))
            elif role is Role.USER:
                where = f"{path}.content"
                yield role, past_told(item.content, where) if past else tuple(told(item.content, where, _TEXTS))
            else:
                yield role, past_said(item.content) if past else tuple(texts(item.content, f"{path}.content", _TEXTS))
        case "reasoning":
            if thought := past_text(item.content) or past_text(item.summary):  # what is encrypted was not by us
                yield Role.ASSISTANT, (Reasoning(thought),)
        case "function_call" | "mcp_call":
            name = full_name(item.namespace, item.name)
            call = past_call(
                filled(item.call_id or item.id, f"{path}.call_id"), name, raw_text(item.arguments, f"{path}.arguments")
            )
            yield Role.ASSISTANT, (call,)
            if item.type == "mcp_call":
                yield Role.TOOL, (_result(call.id, item.output, f"{path}.output"),)
        case "custom_tool_call":
            call_id, name = filled(item.call_id, f"{path}.call_id"), full_name(item.namespace, item.name)
            yield Role.ASSISTANT, (past_call(call_id, name, as_input(item.input)),)
        case "local_shell_call" | "shell_call" | "apply_patch_call" as kind:
            call_id = filled(item.call_id or item.id, f"{path}.call_id")
            field = "operation" if kind == "apply_patch_call" else "action"
            arguments = object_text(getattr(item, field), f"{path}.{field}")
            yield Role.ASSISTANT, (past_call(call_id, kind.removesuffix("_call"), arguments),)
        case "additional_tools":
            return  # they were read with the others
        case "item_reference":
            raise Unsupported(
                f"`{path}` refers to an item that is not stored: send the item itself. Most clients do so when "
                "`store` is false.",
                param=path,
            )
        case kind if kind.endswith("_call_output"):
            call_id = filled(item.call_id or item.id, f"{path}.call_id")
            yield Role.TOOL, (_result(call_id, item.output, f"{path}.output"),)
        case kind if not (past or _is_spoken(item)):
            raise Unsupported(f"`{path}.type` is {plain(kind)}, which is not supported.", param=f"{path}.type")


def _later_tools(sent: Raw, path: str) -> Sequence[wire.Tool]:
    """Tools within an item; those within items of other types have other forms. Raises InvalidAsk."""
    try:
        return _TOOLS.decode(sent) or ()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidAsk(f"`{path}` must be a list of tools.", param=path) from None


def _result(call_id: str, sent: Raw, param: str) -> ToolResult:
    """What a tool gave back: words as far as it has some, and images; of another form, the JSON. Raises InvalidAsk."""
    text = raw_text(sent, param)
    if text[:1] not in {"[", "{"}:
        return ToolResult(call_id, text)
    try:
        found = _PARTS.decode(text)
    except msgspec.DecodeError:
        return ToolResult(call_id, text)
    return past_result(call_id, [found] if isinstance(found, SentPart) else found, param)


_PARTS = msgspec.json.Decoder(list[SentPart] | SentPart)
_TOOLS = msgspec.json.Decoder(wire.Tools | None)
