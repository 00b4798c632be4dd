"""Forced calls: how a model that knows no tools is made to call one, by constraining its output to the JSON of a call.

Pure. `constrain` turns an ask that must call a tool into one that asks for JSON of a schema; `calls` turns that JSON
back into tool calls. An ask that only may call a tool loses its tools: such a model answers in prose, which is an
answer. Needs an engine that holds to a JSON schema, and gives it one question less to understand.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from standpipe.chat.ask import Ask, FormatKind, JsonObject, Message, OutputFormat, Role, Text, Tool, ToolMode
from standpipe.chat.events import ToolCallDelta

_ANYTHING: JsonObject = {"type": "object", "properties": {}, "additionalProperties": True}


def must_call(ask: Ask) -> bool:
    """Whether an answer in prose would be wrong."""
    return (
        bool(ask.tools) and ask.tool_choice is not None and ask.tool_choice.mode in {ToolMode.REQUIRED, ToolMode.NAMED}
    )


def constrain(ask: Ask) -> Ask:
    """The same ask for an engine that ignores tools."""
    bare = replace(ask, tools=(), tool_choice=None, parallel_tool_calls=None)
    if not must_call(ask):
        return bare
    tools = _callable(ask)
    form = OutputFormat(FormatKind.JSON_SCHEMA, schema=_schema(tools), name="tool_call", strict=True)
    return replace(bare, format=form, messages=_told(ask.messages, tools))


def calls(text: str, ask: Ask, stem: str) -> list[ToolCallDelta] | None:
    """The call that this JSON is, None when it is none. `stem` makes the call's id."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
        return None
    name = found.get("name")
    if name not in {tool.name for tool in _callable(ask)}:
        return None
    arguments = json.dumps(found["arguments"], ensure_ascii=False, separators=(",", ":"))
    return [ToolCallDelta(0, arguments, id=f"call_{stem}", name=str(name))]


def _callable(ask: Ask) -> tuple[Tool, ...]:
    choice = ask.tool_choice
    if choice is not None and choice.mode is ToolMode.NAMED:
        return tuple(tool for tool in ask.tools if tool.name == choice.name)
    return ask.tools


def _schema(tools: tuple[Tool, ...]) -> JsonObject:
    """Of one call of one of these tools. A schema's own definitions come up to the top, where references look."""
    variants: list[Any] = []
    definitions: dict[str, Any] = {}
    for tool in tools:
        parameters = dict(tool.parameters or _ANYTHING)
        for key in ("$defs", "definitions"):
            definitions.setdefault(key, {}).update(parameters.pop(key, {}))
        properties = {"name": {"const": tool.name}, "arguments": parameters}
        variants.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = variants[0] if len(variants) == 1 else {"anyOf": variants}
    return schema | {key: value for key, value in definitions.items() if value}


def _told(messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> tuple[Message, ...]:
    """The messages with a word to the model of what it is to do, beside any system message that leads them."""
    lines = [f"{tool.name}: {tool.description or 'no description'}" for tool in tools]
    words = "Answer with the JSON of one call of a function.\n" + "\n".join(lines)
    first = messages[0]
    if first.role in {Role.SYSTEM, Role.DEVELOPER}:
        return (replace(first, parts=(Text(f"{first.text}\n\n{words}"),)), *messages[1:])
    return (Message(Role.SYSTEM, (Text(words),)), *messages)
