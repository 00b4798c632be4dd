"""Tools that Anthropic's models know and the client runs, served as functions: a shell, an editor of files, a memory.

A client declares them by a dated type and a name, without a schema. So the schema is here, as Anthropic documents it,
and a call of such a function is the `tool_use` that the client expects. It knows nothing of requests.
"""

from __future__ import annotations

import re
from typing import Final

from standpipe.chat.ask import JsonObject, Tool

_DATED: Final = re.compile(r"(?P<kind>bash|text_editor|memory)_(?P<date>\d{8})")
_INSERT_TEXT_SINCE: Final = "20250728"
"""Older editors take the text to insert as `new_str`."""

_TEXT: Final[JsonObject] = {"type": "string"}
_EDITS: Final[JsonObject] = {
    "path": _TEXT,
    "file_text": {"type": "string", "description": "create: the whole text of the file"},
    "old_str": {"type": "string", "description": "str_replace: the text to replace, which must occur once"},
    "insert_line": {"type": "integer", "description": "insert: the line after which to insert, 0 for the beginning"},
    "view_range": {"type": "array", "items": {"type": "integer"}, "description": "view: the first line and the last"},
}
_NEWER: Final[JsonObject] = {
    "new_str": {"type": "string", "description": "str_replace: the text that replaces it"},
    "insert_text": {"type": "string", "description": "insert: the text to insert"},
}
_OLDER: Final[JsonObject] = {
    "new_str": {"type": "string", "description": "str_replace: the text that replaces it; insert: the text to insert"},
}


def client_side(kind: str, name: str) -> Tool | None:
    """The function that stands for a tool of this type; None for a type that no client runs, or that nobody knows."""
    dated = _DATED.fullmatch(kind)
    match dated and dated["kind"]:
        case "bash":
            schema: JsonObject = {"type": "object", "properties": {"command": _TEXT, "restart": {"type": "boolean"}}}
            return Tool(name, "Runs a command in a bash session that lasts, or restarts the session.", schema)
        case "text_editor":
            newer = dated is not None and dated["date"] >= _INSERT_TEXT_SINCE
            schema = _commands(_NEWER if newer else _OLDER, "view", "create", "str_replace", "insert")
            return Tool(name, "Views, creates and edits files.", schema)
        case "memory":
            schema = _commands(
                {**_NEWER, "old_path": _TEXT, "new_path": _TEXT},
                *("view", "create", "str_replace", "insert", "delete", "rename"),
            )
            return Tool(name, "Views and changes files below /memories, which outlast the conversation.", schema)
    return None


def _commands(more: JsonObject, *words: str) -> JsonObject:
    """The schema of a tool that does one of these commands."""
    command = {"type": "string", "enum": list(words)}
    return {"type": "object", "properties": {"command": command, **_EDITS, **more}, "required": ["command"]}
