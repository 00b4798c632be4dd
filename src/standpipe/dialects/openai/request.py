"""OpenAI's Chat Completions as we offer them: the dialect, and how its requests become asks.

There are two flavours that differ in their defaults alone. `/v1/chat/completions` has OpenAI's: a whole answer, and
whatever sampling the engine prefers. `/api` has ours: a stream, with temperature 0.8 and top_p 0.9. Both take the same
fields, and drop what they do not know. What an operator allows is policy's business, and whether an engine can do it
is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
    now,
)
from standpipe.chat.errors import ContextTooLong, Failure, InvalidAsk, Unsupported
from standpipe.chat.events import Answer
from standpipe.dialects.asks import (
    Calls,
    as_input,
    effort,
    functions,
    past_result,
    past_said,
    past_texts,
    past_told,
    placed,
    present,
    schema_format,
    stops,
    texts,
    told,
    tool_choice,
)
from standpipe.dialects.dialect import Encoder, Parsed, ResponseMeta
from standpipe.dialects.images import Album
from standpipe.dialects.openai import wire
from standpipe.dialects.openai.answer import Chunks, Ends, whole
from standpipe.dialects.openai.faults import failure_body
from standpipe.dialects.reading import DROPPED, Reader

_PLAIN = OutputFormat()


class Defaults(Struct, frozen=True):
    """What holds where a client says nothing. None means: the engine's own default."""

    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None


class OpenAIChat:
    """The dialect, with the defaults of one of its flavours."""

    stream_type = "text/event-stream"
    reader = Reader(
        wire.Request,
        ignored={
            "metadata",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options.include_obfuscation",
            "user",
            "verbosity",
        },
        refused={
            "audio": "Answers are text only.",
            "function_call": "`function_call` is not supported: use `tool_choice`.",
            "functions": "`functions` is not supported: use `tools`.",
            "moderation": "Moderation is not supported.",
            "web_search_options": "`web_search_options` is not supported: this server runs no tools.",
        },
    )

    def __init__(self, name: str, defaults: Defaults) -> None:
        self.name = name
        self._defaults = defaults

    def parse(self, body: bytes) -> Parsed:
        """`Parsed.echo` is whether the stream shall tell its usage."""
        request, dropped = self.reader.read(body)
        ask, passed_over = _ask(request, self._defaults)
        return Parsed(
            ask=ask,
            stream=self._defaults.stream if request.stream is None else request.stream,
            echo=includes_usage(request),
            dropped=(dropped + passed_over)[:DROPPED],
            others=others(ask, request.n),
        )

    def encoder(self, parsed: Parsed, meta: ResponseMeta) -> Encoder:
        return Chunks(meta, include_usage=parsed.echo)

    def encoders(self, parsed: Parsed, meta: ResponseMeta) -> Sequence[Encoder]:
        choices = 1 + len(parsed.others)
        ends = Ends(choices)
        return [Chunks(meta, include_usage=parsed.echo, index=index, ends=ends) for index in range(choices)]

    def answer(self, parsed: Parsed, meta: ResponseMeta, answer: Answer) -> bytes:  # noqa: ARG002 -- the protocol's
        return whole(meta, (answer,))

    def answers(self, parsed: Parsed, meta: ResponseMeta, answers: Sequence[Answer]) -> bytes:  # noqa: ARG002 -- the same
        return whole(meta, answers)

    def failure(self, failure: Failure, request_id: str) -> bytes:
        return failure_body(failure, request_id)

    def refusal(self, failure: ContextTooLong, meta: ResponseMeta) -> bytes:  # noqa: ARG002 - a status tells it
        return b""

    def __repr__(self) -> str:
        return f"<OpenAIChat {self.name}>"


API = OpenAIChat("api", Defaults(stream=True, temperature=0.8, top_p=0.9))
"""POST /api."""
COMPLETIONS = OpenAIChat("openai_chat", Defaults())
"""POST /v1/chat/completions."""


def includes_usage(request: wire.Sampled) -> bool:
    """Whether a stream shall tell its usage."""
    return request.stream_options is not None and bool(request.stream_options.include_usage)


def sampling(
    request: wire.Sampled, defaults: Defaults, *, max_tokens: int | None, logprobs: bool, top_logprobs: int | None
) -> Sampling:
    """How this request wants to be answered."""
    return Sampling(
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        max_tokens=max_tokens,
        stop=stops(request.stop),
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias={str(token): bias for token, bias in (request.logit_bias or {}).items()} or None,
        logprobs=logprobs,
        top_logprobs=top_logprobs if logprobs else None,
    )


def others(ask: Ask, n: int | None) -> tuple[Ask, ...]:
    """The same ask for all choices but the first. Where a seed fixes what is chosen, each has one of its own."""
    seed = ask.sampling.seed
    if seed is None:
        return (ask,) * ((n or 1) - 1)
    return tuple(replace(ask, sampling=replace(ask.sampling, seed=seed ^ i)) for i in range(1, n or 1))


