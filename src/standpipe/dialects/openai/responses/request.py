"""OpenAI's Responses as we offer them: the dialect, and how its requests become asks.

Function tools, reasoning in the open, text in and text out. Reasoning comes as items with `reasoning_text` content,
never summarised and never encrypted, and is taken back the same way. What one assistant's message is to us, there is
up to a reasoning item, a message and some calls: such neighbours become one message, in the order in which they came.

Whoever keeps responses between asks builds the dialect with `keeps`, and hands each parsed ask through `kept.joined`;
without that nothing is kept, `store` is answered with false, and `previous_response_id` is refused. The outline of a
response tells what really holds: an effort that no model here knows is the highest one that they do, and nothing is
ever cut from the beginning of a conversation, so its truncation is always `disabled`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from msgspec.json import Decoder

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    JsonObject,
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
from standpipe.chat.events import Answer, Event, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.dialects.bounds import TOOLS, check_count, check_name, check_range, check_schemas, effort, one_of
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.openai.faults import RESPONSES, failure_body, renamed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.answer import Events
from standpipe.dialects.openai.responses.kept import Echo
from standpipe.dialects.reading import DROPPED, decode, fields, is_null, unknown

INCLUDABLE = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What `include` may name. Most of it concerns tools that there are none of here, and so adds nothing."""

UNASKED = frozenset({"namespace", "web_search"})
"""Types of tools that agents declare whether or not anybody wants them. They work without."""

TOP_LOGPROBS = 5
METADATA = 16
METADATA_KEY_CHARACTERS = 64
METADATA_VALUE_CHARACTERS = 512

_INT32 = 2**31 - 1
_MODES = (ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED)
_ALLOWED_MODES = (ToolMode.AUTO, ToolMode.REQUIRED)
_TRUNCATIONS = frozenset({None, "auto", "disabled"})


def ask(request: wire.Request) -> tuple[Ask, wire.Response]:
    """Raises InvalidAsk, Unsupported or TooLarge."""
    _check_form(request)
    said = messages(request.input)
    if request.instructions:
        said = (Message(Role.SYSTEM, (Text(request.instructions),)), *said)
    declared = _tools(request.tools or ())
    choice, tools = _choice(request.tool_choice, declared)
    form = _format(None if request.text is None else request.text.format)
    how_hard = effort(None if request.reasoning is None else request.reasoning.effort, "reasoning.effort")
    asked = Ask(
        messages=said,
        model=request.model or None,
        sampling=_sampling(request),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        format=form,
        effort=how_hard,
    )
    outline = wire.Response(
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning=wire.WrittenReasoning(how_hard),
        temperature=request.temperature,
        text=wire.WrittenText(_written_format(form)),
        tool_choice="auto" if request.tool_choice is None else _written_choice(request.tool_choice),
        tools=tuple(wire.WrittenTool(tool.name, tool.description, tool.parameters, tool.strict) for tool in declared),
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
    )
    return asked, outline


def _check_form(request: wire.Request) -> None:
    """What bounds the response, and not the answer."""
    if request.background:
        raise Unsupported("`background` must be false: answers come while you wait.", param="background")
    for i, name in enumerate(request.include or ()):
        if name not in INCLUDABLE:
            raise InvalidAsk(f"`include[{i}]` names nothing that is known here.", param=f"include[{i}]")
    if request.truncation not in _TRUNCATIONS:
        raise InvalidAsk("`truncation` must be `auto` or `disabled`.", param="truncation")
    check_count(request.metadata or {}, 0, METADATA, "metadata")
    for key, value in (request.metadata or {}).items():
        if len(key) > METADATA_KEY_CHARACTERS or len(value) > METADATA_VALUE_CHARACTERS:
            raise InvalidAsk(
                f"The keys of `metadata` may have {METADATA_KEY_CHARACTERS} characters, its values "
                f"{METADATA_VALUE_CHARACTERS}.",
                param="metadata",
            )


def _sampling(request: wire.Request) -> Sampling:
    check_range(request.temperature, 0, 2, "temperature")
    check_range(request.top_p, 0, 1, "top_p")
    check_range(request.top_logprobs, 0, TOP_LOGPROBS, "top_logprobs")
    check_range(request.max_output_tokens, 1, _INT32, "max_output_tokens")
    logprobs = "message.output_text.logprobs" in (request.include or ()) or bool(request.top_logprobs)
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_output_tokens,
        logprobs=logprobs,
        top_logprobs=request.top_logprobs if logprobs else None,
    )


def _format(sent: wire.Format | None) -> OutputFormat:
    if sent is None:
        return OutputFormat()
    kind = one_of(sent.type, tuple(FormatKind), "text.format.type")
    if kind is not FormatKind.JSON_SCHEMA:
        return OutputFormat(kind)
    name = present(sent.name, "text.format.name")
    check_name(name, "text.format.name")
    schema = present(sent.schema, "text.format.schema")
    check_schemas({"text.format.schema": schema})
    return OutputFormat(kind, schema, name, sent.description, sent.strict)


