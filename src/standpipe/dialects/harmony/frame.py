"""Grammars that spell the Harmony frame, for an engine whose own are switched off.

A grammar must allow everything that the model writes, headers included: one for bare JSON would make it impossible to
think first, or to answer at all. So the frame is spelled out (perhaps some analysis, then the answer or a call) and
the JSON of a schema stands in its place. Control tokens are written as their text, which is how the engine matches
them; free text can hold none.

Without something to enforce there is no grammar: it costs time with every token, and the parser repairs what it can.
"""

from __future__ import annotations

from typing import Final

from standpipe.chat.ask import Ask, FormatKind, OutputFormat, Tool
from standpipe.chat.errors import InvalidAsk
from standpipe.dialects.gbnf import Grammar, literal
from standpipe.dialects.harmony.reader import callable_tools, must_call
from standpipe.dialects.schema_grammar import add_schema

_TEXT: Final = '([^<] | "<"+ [^<|])* "<"*'
_NEXT: Final = '"<|end|><|start|>assistant"'


def grammar_for(ask: Ask) -> str | None:
    """The grammar of the answers to this ask, in GBNF; None when nothing is to be enforced.

    Enforced are: a call where one is required or named; a call's arguments where its tool is strict or must be called;
    a JSON answer. Raises Unsupported for a schema that cannot be, InvalidAsk when a tool is required and there is none.
    """
    tools, forced = callable_tools(ask), must_call(ask)
    if forced and not tools:
        raise InvalidAsk("`tool_choice` wants a tool that is not in `tools`.", param="tool_choice")
    plain = ask.format.kind is FormatKind.TEXT
    if not forced and plain and not any(tool.strict for tool in tools):
        return None
    grammar = Grammar()
    text = grammar.add(_TEXT)
    analysis = grammar.add(f'"<|channel|>analysis<|message|>" {text} {_NEXT}')
    lead = f"{analysis}?"
    endings = [_call(grammar, tool, ask.tools.index(tool)) for tool in tools]
    if not forced:
        endings.append(f'"<|channel|>final<|message|>" {text if plain else _json(grammar, ask.format)}')
        if tools:
            preamble = grammar.add(f'"<|channel|>commentary<|message|>" {text} {_NEXT}')
            lead += f" {preamble}?"
    return grammar.text(f"{lead} ({' | '.join(endings)})")


def _call(grammar: Grammar, tool: Tool, at: int) -> str:
    """A call of this tool, in the form that the model itself prefers."""
    header = literal(f"<|channel|>commentary to=functions.{tool.name} <|constrain|>json<|message|>")
    if tool.parameters:
        arguments = add_schema(grammar, tool.parameters, f"tools[{at}].parameters", strict=bool(tool.strict))
    else:
        arguments = grammar.use("object")
    return f"{header} {arguments}"


def _json(grammar: Grammar, form: OutputFormat) -> str:
    if form.kind is FormatKind.JSON_SCHEMA and form.schema:
        return add_schema(grammar, form.schema, "response_format.schema", strict=bool(form.strict))
    return grammar.use("object")