def token_limit(value: int | None, param: str) -> int | None:
    """A limit of the client's own, None for none. Raises InvalidAsk."""
    if value == 0:
        raise InvalidAsk(f"`{param}` must be at least 1, or -1 for no limit of its own.", param=param)
    return None if value == -1 else value


def _ask(request: wire.Request, defaults: Defaults) -> tuple[Ask, tuple[str, ...]]:
    """The ask, and the tools that no model hears of. Raises InvalidAsk, Unsupported or TooLarge."""
    for i, modality in enumerate(request.modalities or ()):
        if modality != "text":
            raise Unsupported("Answers are text only: `modalities` may hold `text`.", param=f"modalities[{i}]")
    if request.top_logprobs and not request.logprobs:
        raise InvalidAsk("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    tools, passed_over = functions(placed(request.tools), _function, "function.parameters")
    older = token_limit(request.max_tokens, "max_tokens")
    newer = token_limit(request.max_completion_tokens, "max_completion_tokens")
    ask = Ask(
        messages=tuple(_messages(request.messages)),
        model=request.model or None,
        sampling=sampling(
            request,
            defaults,
            max_tokens=older if request.max_completion_tokens is None else newer,
            logprobs=bool(request.logprobs),
            top_logprobs=request.top_logprobs,
        ),
        tools=tools,
        tool_choice=_tool_choice(request.tool_choice, tools),
        parallel_tool_calls=request.parallel_tool_calls,
        format=_format(request.response_format),
        effort=effort(request.reasoning_effort),
    )
    return ask, passed_over


def _format(sent: wire.ResponseFormat | None) -> OutputFormat:
    if sent is None:
        return _PLAIN
    if sent.type is FormatKind.JSON_OBJECT and sent.schema is not None:
        return schema_format(sent.schema, "response_format.schema")
    if sent.type is not FormatKind.JSON_SCHEMA:
        return OutputFormat(sent.type)
    form = present(sent.json_schema, "response_format.json_schema")
    return schema_format(
        form.schema,
        "response_format.json_schema.schema",
        name=form.name,
        description=form.description,
        strict=form.strict,
    )


def _function(sent: wire.Tool, path: str) -> Tool | None:
    if sent.type != "function":
        return None
    function = present(sent.function, f"{path}.function")
    return Tool(function.name, function.description, function.parameters, function.strict)


def _tool_choice(sent: str | wire.NamedTool | None, tools: Sequence[Tool]) -> ToolChoice | None:
    if sent is None:
        return None
    if isinstance(sent, str):
        return tool_choice(ToolMode(sent), tools, "tool_choice")
    if sent.type != "function":
        raise Unsupported(
            "`tool_choice.type` must be `function`: other kinds are not supported.", param="tool_choice.type"
        )
    function = present(sent.function, "tool_choice.function")
    return tool_choice(ToolMode.NAMED, tools, "tool_choice.function.name", function.name)


_ROLES = {role.value: role for role in Role}


def _messages(sent: Sequence[wire.Message]) -> Iterator[Message]:
    end_of_past = now([message.role == "assistant" for message in sent])
    calls, album = Calls(), Album()
    for i, message in enumerate(sent):
        content, path = message.content, f"messages[{i}].content"
        match message.role:
            case "assistant":
                calls.turn()
                parts = tuple(_assistant_parts(message, calls))
                yield Message(Role.ASSISTANT, parts or (Text(""),), message.name)
            case "tool" | "function":
                call_id = calls.answered(message.tool_call_id, message.name, f"messages[{i}].tool_call_id")
                yield Message(Role.TOOL, (past_result(call_id, content, path, album),))
            case role if isinstance(content, str):
                yield Message(_ROLES[role], (Text(content),), message.name)
            case "user":
                said = past_told(content, path, album) if i < end_of_past else tuple(told(content, path, album))
                yield Message(Role.USER, said, message.name)
            case role:
                said = past_said(content) if i < end_of_past else tuple(texts(content, path))
                yield Message(_ROLES[role], said, message.name)


def _assistant_parts(sent: wire.Message, calls: Calls) -> Iterator[Part]:
    if reasoning := sent.reasoning or sent.reasoning_content or sent.thinking:
        yield Reasoning(reasoning)
    yield from (part for part in past_texts(sent.content) if part.text)
    if sent.refusal:
        yield Refusal(sent.refusal)
    for call in sent.tool_calls or ():
        if call.function is not None:
            yield calls.made(call.id, call.function.name, call.function.arguments or "")
        elif call.custom is not None:
            yield calls.made(call.id, call.custom.name, as_input(call.custom.input))
    if sent.function_call is not None:
        yield calls.made(None, sent.function_call.name, sent.function_call.arguments or "")
