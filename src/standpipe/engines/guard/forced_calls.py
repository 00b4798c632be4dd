"""Engines that may ignore tools, made to call them where they must.

Wraps any engine. An ask that must call a tool is first asked as it is, unless the engine is known to ignore tools, and
its answer kept back until a call begins: prose in the place of a call must reach nobody. Where no call comes, the
engine is asked for the JSON of a call instead (structured output: `constrain` turns the ask into one that asks for JSON
of a schema, `call_from` turns that JSON back into a call). Where even that brings none, the ask is refused: a clear 400
is worth more than prose that pretends.

An ask that only may call a tool loses its tools where the engine ignores them: such a model answers in prose, which is
an answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from standpipe.chat.ask import Ask, FormatKind, JsonObject, Message, OutputFormat, Role, Text, Tool
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.chat.events import Event, Finished, FinishReason, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.engines.engine import Engine, ProbedWrapper, Sink, SinkWrapper

_ANYTHING: Final[JsonObject] = {"type": "object", "properties": {}, "additionalProperties": True}


class _Call(msgspec.Struct):
    """What a model was made to write."""

    name: str
    arguments: dict[str, Any]


_CALL: Final = msgspec.json.Decoder(_Call)
_NUMBER: Final = "-0123456789"
_STARTS: Final = {
    "object": "{", "array": "[", "string": '"', "number": _NUMBER, "integer": _NUMBER, "boolean": "tf", "null": "n"
}  # fmt: skip
"""What JSON of each type begins with."""
_ANY_START: Final = "".join(_STARTS.values())


class Constrained(ProbedWrapper):
    """The engine, made to call tools where it must."""

    def __init__(self, engine: Engine, *, ignores_tools: bool = False) -> None:
        super().__init__(engine)
        self._ignores_tools = ignores_tools

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """As `Engine.answer`."""
        if not ask.tools:
            return self._engine.answer(ask, _StrictJson(ask, sink) if ask.format.strict else sink)
        if not ask.must_call:
            return self._engine.answer(constrain(ask) if self._ignores_tools else ask, sink)
        return self._call(ask, sink)

    async def _call(self, ask: Ask, sink: Sink) -> None:
        if self._ignores_tools or not await self._calls(ask, sink):
            await self._engine.answer(constrain(ask), _FromJson(ask, sink))

    async def _calls(self, ask: Ask, sink: Sink) -> bool:
        """Ask as it is. False when no call came, and nothing has reached the sink."""
        held = _UntilCalled(sink)
        try:
            await self._engine.answer(ask, held)
        except (InvalidAsk, Unsupported):
            # An engine may refuse tools as such. If it is the ask that is wrong, it will be refused again.
            if held.called:
                raise
        return held.called or held.cut


class _StrictJson(SinkWrapper):
    """Sees to it that an answer that is held to a schema begins as one can: some engines do not know of schemas, and
    never say so. Prose shows with its first character; nothing of it is given."""

    def __init__(self, ask: Ask, sink: Sink) -> None:
        super().__init__(sink)
        kind = (ask.format.schema or {}).get("type")
        self._starts = _STARTS.get(kind, _ANY_START) if isinstance(kind, str) else _ANY_START
        self._field = ask.format.field
        self._begun = False

    def take(self, events: list[Event]) -> None:
        if not self._begun:
            text = "".join(event.text for event in events if isinstance(event, TextDelta) and not event.refusal)
            if start := text.lstrip()[:1]:
                self._begun = True
                if start not in self._starts:
                    raise Unsupported(f"The engine does not hold its answer to `{self._field}`.", param=self._field)
        self._sink.take(events)


class _UntilCalled(SinkWrapper):
    """Keeps an answer back until a call begins in it. `cut` tells of one that ended before it could, in reasoning: who
    has begun with prose ignores tools, however that ends."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self._held: list[Event] = []
        self.called = self.cut = False

    def take(self, events: list[Event]) -> None:
        if not self.called:
            self._held += events
            self.called = any(isinstance(event, ToolCallDelta) for event in events)
            last = events[-1] if events else None
            self.cut = isinstance(last, Finished) and last.reason is FinishReason.LENGTH and not _has_prose(self._held)
            if not (self.called or self.cut):
                self._sink.take([])
                return
            events, self._held = self._held, []
        self._sink.take(events)