def _written_format(form: OutputFormat) -> wire.WrittenFormat:
    described = {
        name: value
        for name in ("name", "schema", "description", "strict")
        if (value := getattr(form, name)) is not None
    }
    return wire.WrittenFormat(form.kind, **described)


def _tools(sent: Sequence[wire.Tool]) -> tuple[Tool, ...]:
    check_count(sent, 0, TOOLS, "tools")
    schemas: dict[str, JsonObject] = {}
    tools: dict[str, Tool] = {}
    unheard = passed_over(sent)
    for i, tool in enumerate(sent):
        param = f"tools[{i}]"
        if param in unheard:
            continue
        name = _function(tool, param)
        check_name(name, f"{param}.name")
        if name in tools:
            raise InvalidAsk(f"`{param}.name` is declared twice.", param=f"{param}.name")
        if tool.parameters is not None:
            schemas[f"{param}.parameters"] = tool.parameters
        tools[name] = Tool(name, tool.description, tool.parameters, tool.strict)
    check_schemas(schemas)
    return tuple(tools.values())


def passed_over(tools: Sequence[wire.Tool]) -> tuple[str, ...]:
    """Tools that no model here hears of, by their places: those `UNASKED`, where functions stand beside them. Alone,
    such a tool is what the answer is about, and is refused as all others are."""
    if not any(tool.type == "function" for tool in tools):
        return ()
    return tuple(f"tools[{i}]" for i, tool in enumerate(tools) if tool.type in UNASKED)


