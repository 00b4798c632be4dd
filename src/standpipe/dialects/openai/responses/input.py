"""The items of a Responses request to messages.

What one assistant's message is to us, there is up to a reasoning item, a message and some calls: such neighbours become
one message, in the order in which they came. An item's id and status say nothing to a model, and a reasoning item that
holds nothing readable is none. Values are checked here, and faults named as the client spelled the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from standpipe.chat.ask import Message, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects.bounds import check_count, check_name, one_of
from standpipe.dialects.openai.responses import wire

ITEMS = 512
"""Most items of one ask, and most messages of a kept conversation with it."""

_ROLES = (Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER)
_TEXTS = frozenset({"input_text", "output_text", "text"})
_MEDIA = frozenset({"input_image", "input_file", "input_audio", "computer_screenshot"})
_TYPE = re.compile(r"[a-z0-9_]{1,40}")

T = TypeVar("T")


def messages(sent: str | list[wire.Item]) -> tuple[Message, ...]:
    """Raises InvalidAsk or Unsupported."""
    if isinstance(sent, str):
        return (Message(Role.USER, (Text(sent),)),)
    check_count(sent, 1, ITEMS, "input")
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
