"""An ask for llama.cpp with its own parsing switched off, as what to send.

Switched off with the parsing is everything that the engine would do for tools, forced calls and JSON: those become a
grammar. It takes no grammar beside `tools`, but its template gets whatever variables are passed to it, so the tools go
there and the prompt is the same. Stop strings are found by the reader of the answer: on the raw text they would cut
headers and reasoning.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask, JsonObject, OutputFormat, Tool
from standpipe.dialects.harmony.frame import grammar_for
from standpipe.dialects.harmony.prompt import prepare


class RawRequest(Struct, frozen=True):
    """`ask` is what goes through the engine's usual encoder, `fields` what goes into the body besides."""

    ask: Ask
    fields: JsonObject


def raw_request(ask: Ask) -> RawRequest:
    """What to send for this ask. Raises InvalidAsk or Unsupported for what cannot be rendered or enforced."""
    ready = prepare(ask, reasoning_as_text=True)
    fields: JsonObject = {}
    if ready.tools:
        fields["chat_template_kwargs"] = {"tools": [_tool(tool) for tool in ready.tools]}
    if (grammar := grammar_for(ask)) is not None:
        fields["grammar"] = grammar
    plain = replace(
        ready,
        tools=(),
        tool_choice=None,
        parallel_tool_calls=None,
        format=OutputFormat(),
        sampling=replace(ready.sampling, stop=()),
    )
    return RawRequest(plain, fields)


def _tool(tool: Tool) -> JsonObject:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
