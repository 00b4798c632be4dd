"""Ollama's native format as we offer it: a chat at `/api/chat`, and one question at `/api/generate`.

The dialect, and how its requests become asks. Both paths stream unless told otherwise. Of `options`, only those count
that say how to sample: the others would load a model anew. Thinking is told unless the client forbade it. A `raw`
prompt is continued without a template, where an engine can. A request that asks nothing is how clients load a model, or
unload it with `keep_alive` 0, which says nothing else here; its answer says that it is done. Calls need have no ids, so
that a result finds its call by the tool's name or by its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    Image,
    JsonObject,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolResult,
    now,
)
from standpipe.chat.errors import ContextTooLong, Failure, InvalidAsk, TooLarge, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.asks import Calls, chosen, functions, object_text, placed, present, schema_format, stops
from standpipe.dialects.bounds import MESSAGES
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.images import Album, words_for
from standpipe.dialects.ollama import wire
from standpipe.dialects.ollama.answer import CHAT as CHAT_SHAPE
from standpipe.dialects.ollama.answer import COMPLETION, AnswerShape, Lines, failure_body, whole
from standpipe.dialects.reading import DROPPED, Reader

IGNORED = frozenset({"shift", "truncate"})
REFUSED = {
    "context": "`context` is not supported: use /api/chat for a conversation.",
    "suffix": "`suffix` is not supported: text cannot be inserted between a prefix and a suffix.",
    "template": "`template` is not supported: the model's own template is always used.",
}
"""The fields of a question that would change its answer in a way that we cannot, with what to say. Empty, they are not
set."""
NEAREST: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "seed": (-(2**63), 2**63 - 1),
    "repeat_penalty": (0.5, 2),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
"""The ranges of options. What is beyond is the nearest within, because Ollama refuses none."""

R = TypeVar("R", bound=wire.Request)

_NO_TIME = re.compile(r"0+(\.0*)?[a-zµ]{0,2}")
_ROLES = {role.value: role for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL)}
_EFFORTS: dict[bool | str, Effort] = {
    True: Effort.MEDIUM,
    False: Effort.NONE,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "max": Effort.HIGH,
}


class Ollama(Generic[R]):
    """The dialect of one of the two paths."""

    stream_type = "application/x-ndjson"

    def __init__(
        self, name: str, request: type[R], ask: Callable[[R], tuple[Ask, tuple[str, ...]]], shape: AnswerShape
    ) -> None:
        """`ask` makes an ask of a request, and names the tools that no model hears of."""
        self.name = name
        self.reader = Reader(request, ignored=IGNORED)
        self._ask = ask
        self._shape = shape

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the answer shall tell thinking, or the reason for which one to nothing is done."""
        request, dropped = self.reader.read(body)
        ask, passed_over = self._ask(request)
        return Parsed(
            ask=ask,
            stream=request.stream is not False,
            echo=request.think is not False if ask.messages else _done_nothing(request.keep_alive),
            dropped=(dropped + passed_over)[:DROPPED],
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Lines(meta, self._shape, thinking=parsed.echo)

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:
        """Raises EngineFailed for a call that no client could read."""
        told = parsed.echo if isinstance(parsed.echo, str) else None
        return whole(meta, self._shape, answer, thinking=bool(parsed.echo), done_reason=told)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:  # noqa: ARG002 - a status tells it
        return b""

    def __repr__(self) -> str:
        return f"<Ollama {self.name}>"


def _done_nothing(keep_alive: Any) -> str:
    """No time at all, as a number of seconds or a duration in Go's spelling, is the wish to unload the model."""
    return "unload" if keep_alive is not None and _NO_TIME.fullmatch(str(keep_alive)) else "load"


def _chat(request: wire.ChatRequest) -> tuple[Ask, tuple[str, ...]]:
    """Without messages, nothing is asked. Raises InvalidAsk, Unsupported or TooLarge."""
    tools, passed_over = functions(placed(request.tools), _function, "function.parameters")
    return _ask(request, tuple(_messages(request.messages or ())), tools), passed_over


def _generate(request: wire.GenerateRequest) -> tuple[Ask, tuple[str, ...]]:
    """One question, without a conversation; no prompt asks nothing. Raises InvalidAsk, Unsupported or TooLarge."""
    for name, message in REFUSED.items():
        if getattr(request, name):
            raise Unsupported(message, param=name)
    album, sent = Album(), () if request.raw else request.images or ()
    images = tuple(_image(one, f"images[{i}]", album) for i, one in enumerate(sent))
    messages = [Message(Role.USER, (Text(request.prompt), *images))] if request.prompt else []
    if request.raw:
        return _raw(request, tuple(messages))
    if request.system and messages:
        messages.insert(0, Message(Role.SYSTEM, (Text(request.system),)))
    return _ask(request, tuple(messages), ()), ()


def _raw(request: wire.GenerateRequest, messages: tuple[Message, ...]) -> tuple[Ask, tuple[str, ...]]:
    """A text to be continued. Nobody can say what to think of in it; what else Ollama refuses beside it, so do we."""
    for name in ("system", "format"):
        if getattr(request, name):
            raise Unsupported(f"`{name}` is not supported together with `raw`: put it into `prompt`.", param=name)
    if request.images:
        raise Unsupported("`images` is not supported together with `raw`.", param="images")
    ask = replace(_ask(request, messages, ()), effort=None, raw=bool(messages))
    return ask, () if request.think is None else ("think",)


CHAT = Ollama("ollama_chat", wire.ChatRequest, _chat, CHAT_SHAPE)
"""POST /api/chat."""
GENERATE = Ollama("ollama_generate", wire.GenerateRequest, _generate, COMPLETION)
"""POST /api/generate."""


def _ask(request: wire.Request, messages: tuple[Message, ...], tools: tuple[Tool, ...]) -> Ask:
    return Ask(
        messages=messages,
        model=request.model or None,
        sampling=_sampling(request),
        tools=tools,
        format=_format(request.format),
        effort=None if request.think is None else _EFFORTS[request.think],
    )


def _sampling(request: wire.Request) -> Sampling:
    options = request.options or wire.Options()
    near: dict[str, Any] = {
        name: max(low, min(value, high))
        for name, (low, high) in NEAREST.items()
        if (value := getattr(options, name)) is not None
    }
    for name in near.keys() & {"top_k", "seed"}:
        near[name] = int(near[name])
    return Sampling(
        **near,
        max_tokens=int(options.num_predict) if options.num_predict and options.num_predict >= 1 else None,
        stop=stops(options.stop),
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )


def _format(sent: str | JsonObject | None) -> OutputFormat:
    if not sent:
        return OutputFormat()
    if isinstance(sent, dict):
        return schema_format(sent, "format")
    if sent != "json":
        raise InvalidAsk("`format` must be `json` or a JSON Schema.", param="format")
    return OutputFormat(FormatKind.JSON_OBJECT)


def _function(sent: wire.Tool, path: str) -> Tool | None:
    if sent.type != "function":
        return None
    function = present(sent.function, f"{path}.function")
    return Tool(function.name, function.description, function.parameters)


def _messages(sent: Sequence[wire.Message]) -> Iterator[Message]:
    roles = [chosen(message.role.lower(), _ROLES, f"messages[{i}].role") for i, message in enumerate(sent)]
    end_of_past = now([role is Role.ASSISTANT for role in roles])
    if sum(len(message.images or ()) for message in sent) > MESSAGES:
        raise TooLarge(f"`messages` may have at most {MESSAGES} images.", param="messages")
    calls, album = Calls(), Album()
    for i, (role, message) in enumerate(zip(roles, sent, strict=True)):
        images, content = _images(message, f"messages[{i}].images", role, album, past=i < end_of_past)
        match role:
            case Role.ASSISTANT:
                calls.turn()
                yield Message(role, tuple(_assistant_parts(message, content, calls, f"messages[{i}]")) or (Text(""),))
            case Role.TOOL:
                call_id = calls.answered(message.tool_call_id, message.tool_name, f"messages[{i}]")
                yield Message(role, (ToolResult(call_id, content, images=images),))
            case _:
                yield Message(role, (Text(content), *images))


def _images(sent: wire.Message, path: str, role: Role, album: Album, *, past: bool) -> tuple[tuple[Image, ...], str]:
    """The images of a message, and its text with words for those that cannot be shown."""
    content, found = sent.content or "", list[Image]()
    for i, image in enumerate(sent.images or ()):
        try:
            if role not in {Role.USER, Role.TOOL}:
                raise Unsupported(f"`{path}` must be empty: only users show images.", param=path)
            found.append(_image(image, f"{path}[{i}]", album))
        except Failure:
            if not past and role in {Role.USER, Role.SYSTEM}:
                raise
            content += f"\n{words_for('image')}"
    return tuple(found), content


def _image(sent: Any, path: str, album: Album) -> Image:
    """Some clients write a data URL where Ollama wants plain base64."""
    text = sent if isinstance(sent, str) else None
    return album.from_base64(text.partition(",")[2] if text and text.startswith("data:") else text, path)


def _assistant_parts(sent: wire.Message, content: str, calls: Calls, path: str) -> Iterator[Part]:
    if sent.thinking:
        yield Reasoning(sent.thinking)
    if content:
        yield Text(content)
    for i, call in enumerate(sent.tool_calls or ()):
        arguments = object_text(call.function.arguments, f"{path}.tool_calls[{i}].function.arguments")
        yield calls.made(call.id, call.function.name, arguments)
