"""What is sent to a gpt-oss: messages as its chat template wants them, and grammars that spell the Harmony frame.

The chat template is strict and silent: it reads one system or developer message, the first; of parallel calls it
renders one, and labels every result with that one's name; reasoning counts only on a message that calls, and only while
no answer has followed. What does not fit is dropped without a word. So an ask is brought into the form in which nothing
is lost (`prepare`). Where reasoning counts, it stands in a Reasoning part of the message that calls, and the engine's
adapter gives it the name that the engine reads.

An engine of ours (llama.cpp) has its own parsing switched off (`raw_request`), and with the parsing everything that it
would do for tools, forced calls and JSON: those become a grammar. It takes no grammar beside `tools`, but its template
gets whatever variables are passed to it, so the tools go there and the prompt is the same. Nor does it read reasoning;
but the template renders what a calling message says as analysis, so there reasoning goes as the message's text. Stop
strings are found by the reader of the answer: on the raw text they would cut headers and reasoning.

A grammar must allow everything that the model writes, headers included: one for bare JSON would make it impossible to
think first, or to answer at all. So the frame is spelled out (perhaps some analysis, then the answer or a call) and
the JSON of a schema stands in its place. Control tokens are written as their text, which is how the engine matches
them; free text can hold none. Without something to enforce there is no grammar: it costs time with every token, and
the parser repairs what it can.

Pure: an ask in, an ask or a text out. Knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    Beginning,
    Effort,
    FormatKind,
    JsonObject,
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
from standpipe.dialects.gbnf import Grammar, literal
from standpipe.dialects.schema_grammar import add_schema

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
    tools = tuple(_described(tool) for tool in ask.callable_tools)
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
        out.append(Message(Role.ASSISTANT, (*thought, replace(call, arguments=_readable(call.arguments)))))
        thought = ()
    return out


def _readable(arguments: str) -> str:
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


def resumes(ask: Ask, begun: Beginning) -> bool:
    """Whether a turn that has begun like this can be gone on with by `resumed`. Where tools may be called, its text may
    have been no answer but a preamble; a grammar knows whole turns only."""
    if begun.text and ask.callable_tools:
        return False
    return ask.format.kind is FormatKind.TEXT and not any(tool.strict for tool in ask.callable_tools)


def resumed(begun: Beginning) -> str:
    """A turn that has begun, as it stands behind the `<|start|>assistant` that ends a prompt. No control token may be
    in its texts."""
    thought = f"<|channel|>analysis<|message|>{begun.reasoning}" if begun.reasoning else ""
    if not begun.text:
        return thought
    return f"{thought}{'<|end|><|start|>assistant' if thought else ''}<|channel|>final<|message|>{begun.text}"


class RawRequest(Struct, frozen=True):
    """`ask` is what goes through the engine's usual encoder, `fields` what goes into the body besides, and `dropped`
    the places in schemas that the engine is not held to."""

    ask: Ask
    fields: JsonObject
    dropped: tuple[str, ...] = ()


def raw_request(ask: Ask) -> RawRequest:
    """What to send for this ask. Raises InvalidAsk or Unsupported for what cannot be rendered or enforced."""
    ready = prepare(ask, reasoning_as_text=True)
    fields: JsonObject = {}
    if ready.tools:
        fields["chat_template_kwargs"] = {"tools": [_tool(tool) for tool in ready.tools]}
    dropped: tuple[str, ...] = ()
    if (grammar := grammar_for(ask)) is not None:
        fields["grammar"], dropped = grammar
    plain = replace(
        ready,
        tools=(),
        tool_choice=None,
        parallel_tool_calls=None,
        format=OutputFormat(),
        sampling=replace(ready.sampling, stop=()),
        begun=None,  # which stands behind the rendered prompt, as `resumed`
    )
    return RawRequest(plain, fields, dropped)


def _tool(tool: Tool) -> JsonObject:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


_TEXT: Final = '([^<] | "<"+ [^<|])* "<"*'
_NEXT: Final = '"<|end|><|start|>assistant"'


def grammar_for(ask: Ask) -> tuple[str, tuple[str, ...]] | None:
    """The grammar of the answers to this ask, in GBNF, and what it drops of schemas; None without anything to enforce.

    Enforced are: a call where one is required or named; a call's arguments where its tool is strict or must be called;
    a JSON answer. Raises Unsupported for a schema that cannot be, InvalidAsk when a tool is required and there is none.
    """
    tools, forced = ask.callable_tools, ask.must_call
    if forced and not tools:
        raise InvalidAsk("`tool_choice` wants a tool that is not in `tools`.", param="tool_choice")
    plain = ask.format.kind is FormatKind.TEXT
    if not forced and plain and not any(tool.strict for tool in tools):
        return None
    grammar = Grammar()
    text = grammar.add(_TEXT)
    analysis = grammar.add(f'"<|channel|>analysis<|message|>" {text} {_NEXT}')
    lead = f"{analysis}?"
    endings = [_call_rule(grammar, tool) for tool in tools]
    if not forced:
        endings.append(f'"<|channel|>final<|message|>" {text if plain else _json_rule(grammar, ask.format)}')
        if tools:
            preamble = grammar.add(f'"<|channel|>commentary<|message|>" {text} {_NEXT}')
            lead += f" {preamble}?"
    return grammar.text(f"{lead} ({' | '.join(endings)})"), grammar.dropped


def _call_rule(grammar: Grammar, tool: Tool) -> str:
    """A call of this tool, in the form that the model itself prefers."""
    header = literal(f"<|channel|>commentary to=functions.{tool.name} <|constrain|>json<|message|>")
    if tool.parameters:
        arguments = add_schema(grammar, tool.parameters, tool.field, strict=bool(tool.strict))
    else:
        arguments = grammar.use("object")
    return f"{header} {arguments}"


def _json_rule(grammar: Grammar, form: OutputFormat) -> str:
    if form.kind is FormatKind.JSON_SCHEMA and form.schema:
        return add_schema(grammar, form.schema, form.field, strict=bool(form.strict))
    return grammar.use("object")
