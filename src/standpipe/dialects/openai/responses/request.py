"""OpenAI's Responses as we offer them: the dialect, and how its requests become asks.

Function tools, reasoning in the open, text in and text out. Reasoning comes as items with `reasoning_text` content,
never summarised and never encrypted, and is taken back the same way.

Whoever keeps responses between asks builds the dialect with `keeps`, reads each ask with what finds earlier items, and
hands it through `kept.joined`; without that nothing is kept, `store` is answered with false, and
`previous_response_id` is refused. The outline of a response tells what really holds: an effort that no model here knows
is the highest one that they do, and nothing is ever cut from the beginning of a conversation, so its truncation is
always `disabled`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
)
from standpipe.chat.errors import ContextTooLong, Failure, InvalidAsk, Unsupported
from standpipe.chat.events import Answer, Event, Failed, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.dialects.asks import effort, functions, plain, present, schema_format, tool_choice
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.openai.faults import RESPONSES, failure_body, renamed
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.answer import ResponseEvents
from standpipe.dialects.openai.responses.items import Find, messages
from standpipe.dialects.openai.responses.kept import Echo
from standpipe.dialects.openai.responses.tools import NAMELESS, CalledAs, function, placed
from standpipe.dialects.reading import DROPPED, Reader

_TOOLS = msgspec.json.Decoder(wire.Tools | None)


class OpenAIResponses:
    """The dialect of POST /v1/responses."""

    name = "openai_responses"
    stream_type = "text/event-stream"
    reader = Reader(
        wire.Request,
        ignored={
            "access_programs",
            "background_options",
            "context_management",
            "image",
            "max_tool_calls",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning.generate_summary",
            "reasoning.summary",
            "safety_identifier",
            "service_tier",
            "stream_options",
            "text.verbosity",
            "user",
        },
        refused={
            "conversation": "Conversations are not stored: send the whole conversation in `input`.",
            "moderation": "Moderation is not supported.",
            "prompt": "Prompt templates are not stored: send `instructions` and `input`.",
        },
    )

    def __init__(self, *, keeps: bool = False) -> None:
        """`keeps` promises that somebody keeps what clients want kept; who does not say wants it, as at OpenAI."""
        self._keeps = keeps

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is an `Echo`."""
        return self.read(body, lambda _: None)

    def read(self, body: bytes, find: Find) -> Parsed:
        """The same, where `find` knows what earlier answers said."""
        request, dropped = self.reader.read(body)
        if request.previous_response_id is not None and not self._keeps:
            raise Unsupported(
                "This server does not store responses. Omit `previous_response_id` and send the whole conversation in "
                "`input`.",
                param="previous_response_id",
            )
        ask, outline, called_as, passed_over = _ask(request, find)
        return Parsed(
            ask=ask,
            stream=bool(request.stream),
            echo=Echo(outline, keep=request.store is not False, called_as=called_as),
            dropped=(dropped + passed_over)[:DROPPED],
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return ResponseEvents(parsed, meta)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """The response with which the stream of this answer would have ended."""
        events = ResponseEvents(parsed, meta)
        events.encode(_told(answer))
        return events.final

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(renamed(RESPONSES, failure), request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:
        """Codex shortens its conversation when a response fails with this code, and gives up on a status of 400."""
        return ResponseEvents(self.parse(b'{"input": "-"}'), meta).encode([Failed(failure)])

    def __repr__(self) -> str:
        return f"<OpenAIResponses{' that keeps' if self._keeps else ''}>"


def _told(answer: Answer) -> list[Event]:
    return [
        Started(answer.model),
        ReasoningDelta(answer.reasoning),
        TextDelta(answer.text, answer.logprobs if answer.text else ()),
        TextDelta(answer.refusal, refusal=True),
        *(ToolCallDelta(index, call.arguments, call.id, call.name) for index, call in enumerate(answer.tool_calls)),
        Finished(answer.reason, answer.usage),
    ]


def _ask(request: wire.Request, find: Find) -> tuple[Ask, wire.Response, dict[str, CalledAs], tuple[str, ...]]:
    """The ask, the outline of its response, what calls are to the client, and what no model hears of.

    Raises InvalidAsk, NotFound, Unsupported or TooLarge.
    """
    if request.background:
        raise Unsupported("`background` must be false: background responses are not supported.", param="background")
    said, lost = messages(request.input, find)
    if request.instructions:
        said = (Message(Role.SYSTEM, (Text(request.instructions),)), *said)
    sent = list(_declared_tools(request))
    declared, passed_over = functions(((path, tool) for path, tool, _ in sent), function, "parameters")
    choice, tools = _choice(request.tool_choice, declared)
    form = _format(None if request.text is None else request.text.format)
    called_as = {
        called.type if called.type in NAMELESS else tool.name or "": called
        for _, tool, called in sent
        if called.type != "function" or called.namespace is not None
    }
    how_hard = effort(None if request.reasoning is None else request.reasoning.effort)
    logprobs = "message.output_text.logprobs" in (request.include or ()) or bool(request.top_logprobs)
    ask = Ask(
        messages=said,
        model=request.model or None,
        sampling=Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_output_tokens,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            logprobs=logprobs,
            top_logprobs=request.top_logprobs if logprobs else None,
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        format=form,
        effort=how_hard,
    )
    sampled = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    outline = wire.Response(
        **{name: value for name in sampled if (value := getattr(request, name)) is not None},
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning=wire.WrittenReasoning(how_hard),
        text=wire.WrittenText(_written_format(form)),
        tool_choice="auto" if request.tool_choice is None else _written_choice(request.tool_choice),
        tools=tuple(
            wire.WrittenTool(tool.name, tool.description, tool.parameters, tool.strict)
            for tool in declared
            if tool.name not in called_as
        ),
        top_logprobs=request.top_logprobs or 0,
    )
    return ask, outline, called_as, passed_over + lost


def _declared_tools(request: wire.Request) -> Iterator[tuple[str, wire.Tool, CalledAs]]:
    """The tools, and those that came later, as items of the input."""
    yield from placed(request.tools or ())
    for i, item in enumerate(request.input if isinstance(request.input, list) else ()):
        if item.type == "additional_tools":
            yield from placed(_later_tools(item.tools, f"input[{i}].tools"), f"input[{i}].tools")


def _later_tools(sent: Raw, path: str) -> Sequence[wire.Tool]:
    """Tools within an item of the input; other types of items have tools of other forms. Raises InvalidAsk."""
    try:
        return _TOOLS.decode(sent) or ()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidAsk(f"`{path}` must be a list of tools.", param=path) from None


def _format(sent: wire.Format | None) -> OutputFormat:
    if sent is None:
        return OutputFormat()
    if sent.type is not FormatKind.JSON_SCHEMA:
        return OutputFormat(sent.type)
    return schema_format(
        sent.schema, "text.format.schema", name=sent.name, description=sent.description, strict=sent.strict
    )


def _written_format(form: OutputFormat) -> wire.WrittenFormat:
    described = {
        name: value
        for name in ("name", "schema", "description", "strict")
        if (value := getattr(form, name)) is not None
    }
    return wire.WrittenFormat(form.kind, **described)


def _choice(sent: str | wire.ChosenTool | None, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that are left by it."""
    if sent is None:
        return None, tools
    if isinstance(sent, str):
        return tool_choice(ToolMode(sent), tools, "tool_choice"), tools
    if sent.type == "allowed_tools":
        mode = ToolMode(present(sent.mode, "tool_choice.mode"))
        allowed = {_declared(tool, tools, f"tool_choice.tools[{i}]").name for i, tool in enumerate(sent.tools or ())}
        left = tuple(tool for tool in tools if tool.name in allowed)
        return tool_choice(mode, left, "tool_choice.tools"), left
    return _declared(sent, tools, "tool_choice"), tools


def _declared(sent: wire.AllowedTool, tools: Sequence[Tool], path: str) -> ToolChoice:
    """The choice of one tool that the client runs; there are no others here."""
    nameless = sent.type in NAMELESS
    if not nameless and sent.type not in {"function", "custom"}:
        raise Unsupported(f"`{path}.type` is {plain(sent.type)}, which is not supported.", param=f"{path}.type")
    name = sent.type if nameless else present(sent.name, f"{path}.name")
    choice = tool_choice(ToolMode.NAMED, tools, f"{path}.{'type' if nameless else 'name'}", name)
    assert choice is not None
    return choice


def _written_choice(sent: str | wire.ChosenTool) -> Any:
    if isinstance(sent, str):
        return sent
    if sent.type == "allowed_tools":
        return {"type": sent.type, "mode": sent.mode, "tools": [_named(tool) for tool in sent.tools or ()]}
    return _named(sent)


def _named(sent: wire.AllowedTool) -> dict[str, str | None]:
    return {"type": sent.type} if sent.type in NAMELESS else {"type": sent.type, "name": sent.name}