def _has_prose(events: list[Event]) -> bool:
    return any(isinstance(event, TextDelta) and not event.text.isspace() for event in events)


class _FromJson(SinkWrapper):
    """Turns the JSON of a call into a call. Half of that JSON is nothing to anybody, so it waits."""

    def __init__(self, ask: Ask, sink: Sink) -> None:
        super().__init__(sink)
        self._ask = ask
        self._text: list[str] = []

    def take(self, events: list[Event]) -> None:
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case Started() | ReasoningDelta():
                    out.append(event)
                case Finished():
                    out += self._call(event)
                case _:
                    pass  # an engine that was given no tools calls none
        self._sink.take(out)

    def _call(self, finished: Finished) -> list[Event]:
        call = call_from("".join(self._text), self._ask, secrets.token_hex(6))
        if call is not None:
            return [call, Finished(FinishReason.TOOL_CALLS, finished.usage, finished.timings)]
        if finished.reason is FinishReason.LENGTH:
            return [finished]  # it was cut before the call was whole
        raise Unsupported(
            "This model cannot be made to call a tool. Omit `tool_choice`, or set it to `auto`.",
            param="tool_choice",
        )


def constrain(ask: Ask) -> Ask:
    """The same ask for an engine that ignores tools, but holds to a JSON schema. Raises InvalidAsk."""
    bare = replace(ask, tools=(), tool_choice=None, parallel_tool_calls=None)
    if not (ask.tools and ask.must_call):
        return bare
    tools = ask.callable_tools
    strict = all(tool.strict for tool in tools) or None
    schema, fields = _schema(tools)
    form = OutputFormat(
        FormatKind.JSON_SCHEMA, schema=schema, name="tool_call", strict=strict, field="tool_choice", fields=fields
    )
    return replace(bare, format=form, messages=_instructed(ask.messages, tools))


def call_from(text: str, ask: Ask, stem: str) -> ToolCallDelta | None:
    """The call that this JSON is, None when it is none. `stem` makes the call's id."""
    try:
        call = _CALL.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if call.name not in {tool.name for tool in ask.callable_tools}:
        return None
    return ToolCallDelta(0, msgspec.json.encode(call.arguments).decode(), id=f"call_{stem}", name=call.name)


def _schema(tools: tuple[Tool, ...]) -> tuple[JsonObject, dict[str, str]]:
    """Of one call of one of these tools, and in which fields the client wrote its parts. Parameters that refer into
    themselves come up to the top, where references look, each tool's under a name of its own: they must not meet
    another's. Raises InvalidAsk for parameters that no call can have."""
    variants: list[JsonObject] = []
    definitions: JsonObject = {}
    fields: dict[str, str] = {}
    for at, tool in enumerate(tools):
        parameters = tool.parameters or _ANYTHING
        kind = parameters.get("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            param = f"{tool.field}.type"
            raise InvalidAsk(f"`{param}` must be `object`: the arguments of a call are one.", param=param)
        if (moved := _moved(parameters, f"#/$defs/tool{at}")) != parameters:
            definitions[f"tool{at}"], parameters = moved, {"$ref": f"#/$defs/tool{at}"}
            fields[f"$defs.tool{at}"] = tool.field
        variant = f"anyOf[{at}]." if len(tools) > 1 else ""
        fields[f"{variant}properties.arguments"] = tool.field
        properties = {"name": {"const": tool.name}, "arguments": parameters}
        required = ["name", "arguments"]
        variants.append(
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        )
    schema = variants[0] if len(variants) == 1 else {"anyOf": variants}
    return (schema | {"$defs": definitions} if definitions else schema), fields


def _moved(schema: Any, place: str) -> Any:
    """A schema that will stand at this place, with its references into itself led there."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, place) for key, value in schema.items()}
    if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#"):
        moved["$ref"] = f"{place}{reference[1:]}"
    return moved


def _instructed(messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> tuple[Message, ...]:
    """The messages with a word to the model of what it is to do, beside any system message that leads them."""
    lines = [f"{tool.name}: {tool.description or 'no description'}" for tool in tools]
    words = "Answer with the JSON of one call of a function.\n" + "\n".join(lines)
    first = messages[0]
    if first.role in {Role.SYSTEM, Role.DEVELOPER}:
        return (replace(first, parts=(Text(f"{first.text}\n\n{words}"),)), *messages[1:])
    return (Message(Role.SYSTEM, (Text(words),)), *messages)
