"""From a Responses request to an ask, and to the outline of the response that repeats it.

Types were checked by the decoder (`openai_responses_wire`), items are read by `openai_responses_input`. The outline
tells what really holds: an effort that no model here knows is the highest one that they do, and nothing is ever cut
from the beginning of a conversation, so its truncation is always `disabled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    JsonObject,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
)
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects.bounds import TOOLS, check_count, check_name, check_range, check_schemas, effort, one_of
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.input import messages, present, unsupported

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
