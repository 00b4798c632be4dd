"""The other direction: an ask to the request body of an OpenAI-compatible engine.

The body is built from scratch, so nothing that a client wrote reaches an engine but through the vocabulary. Engines
are always asked for a stream, because most of them notice only then that the caller has left, and always for usage.
What comes back is `from_engine`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Image,
    JsonObject,
    Message,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.dialects.engine_output import earlier_arguments


class Extras(Struct, frozen=True):
    """What an engine understands beyond the format, or under other names. None means: it is not sent.

    `fields` go into every body as they are, `{"return_progress": True}` for llama.cpp. `reasoning` is the field of an
    earlier message that holds its reasoning, `max_tokens` that of the limit on output. `counted` are fields that make
    it count in every frame, for an answer that is stopped from here.
    """

    fields: JsonObject = {}
    counted: JsonObject = {}
    reasoning: str | None = "reasoning_content"
    max_tokens: str = "max_tokens"
    top_k: str | None = None
    min_p: str | None = None
    repeat_penalty: str | None = None


LLAMA = Extras(
    fields={"return_progress": True},
    counted={"timings_per_token": True},
    top_k="top_k",
    min_p="min_p",
    repeat_penalty="repeat_penalty",
)
"""llama.cpp's server. Only with progress frames does it notice during the prefill that the caller has left."""
VLLM = Extras(top_k="top_k", min_p="min_p", repeat_penalty="repetition_penalty")
"""vLLM and SGLang."""


_GOES_ON: JsonObject = {"add_generation_prompt": False, "continue_final_message": True}
"""Have the last message gone on with, and not answered: vLLM's words, which SGLang and llama.cpp take, too."""
_WITH_USAGE = {"include_usage": True}
_ANY = Sampling()


OPTIONAL = frozenset({
    "frequency_penalty", "min_p", "parallel_tool_calls", "presence_penalty", "reasoning_effort", "repeat_penalty",
    "repetition_penalty", "return_progress", "seed", "stream_options", "temperature", "timings_per_token", "top_k",
    "top_p",
})  # fmt: skip
"""Fields without which an answer is still one to what was asked: an engine that refuses them does without."""


def request_body(ask: Ask, model: str, *, extras: Extras) -> JsonObject:
    """The body of POST /chat/completions, for the engine's model of this name."""
    messages: list[JsonObject] = []
    for message in _with_shown(ask.messages):
        messages += _messages(message, extras)
    if ask.begun is not None:
        messages.append(_assistant(ask.begun.message, extras))
    body: JsonObject = {"model": model, "messages": messages, "stream": True, "stream_options": _WITH_USAGE}
    if ask.sampling != _ANY:
        body |= _sampling(ask.sampling, extras)
    if ask.tools:
        body |= _tools(ask)
    if ask.format.kind is not FormatKind.TEXT:
        body |= _format(ask)
    if extras.fields:
        body |= extras.fields
    if ask.begun is not None:
        body |= _GOES_ON
    if ask.effort is not None:
        body["reasoning_effort"] = ask.effort
    return body


def completion_body(ask: Ask, model: str, *, extras: Extras) -> JsonObject:
    """The body of POST /completions: the prompt as it stands, behind the operator's if there is one."""
    sampling = ask.sampling
    body: JsonObject = {"model": model, "prompt": ask.prompt, "stream": True, "stream_options": _WITH_USAGE}
    body |= _sampling(sampling, extras) | extras.fields
    if extras.max_tokens in body:
        body["max_tokens"] = body.pop(extras.max_tokens)  # by this name everywhere
    if sampling.logprobs:
        body["logprobs"] = body.pop("top_logprobs")
    return body