def _choice(sent: str | wire.ChosenTool | None, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that are left by it."""
    if sent is None:
        return None, tools
    if isinstance(sent, str):
        mode = one_of(sent, _MODES, "tool_choice")
        if mode is ToolMode.REQUIRED and not tools:
            raise InvalidAsk("`tool_choice` is `required`, but `tools` declares none.", param="tool_choice")
        return (ToolChoice(mode) if tools else None), tools
    if sent.type == "allowed_tools":
        mode = one_of(present(sent.mode, "tool_choice.mode"), _ALLOWED_MODES, "tool_choice.mode")
        check_count(sent.tools or (), 1, TOOLS, "tool_choice.tools")
        allowed = {_declared(tool, tools, f"tool_choice.tools[{i}]") for i, tool in enumerate(sent.tools or ())}
        return ToolChoice(mode), tuple(tool for tool in tools if tool.name in allowed)
    return ToolChoice(ToolMode.NAMED, _declared(sent, tools, "tool_choice")), tools


def _declared(sent: wire.ChosenTool, tools: tuple[Tool, ...], param: str) -> str:
    name = _function(sent, param)
    if not any(tool.name == name for tool in tools):
        raise InvalidAsk(f"`{param}.name` must be the name of a declared tool.", param=f"{param}.name")
    return name


def _written_choice(sent: str | wire.ChosenTool) -> Any:
    if isinstance(sent, str):
        return sent
    if sent.type == "allowed_tools":
        tools = [{"type": tool.type, "name": tool.name} for tool in sent.tools or ()]
        return {"type": sent.type, "mode": sent.mode, "tools": tools}
    return {"type": sent.type, "name": sent.name}


def _function(sent: wire.Tool | wire.ChosenTool, param: str) -> str:
    """The name of a function; there are no other tools here."""
    if sent.type != "function":
        raise unsupported(sent.type, f"{param}.type")
    return present(sent.name, f"{param}.name")


_ROLES = (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)
_TEXTS = frozenset({"input_text", "output_text", "text"})
_MEDIA = frozenset({"input_image", "input_file", "input_audio", "computer_screenshot"})
_TYPE = re.compile(r"[a-z0-9_]{1,40}")

T = TypeVar("T")


def messages(sent: str | list[wire.Item]) -> tuple[Message, ...]:
    """Raises InvalidAsk or Unsupported."""
    if isinstance(sent, str):
        return (Message(Role.USER, (Text(sent),)),)
    check_count(sent, 1, wire.ITEMS, "input")
    found: list[Message] = []
    spoken: list[Part] = []
    for i, item in enumerate(sent):
        role, parts = _read(item, f"input[{i}]")
        if role is Role.ASSISTANT:
            spoken += parts
            continue
        if spoken:
            found.append(Message(Role.ASSISTANT, tuple(spoken)))
            spoken = []
        found.append(Message(role, tuple(parts)))
    if spoken:
        found.append(Message(Role.ASSISTANT, tuple(spoken)))
    if not found:
        raise InvalidAsk("`input` holds nothing that a model could read.", param="input")
    return tuple(found)


def _read(item: wire.Item, param: str) -> tuple[Role, Sequence[Part]]:
    """One item: who speaks, and what."""
    match item.type:
        case "message" | None:
            role = one_of(present(item.role, f"{param}.role"), _ROLES, f"{param}.role")
            return role, tuple(_said(item.content, f"{param}.content", refusals=role is Role.ASSISTANT))
        case "reasoning":
            return Role.ASSISTANT, tuple(_thought(item, param))
        case "function_call":
            name = present(item.name, f"{param}.name")
            check_name(name, f"{param}.name")
            call_id = _identity(item.call_id, f"{param}.call_id")
            return Role.ASSISTANT, (ToolCall(call_id, name, present(item.arguments, f"{param}.arguments")),)
        case "function_call_output":
            call_id = _identity(item.call_id, f"{param}.call_id")
            texts = _said(item.output, f"{param}.output")
            return Role.TOOL, (ToolResult(call_id, "\n".join(part.text for part in texts)),)
        case "item_reference":
            raise Unsupported(
                f"`{param}` refers to an item that is not kept here: send the item itself. Most clients do so when "
                "`store` is false.",
                param=param,
            )
        case kind:
            raise unsupported(kind, f"{param}.type")


def _thought(item: wire.Item, param: str) -> Iterator[Reasoning]:
    """The reasoning itself, or the summary that stands for it. What is encrypted was not encrypted here."""
    for name, parts in (("content", item.content), ("summary", item.summary)):
        if isinstance(parts, str):
            raise InvalidAsk(f"`{param}.{name}` must be an array.", param=f"{param}.{name}")
        texts = [present(part.text, f"{param}.{name}[{i}].text") for i, part in enumerate(parts or ())]
        if any(texts):
            yield Reasoning("\n".join(texts))
            return


def _said(content: str | list[wire.Part] | None, param: str, *, refusals: bool = False) -> Iterator[Text | Refusal]:
    if isinstance(content, str):
        yield Text(content)
        return
    if not content:
        raise InvalidAsk(f"`{param}` must be a string, or a list of at least one part with text.", param=param)
    for i, part in enumerate(content):
        place = f"{param}[{i}]"
        match part.type:
            case kind if kind in _TEXTS:
                yield Text(present(part.text, f"{place}.text"))
            case "refusal" if refusals:
                yield Refusal(present(part.refusal, f"{place}.refusal"))
            case medium if medium in _MEDIA:
                raise Unsupported(f"`{place}` is of type `{medium}`, and only text can be read here.", param=place)
            case _:
                allowed = "`output_text` or `refusal`" if refusals else "`input_text`"
                raise InvalidAsk(f"`{place}.type` must be {allowed}.", param=f"{place}.type")


def unsupported(kind: str, param: str) -> Unsupported:
    """A type of item or tool that there is not here, by its name if it is like one."""
    name = f"`{kind}`" if _TYPE.fullmatch(kind) else "this"
    return Unsupported(f"`{param}` is {name}, which is not supported here.", param=param)


def present(value: T | None, param: str) -> T:
    """What must not be missing. Raises InvalidAsk."""
    if value is None:
        raise InvalidAsk(f"`{param}` is missing.", param=param)
    return value


def _identity(value: str | None, param: str) -> str:
    if not value:
        raise InvalidAsk(f"`{param}` must be a string that is not empty.", param=param)
    return value


TAKEN = frozenset(wire.Request.__struct_fields__)
"""The fields that are read."""
IGNORED = frozenset(
    {
        "access_programs",
        "background_options",
        "context_management",
        "image",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "user",
    }
)
"""The fields that say nothing to us, and change no answer."""
REFUSED = {
    "conversation": "Conversations are not kept here: send what was said in `input`.",
    "moderation": "Nothing is moderated here.",
    "prompt": "Prompt templates are not kept here: send `instructions` and `input`.",
}
"""The fields that would change an answer in a way that we cannot, with what to say."""

_KNOWN = TAKEN | IGNORED | REFUSED.keys()
_REQUEST = Decoder(wire.Request)


class OpenAIResponses:
    """The dialect of POST /v1/responses."""

    name = "openai_responses"
    stream_type = "text/event-stream"

    def __init__(self, *, keeps: bool = False) -> None:
        """`keeps` promises that somebody keeps what clients want kept; who does not say wants it, as at OpenAI."""
        self._keeps = keeps

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is an `Echo`."""
        sent = fields(body)
        for name, message in REFUSED.items():
            if not is_null(sent.get(name)):
                raise Unsupported(message, param=name)
        request = decode(body, _REQUEST)
        if request.previous_response_id is not None and not self._keeps:
            raise Unsupported(
                "Responses are not kept here, so `previous_response_id` refers to none: send what was said in `input`.",
                param="previous_response_id",
            )
        asked, outline = ask(request)
        return Parsed(
            ask=asked,
            stream=bool(request.stream),
            echo=Echo(outline, keep=self._keeps and request.store is not False),
            dropped=(*unknown(sent, _KNOWN), *passed_over(request.tools or ()))[:DROPPED],
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Events(parsed, meta)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """The response with which the stream of this answer would have ended."""
        events = Events(parsed, meta)
        events.encode(_told(answer))
        return events.final

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(RESPONSES, failure), request_id)

    def __repr__(self) -> str:
        return f"<OpenAIResponses{' that keeps' if self._keeps else ''}>"


def _told(answer: Answer) -> list[Event]:
    return [
        Started(answer.model),
        ReasoningDelta(answer.reasoning),
        TextDelta(answer.text, answer.logprobs if answer.text else ()),
        TextDelta(answer.refusal, refusal=True),
        *(ToolCallDelta(place, call.arguments, call.id, call.name) for place, call in enumerate(answer.tool_calls)),
        Finished(answer.reason, answer.usage),
    ]
