"""Preparing messages as gpt-oss wants them.

Its chat template is strict and silent: it reads one system or developer message, the first; of parallel calls it
renders one, and labels every result with that one's name; reasoning counts only on a message that calls, and only while
no answer has followed. What does not fit is dropped without a word. So an ask is brought into the form in which nothing
is lost. Pure: an ask in, an ask out.

Where reasoning counts, it stands in a Reasoning part of the message that calls, and the engine's adapter gives it the
name that the engine reads. llama.cpp with its parsing switched off reads none: it copies `reasoning_content` into the
template's field only when it parses. But the template renders what such a message says as analysis, so there reasoning
goes as the message's text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk
from standpipe.dialects.harmony.reader import callable_tools

_EFFORTS: Final = {
    Effort.NONE: Effort.LOW,
    Effort.MINIMAL: Effort.LOW,
    Effort.LOW: Effort.LOW,
    Effort.MEDIUM: Effort.MEDIUM,
    Effort.HIGH: Effort.HIGH,
}
"""The model was trained on three. Anything else would be written into the system message as it came."""
_SYSTEM: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})
_NOTHING: Final = {"type": "object", "properties": {}}


def prepare(ask: Ask, *, reasoning_as_text: bool) -> Ask:
    """The ask, ready for gpt-oss. Raises InvalidAsk for a tool's result without its call.

    `reasoning_as_text`: True for an engine that hands Harmony over unparsed, False for one that parses it.
    """
    sampling = ask.sampling
    if sampling.max_tokens is not None and sampling.max_tokens < 0:
        sampling = replace(sampling, max_tokens=None)
    tools = tuple(_described(tool) for tool in callable_tools(ask))
    return replace(
        ask,
        messages=(*_instructions(ask), *_loops(_turns(ask.messages), Text if reasoning_as_text else Reasoning)),
        sampling=sampling,
        tools=tools,
        tool_choice=ask.tool_choice if tools else None,
        effort=None if ask.effort is None else _EFFORTS[ask.effort],
    )


def _described(tool: Tool) -> Tool:
    """The template adds a description and looks for properties without asking whether there are any."""
    return replace(tool, description=tool.description or "", parameters=tool.parameters or _NOTHING)


def _instructions(ask: Ask) -> list[Message]:
    """All that was said by the operator, wherever it stands, in one message; and the shape of the answer."""
    texts = [message.text for message in ask.messages if message.role in _SYSTEM]
    texts.append(_response_format(ask.format))
    text = "\n\n".join(text for text in texts if text)
    return [Message(Role.SYSTEM, (Text(text),))] if text else []


def _response_format(form: OutputFormat) -> str:
    """The section of the developer message in which the model was trained to find the shape of its answer."""
    match form.kind:
        case FormatKind.JSON_SCHEMA:
            schema = json.dumps(form.schema, ensure_ascii=False)
            described = f"// {form.description}\n" if form.description else ""
            return f"# Response Formats\n\n## {form.name or 'answer'}\n\n{described}{schema}"
        case FormatKind.JSON_OBJECT:
            return "# Response Formats\n\n## answer\n\n// One JSON object and nothing else.\n" + json.dumps(_NOTHING)
        case FormatKind.TEXT:
            return ""


def _turns(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """Messages of the conversation, each with its place in the ask. What an assistant says in a row before a call is
    one with the call. A refusal was said like anything else. Empty messages say nothing, and would be rendered.
    """
    turns: list[tuple[int, Message]] = []
    for at, message in enumerate(messages):
        if message.role in _SYSTEM:
            continue
        parts = tuple(Text(part.text) if isinstance(part, Refusal) else part for part in message.parts)
        before = turns[-1][1] if turns else None
        if before is not None and before.role is message.role is Role.ASSISTANT and _calls(parts):
            turns[-1] = (at, replace(before, parts=(*before.parts, *parts)))
        elif before is not None and _only_thinks(before) and message.role is Role.ASSISTANT:
            turns[-1] = (at, replace(message, parts=(*before.parts, *parts)))
        elif any(not isinstance(part, Text | Reasoning) or part.text for part in parts):
            turns.append((at, replace(message, parts=parts)))
    return turns


def _loops(turns: Sequence[tuple[int, Message]], as_part: type[Text | Reasoning]) -> list[Message]:
    """Calls and results in pairs, and reasoning where it still counts: after the last answer."""
    answered = max((n for n, (_, message) in enumerate(turns) if _answers(message)), default=-1)
    out: list[Message] = []
    waiting: list[ToolCall] = []
    thought: tuple[Part, ...] = ()
    for n, (at, message) in enumerate(turns):
        if message.role is Role.TOOL:
            for result in _results(message):
                call = next((call for call in waiting if call.id == result.call_id), None)
                if call is None:
                    raise InvalidAsk("A tool's result must follow the call that it answers.", param=f"messages[{at}]")
                waiting.remove(call)
                out += [*_unanswered([call], thought), Message(Role.TOOL, (result,))]
                thought = ()
            continue
        out += _unanswered(waiting, thought)
        waiting, thought = _calls(message.parts), ()
        if waiting:
            text = _thought(message.parts) if n > answered else ""
            thought = (as_part(text),) if text else ()
        elif not _only_thinks(message):
            out.append(replace(message, parts=tuple(p for p in message.parts if not isinstance(p, Reasoning))))
    return [*out, *_unanswered(waiting, thought)]


def _unanswered(calls: Iterable[ToolCall], thought: tuple[Part, ...]) -> list[Message]:
    """One message per call; what was thought stands with the first."""
    out = []
    for call in calls:
        out.append(Message(Role.ASSISTANT, (*thought, replace(call, arguments=_json(call.arguments)))))
        thought = ()
    return out


def _json(arguments: str) -> str:
    """Arguments that the template can read: a client may have kept anything."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return json.dumps(arguments, ensure_ascii=False) if arguments.strip() else "{}"
    return arguments


def _calls(parts: Iterable[Part]) -> list[ToolCall]:
    return [part for part in parts if isinstance(part, ToolCall)]


def _results(message: Message) -> list[ToolResult]:
    return [part for part in message.parts if isinstance(part, ToolResult)]


def _thought(parts: Iterable[Part]) -> str:
    """What was thought, and said on the way, before a call: the template has one place for both."""
    return "\n\n".join(part.text for part in parts if isinstance(part, Reasoning | Text) and part.text)


def _only_thinks(message: Message) -> bool:
    return message.role is Role.ASSISTANT and all(isinstance(part, Reasoning) for part in message.parts)


def _answers(message: Message) -> bool:
    return message.role is Role.ASSISTANT and not _calls(message.parts) and not _only_thinks(message)
