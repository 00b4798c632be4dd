"""Ollama's native format as we offer it: a chat at `/api/chat`, and one question at `/api/generate`.

The dialect, and how its requests become asks. Both paths stream unless told otherwise. Of `options`, only those count
that say how to sample: the others would load a model anew. Thinking is told unless the client forbade it. A request
that asks nothing is how clients load a model, or unload it with `keep_alive` 0, which says nothing else here; its
answer says that it is done. Calls need have no ids, so that a result finds its call by the tool's name or by its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from msgspec.json import Decoder

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    JsonObject,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from standpipe.chat.errors import Failure, InvalidAsk, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.bounds import (
    MESSAGES,
    TOOLS,
    check_count,
    check_name,
    check_range,
    check_schemas,
    check_tools,
    one_of,
    present,
    stops,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.ollama import wire
from standpipe.dialects.ollama.answer import CHAT as CHAT_SHAPE
from standpipe.dialects.ollama.answer import COMPLETION, Lines, Shape, failure_body, whole
from standpipe.dialects.reading import decode, fields, object_text, unknown

TOP_LOGPROBS = 5

REFUSED = {
    "context": "`context` is not supported: use /api/chat for a conversation.",
    "images": "Images cannot be read here: `images` must be empty.",
    "raw": "`raw` is not supported: every prompt goes through the model's template.",
    "suffix": "`suffix` is not supported: nothing is filled in between two texts.",
    "template": "`template` is not supported: every prompt goes through the model's own.",
}
"""The fields of a question that would change its answer in a way that we cannot, with what to say."""

_INT32 = 2**31 - 1
_INT64 = 2**63
_NO_LIMIT = (-1, -2)
_ROLES = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL)
_EFFORTS: dict[bool | str, Effort] = {
    True: Effort.MEDIUM,
    False: Effort.NONE,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "max": Effort.HIGH,
}


def chat(request: wire.ChatRequest) -> Ask:
    """Without messages, nothing is asked. Raises InvalidAsk, Unsupported or TooLarge."""
    sent = request.messages or []
    check_count(sent, 0, MESSAGES, "messages")
    return _ask(request, tuple(_Conversation().read(sent)), _tools(request.tools or ()))


def generate(request: wire.GenerateRequest) -> Ask:
    """One question, without a conversation; no prompt asks nothing. Raises InvalidAsk, Unsupported or TooLarge."""
    for name, message in REFUSED.items():
        if getattr(request, name):
            raise Unsupported(message, param=name)
    messages = [Message(Role.USER, (Text(request.prompt),))] if request.prompt else []
    if request.system and messages:
        messages.insert(0, Message(Role.SYSTEM, (Text(request.system),)))
    return _ask(request, tuple(messages), ())


def _ask(request: wire.Request, messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> Ask:
    return Ask(
        messages=messages,
        model=request.model or None,
        sampling=_sampling(request),
        tools=tools,
        format=_format(request.format),
        effort=_effort(request.think),
    )


def _sampling(request: wire.Request) -> Sampling:
    options = request.options or wire.Options()
    check_range(options.temperature, 0, 2, "options.temperature")
    check_range(options.top_p, 0, 1, "options.top_p")
    check_range(options.top_k, 0, _INT32, "options.top_k")
    check_range(options.min_p, 0, 1, "options.min_p")
    check_range(options.seed, -_INT64, _INT64 - 1, "options.seed")
    check_range(options.repeat_penalty, 0.5, 2, "options.repeat_penalty")
    check_range(options.presence_penalty, -2, 2, "options.presence_penalty")
    check_range(options.frequency_penalty, -2, 2, "options.frequency_penalty")
    check_range(request.top_logprobs, 0, TOP_LOGPROBS, "top_logprobs")
    limit = None if options.num_predict in _NO_LIMIT else options.num_predict
    check_range(limit, 1, _INT32, "options.num_predict")
    return Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        max_tokens=limit,
        stop=stops(options.stop, "options.stop"),
        seed=options.seed,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        repeat_penalty=options.repeat_penalty,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )


def _effort(think: bool | str | None) -> Effort | None:
    if think is None:
        return None
    if think not in _EFFORTS:
        words = ", ".join(f"`{word}`" for word in _EFFORTS if isinstance(word, str))
        raise InvalidAsk(f"`think` must be true, false or one of {words}.", param="think")
    return _EFFORTS[think]


def _format(sent: str | JsonObject | None) -> OutputFormat:
    if not sent:
        return OutputFormat()
    if isinstance(sent, dict):
        check_schemas({"format": sent})
        return OutputFormat(FormatKind.JSON_SCHEMA, sent)
    if sent != "json":
        raise InvalidAsk("`format` must be `json` or a JSON Schema.", param="format")
    return OutputFormat(FormatKind.JSON_OBJECT)


def _tools(sent: Sequence[wire.Tool]) -> tuple[Tool, ...]:
    check_count(sent, 0, TOOLS, "tools")
    tools = []
    for i, tool in enumerate(sent):
        if tool.type != "function":
            param = f"tools[{i}].type"
            raise Unsupported(f"`{param}` must be `function`: other kinds are not supported.", param=param)
        function = present(tool.function, f"tools[{i}].function")
        tools.append(Tool(function.name, function.description, function.parameters))
    check_tools(tools, "function.name", "function.parameters")
    return tuple(tools)


class _Conversation:
    """Reads the messages in order, and remembers which calls have no result yet."""

    __slots__ = ("_made", "_open")

    def __init__(self) -> None:
        self._made = 0
        self._open: list[ToolCall] = []

    def read(self, sent: Sequence[wire.Message]) -> Iterator[Message]:
        for i, message in enumerate(sent):
            param = f"messages[{i}]"
            role = one_of(message.role.lower(), _ROLES, f"{param}.role")
            if message.images:
                place = f"{param}.images"
                raise Unsupported(f"Images cannot be read here: `{place}` must be empty.", param=place)
            match role:
                case Role.ASSISTANT:
                    yield Message(role, tuple(self._assistant_parts(message, param)))
                case Role.TOOL:
                    yield Message(role, (ToolResult(self._answered(message, param), message.content or ""),))
                case _:
                    yield Message(role, (Text(message.content or ""),))

    def _assistant_parts(self, sent: wire.Message, param: str) -> Iterator[Part]:
        if sent.thinking:
            yield Reasoning(sent.thinking)
        if sent.content or not (sent.thinking or sent.tool_calls):
            yield Text(sent.content or "")
        self._open = [self._call(call, f"{param}.tool_calls[{i}]") for i, call in enumerate(sent.tool_calls or ())]
        yield from self._open

    def _call(self, sent: wire.Call, param: str) -> ToolCall:
        name = f"{param}.function.name"
        check_name(sent.function.name, name)
        arguments = object_text(sent.function.arguments, f"{param}.function.arguments")
        self._made += 1
        return ToolCall(sent.id or f"call_no_{self._made}", sent.function.name, arguments)

    def _answered(self, sent: wire.Message, param: str) -> str:
        """The id of the call that this is the result of: the one it names, the first of its tool, or the first."""
        if sent.tool_call_id:
            found = [call for call in self._open if call.id == sent.tool_call_id]
        else:
            found = [call for call in self._open if call.name == sent.tool_name] or self._open
        if found:
            answered = found[0]
            self._open.remove(answered)
            return answered.id
        if sent.tool_call_id:
            return sent.tool_call_id
        raise InvalidAsk(f"`{param}` is the result of a tool that no message before it calls.", param=param)


OPTIONS = frozenset(wire.Options.__struct_fields__)
"""The `options` that are read."""
IGNORED = frozenset({"shift", "truncate"})
"""The fields that say nothing to us, and change no answer."""

_NO_TIME = re.compile(r"0+(\.0*)?[a-zµ]{0,2}")

R = TypeVar("R", bound=wire.Request)


class Ollama(Generic[R]):
    """The dialect of one of the two paths."""

    stream_type = "application/x-ndjson"

    def __init__(self, name: str, request: type[R], ask: Callable[[R], Ask], shape: Shape) -> None:
        self.name = name
        self.taken = frozenset(request.__struct_fields__)
        """The fields that are read."""
        self._request: Decoder[R] = Decoder(request)
        self._ask = ask
        self._shape = shape

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall tell thinking, or the reason for which one to nothing is done.

        `Parsed.dropped` has options as well.
        """
        sent = fields(body)
        request = decode(body, self._request)
        dropped = unknown(sent, self.taken | IGNORED)
        if request.options is not None:
            dropped += tuple(f"options.{name}" for name in unknown(fields(bytes(sent["options"])), OPTIONS))
        ask = self._ask(request)
        return Parsed(
            ask=ask,
            stream=request.stream is not False,
            echo=request.think is not False if ask.messages else _done_nothing(request.keep_alive),
            dropped=dropped,
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Lines(meta, self._shape, thinking=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """Raises EngineFailed for a call that no client could read."""
        told = parsed.echo if isinstance(parsed.echo, str) else None
        return whole(meta, self._shape, answer, thinking=bool(parsed.echo), done_reason=told)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def __repr__(self) -> str:
        return f"<Ollama {self.name}>"


def _done_nothing(keep_alive: Any) -> str:
    """No time at all, as a number of seconds or a duration in Go's spelling, is the wish to unload the model."""
    return "unload" if keep_alive is not None and _NO_TIME.fullmatch(str(keep_alive)) else "load"


CHAT = Ollama("ollama_chat", wire.ChatRequest, chat, CHAT_SHAPE)
"""POST /api/chat."""
GENERATE = Ollama("ollama_generate", wire.GenerateRequest, generate, COMPLETION)
"""POST /api/generate."""
