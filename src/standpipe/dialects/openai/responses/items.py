"""The items of a request's input, to the messages of a conversation.

What one assistant's message is to us, there is up to a reasoning item, a message and some calls: such neighbours become
one message, in the order in which they came. Items up to the assistant's last are the past, which is read kindly: what
tools that ran elsewhere did is told as far as it can be, and passed over otherwise; a reference to an item that is no
longer known is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec
from msgspec import Raw

from standpipe.chat.ask import Message, Part, Reasoning, Role, Text, ToolCall, ToolResult, now
from standpipe.chat.errors import InvalidAsk, NotFound, Unsupported
from standpipe.dialects.asks import Part as SentPart
from standpipe.dialects.asks import (
    as_input,
    filled,
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
    texts,
    told,
)
from standpipe.dialects.images import Album
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.kept import shown
from standpipe.dialects.openai.responses.tools import full_name

Find = Callable[[str], tuple[Part, ...] | None]
"""Gives what an item of an earlier answer says, by its id; None where there is none."""

_TEXTS: Final = ("input_text", "output_text", "text")
_LOST: Final = Text("[something said earlier that is no longer known here]")
_PARTS: Final = msgspec.json.Decoder(list[SentPart] | SentPart)


def messages(sent: str | Sequence[wire.Item], find: Find) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """What was said, and the places of references to what is no longer known. Raises InvalidAsk, NotFound or
    Unsupported."""
    if isinstance(sent, str):
        return (Message(Role.USER, (Text(sent),)),), ()
    found: list[Message] = []
    lost: list[str] = []
    for role, turn in groupby(_turns(sent, find, lost), key=itemgetter(0)):
        if role is Role.ASSISTANT:
            found.append(Message(role, tuple(part for _, parts in turn for part in parts) or (Text(""),)))
        else:
            found += [Message(role, parts) for _, parts in turn]
    if not found:
        raise InvalidAsk("`input` has no content for the model.", param="input")
    return tuple(found), tuple(lost)


def _turns(sent: Sequence[wire.Item], find: Find, lost: list[str]) -> Iterator[tuple[Role, tuple[Part, ...]]]:
    """Who speaks, and what, item by item. Where a call is lost, its result gets one: engines want none without."""
    end_of_past = now([_is_spoken(item) for item in sent])
    called, album = set[str](), Album()
    for i, item in enumerate(sent):
        path = f"input[{i}]"
        for role, parts in _read(item, path, find, lost, album, past=i < end_of_past):
            for part in parts if lost else ():
                if isinstance(part, ToolResult) and part.call_id not in called:
                    yield Role.ASSISTANT, (past_call(part.call_id, None, "{}"),)
            called.update(part.id for part in parts if isinstance(part, ToolCall))
            yield role, parts


def _is_spoken(item: wire.Item) -> bool:
    """Whether this is the assistant's."""
    return item.role == "assistant" or _kind(item).endswith(("reasoning", "_call", "item_reference"))


def _kind(item: wire.Item) -> str:
    """The type of an item, which may be left out of messages and of references."""
    return item.type or ("item_reference" if item.role is None and item.id else "message")


def _recalled(wanted: str, path: str, find: Find, lost: list[str], *, past: bool) -> tuple[Part, ...]:
    """What an earlier item said. Raises NotFound where the answer would begin with one that is not known."""
    parts = find(wanted)
    if parts is not None:
        return parts
    if not past:
        raise NotFound(f"Item{shown(wanted)} not found: it is no longer known here. Send the item itself.", param=path)
    lost.append(path)
    return () if wanted.startswith("rs_") else (_LOST,)  # nobody misses what was thought


def _read(
    item: wire.Item, path: str, find: Find, lost: list[str], album: Album, *, past: bool
) -> Iterator[tuple[Role, tuple[Part, ...]]]:
    """One item: who speaks, and what. Items up to the assistant's last are the past, and so is whatever a tool said."""
    match _kind(item):
        case "message":
            role = Role(present(item.role, f"{path}.role"))
            if role is Role.ASSISTANT:
                yield role, tuple(past_texts(item.content))
            elif role is Role.USER:
                where = f"{path}.content"
                yield (
                    role,
                    past_told(item.content, where, album) if past else tuple(told(item.content, where, album, _TEXTS)),
                )
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
                yield Role.TOOL, (_result(call.id, item.output, f"{path}.output", album),)
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
            if parts := _recalled(item.id or "", path, find, lost, past=past):
                yield Role.ASSISTANT, parts
        case kind if kind.endswith("_call_output"):
            call_id = filled(item.call_id or item.id, f"{path}.call_id")
            yield Role.TOOL, (_result(call_id, item.output, f"{path}.output", album),)
        case kind if not (past or _is_spoken(item)):
            raise Unsupported(f"`{path}.type` is {plain(kind)}, which is not supported.", param=f"{path}.type")


def _result(call_id: str, sent: Raw, param: str, album: Album) -> ToolResult:
    """What a tool gave back: words as far as it has some, and images; of another form, the JSON. Raises InvalidAsk."""
    text = raw_text(sent, param)
    if text[:1] not in {"[", "{"}:
        return ToolResult(call_id, text)
    try:
        found = _PARTS.decode(text)
    except msgspec.DecodeError:
        return ToolResult(call_id, text)
    return past_result(call_id, [found] if isinstance(found, SentPart) else found, param, album)