def _with_shown(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages, and what tools have shown as the user's behind it: a tool's message has no place for an image."""
    shown: tuple[Image, ...] = ()
    for message in messages:
        if not shown or message.role is Role.TOOL:
            yield message
        elif message.role is Role.USER:  # most templates want one turn, not two
            yield replace(message, parts=(*shown, *message.parts))
        else:
            yield from (Message(Role.USER, shown), message)
        shown = (*shown, *message.images) if message.role is Role.TOOL else ()
    if shown:
        yield Message(Role.USER, shown)


def _messages(message: Message, extras: Extras) -> list[JsonObject]:
    """One message of ours is one of theirs, except that each tool result is a message of its own."""
    named: JsonObject = {} if message.name is None else {"name": message.name}
    match message.role:
        case Role.TOOL:
            return [
                {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
                for part in message.parts
                if isinstance(part, ToolResult)
            ]
        case Role.ASSISTANT:
            return [{**_assistant(message, extras), **named}]
        case Role.SYSTEM | Role.DEVELOPER:
            # Templates that do not know `developer` put it into the prompt as it is; `system` means the same to all.
            return [{"role": "system", "content": _content(message), **named}]
        case Role.USER:
            shown = any(type(part) is Image for part in message.parts)
            written: JsonObject = {"role": "user", "content": _shown(message) if shown else _content(message)}
            return [written if message.name is None else written | named]


def _assistant(message: Message, extras: Extras) -> JsonObject:
    written: JsonObject = {"role": "assistant", "content": _content(message)}
    reasoning = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    if reasoning and extras.reasoning is not None:
        written[extras.reasoning] = reasoning
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": earlier_arguments(part.arguments)},
        }
        for part in message.parts
        if isinstance(part, ToolCall)
    ]
    if calls:
        written["tool_calls"] = calls
    return written


def _shown(message: Message) -> list[JsonObject]:
    """What is said and shown, in its order."""
    return [
        {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}
        if isinstance(part, Image)
        else {"type": "text", "text": part.text}
        for part in message.parts
        if isinstance(part, Image) or (isinstance(part, Text) and part.text)
    ]


def _content(message: Message) -> str:
    """A string where nothing is shown: some engines refuse lists or null. Parts are joined by a line end, as llama.cpp
    and vLLM do."""
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text:
        return parts[0].text
    return "\n".join(part.text for part in parts if isinstance(part, Text | Refusal))


def _sampling(sampling: Sampling, extras: Extras) -> JsonObject:
    """An engine that is asked for no rivals may give no log-probabilities at all, so it is asked for one at least."""
    values: tuple[tuple[str | None, object], ...] = (
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        (extras.top_k, sampling.top_k),
        (extras.min_p, sampling.min_p),
        (extras.repeat_penalty, sampling.repeat_penalty),
        (extras.max_tokens, sampling.max_tokens),
        ("stop", None if sampling.tell_stop else sampling.stop or None),
        ("seed", sampling.seed),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("logit_bias", sampling.logit_bias),
        ("logprobs", sampling.logprobs or None),
        ("top_logprobs", max(1, sampling.top_logprobs or 0) if sampling.logprobs else None),
    )
    body = {name: value for name, value in values if value is not None and name is not None}
    return body | extras.counted if sampling.tell_stop else body


def _tools(ask: Ask) -> JsonObject:
    body: JsonObject = {
        "tools": [
            {
                "type": "function",
                "function": _set(
                    name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
                ),
            }
            for tool in ask.tools
        ]
    }
    if ask.tool_choice is not None:
        body["tool_choice"] = _tool_choice(ask.tool_choice)
    if ask.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = ask.parallel_tool_calls
    return body


def _tool_choice(choice: ToolChoice) -> str | JsonObject:
    if choice.mode is ToolMode.NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _format(ask: Ask) -> JsonObject:
    wanted = ask.format
    match wanted.kind:
        case FormatKind.TEXT:
            return {}
        case FormatKind.JSON_OBJECT:
            return {"response_format": {"type": "json_object"}}
        case FormatKind.JSON_SCHEMA:
            described = _set(
                name=wanted.name or "answer",
                schema=wanted.schema,
                description=wanted.description,
                strict=wanted.strict,
            )
            return {"response_format": {"type": "json_schema", "json_schema": described}}


def _set(**values: object) -> JsonObject:
    return {name: value for name, value in values.items() if value is not None}
