"""Tools that a client of Responses runs itself and that are no functions: served as functions, handed back as they are.

A model calls functions and nothing else. So a custom tool is a function of one text, a shell one that runs commands, a
patch one that changes a file, and the tools of a namespace have its name before theirs. What a call then is on the
wire, an item of the kind that the client expects, goes by the function's name. It knows nothing of streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from standpipe.chat.ask import JsonObject, Tool
from standpipe.dialects.asks import present
from standpipe.dialects.openai.responses import wire

_SEPARATOR: Final = "__"
_ONE_TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_COMMAND: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
    },
    "required": ["command"],
    "additionalProperties": False,
}
_COMMANDS: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "commands": {"type": "array", "items": {"type": "string"}, "description": "Each a line of a shell."},
        "timeout_ms": {"type": "integer"},
        "max_output_length": {"type": "integer", "description": "Characters."},
    },
    "required": ["commands"],
    "additionalProperties": False,
}
_UPDATE: Final = "update_file"
_DELETE: Final = "delete_file"
_OPERATION: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["create_file", _UPDATE, _DELETE]},
        "path": {"type": "string"},
        "diff": {
            "type": "string",
            "description": "Lines that begin with `+`, `-` or a space, in sections that begin with `@@`. Of a new file "
            "every line begins with `+`. A deleted one has none.",
        },
    },
    "required": ["type", "path"],
    "additionalProperties": False,
}

NAMELESS: Final = {
    "local_shell": Tool("local_shell", "Runs a command on the user's machine.", _COMMAND),
    "shell": Tool("shell", "Runs commands on the user's machine.", _COMMANDS),
    "apply_patch": Tool("apply_patch", "Creates, changes or deletes a file on the user's machine.", _OPERATION),
}
"""The functions that stand for the tools whose type is all their name, by it."""


class CalledAs(Struct, frozen=True):
    """What a call of a function is to the client: the type of its tool, its name there, and its namespace."""

    type: str
    name: str
    namespace: str | None = None


def placed(tools: Sequence[wire.Tool], path: str = "tools") -> Iterator[tuple[str, wire.Tool, CalledAs]]:
    """Every tool with its place in the request; those of a namespace each for itself, under its full name."""
    for i, tool in enumerate(tools):
        here = f"{path}[{i}]"
        if tool.type != "namespace":
            yield here, tool, CalledAs(tool.type, tool.name or tool.type)
            continue
        for inside, inner, called in placed(tool.tools or (), f"{here}.tools"):
            space = present(tool.name, f"{here}.name")
            yield inside, replace(inner, name=full_name(space, called.name)), replace(called, namespace=space)


def full_name(namespace: str | None, name: str | None) -> str | None:
    """The name of a function, among all."""
    return name if namespace is None or name is None else f"{namespace}{_SEPARATOR}{name}"


def function(tool: wire.Tool, path: str) -> Tool | None:
    """The function that stands for a tool; None for what would have to run on this server."""
    match tool.type:
        case "function":
            return Tool(present(tool.name, f"{path}.name"), tool.description, tool.parameters, tool.strict)
        case "custom":
            described = (tool.description, _grammar(tool.format))
            return Tool(present(tool.name, f"{path}.name"), "\n\n".join(filter(None, described)) or None, _ONE_TEXT)
        case "shell" if tool.environment is not None and tool.environment.type != "local":
            return None
    return NAMELESS.get(tool.type)


def _grammar(form: wire.CustomFormat | None) -> str | None:
    """What a model is told of the grammar by which it should write: nobody holds it to that."""
    if form is None or not form.definition:
        return None
    return f"`input` must follow this {form.syntax or ''} grammar:\n{form.definition}".replace("  ", " ")


def written_call(
    called: CalledAs | None, item_id: str, status: str, call_id: str, name: str, arguments: str
) -> wire.WrittenItem:
    """The item of a call, as far as it has been written."""
    match called:
        case CalledAs(type="custom"):
            return wire.CustomCallItem(item_id, call_id, called.name, input_of(arguments), called.namespace or UNSET)
        case CalledAs(type="local_shell"):
            return wire.LocalShellItem(item_id, status, call_id, _action(_decoded(arguments)))
        case CalledAs(type="shell"):
            return wire.ShellItem(item_id, status, call_id, _commands(_decoded(arguments)))
        case CalledAs(type="apply_patch"):
            status = status if status == "completed" else "in_progress"  # there is none for half a patch
            return wire.PatchItem(item_id, status, call_id, _operation(_decoded(arguments)))
        case CalledAs(namespace=str(namespace)):
            return wire.CallItem(item_id, status, call_id, called.name, arguments, namespace)
    return wire.CallItem(item_id, status, call_id, name, arguments)


def input_of(arguments: str) -> str:
    """The text for a custom tool. Of a call that was cut off, nothing can be told."""
    sent = _decoded(arguments).get("input")
    return sent if isinstance(sent, str) else "" if sent is None else msgspec.json.encode(sent).decode()


def _action(sent: JsonObject) -> wire.ShellAction:
    folder, timeout = sent.get("working_directory"), _count(sent.get("timeout_ms"))
    return wire.ShellAction(
        _words(sent.get("command")),
        timeout_ms=UNSET if timeout is None else timeout,
        working_directory=folder if isinstance(folder, str) else UNSET,
    )


def _commands(sent: JsonObject) -> wire.ShellCommands:
    limits = _count(sent.get("timeout_ms")), _count(sent.get("max_output_length"))
    return wire.ShellCommands(_words(sent.get("commands")), *limits)


def _operation(sent: JsonObject) -> wire.PatchOperation:
    kind, path, diff = (str(sent.get(name) or "") for name in ("type", "path", "diff"))
    if kind == _DELETE:
        return wire.PatchOperation(kind, path)
    return wire.PatchOperation(kind if kind == "create_file" else _UPDATE, path, diff)


def _words(sent: object) -> tuple[str, ...]:
    """A model that should give a list may give what would be its only item."""
    return tuple(map(str, sent)) if isinstance(sent, list) else (sent,) if isinstance(sent, str) else ()


def _count(sent: object) -> int | None:
    return sent if isinstance(sent, int) else None


def _decoded(arguments: str) -> JsonObject:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
