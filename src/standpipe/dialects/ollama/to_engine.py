"""The other direction: an ask to the body of a native Ollama's `/api/chat`, or of its `/api/generate` for a raw prompt.
What comes back is `from_engine`'s.

The body is built from scratch, so nothing that a client wrote reaches the engine but through the vocabulary. What does
not fit into the model's context is refused: by itself Ollama would drop the beginning of a conversation, and tell
nobody. Biased tokens, for which Ollama has no word, are refused as well. It has none for a tool that must be called,
either: such tools are told like any others, and whether one was called is for whoever asks to see.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Raw

from standpipe.chat.ask import (
    Ask,
    Effort,
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
from standpipe.chat.errors import Unsupported
from standpipe.dialects.engine_output import earlier_arguments
from standpipe.dialects.ollama.wire import is_gpt_oss

_LEVELS = {Effort.MINIMAL: "low", Effort.LOW: "low", Effort.MEDIUM: "medium", Effort.HIGH: "high"}


def request_body(ask: Ask, model: str) -> JsonObject:
    """The body of POST /api/chat, for the engine's model of this name. Raises Unsupported."""
    sampling = ask.sampling
    body: JsonObject = {
        "model": model,
        "messages": list(_messages(ask.messages if ask.begun is None else (*ask.messages, ask.begun.message))),
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": _options(sampling),
        **_tools(ask),
    }
    if ask.format.kind is not FormatKind.TEXT:
        body["format"] = "json" if ask.format.schema is None else ask.format.schema
    if ask.effort is not None:
        body["think"] = _think(ask.effort, model)
    if sampling.logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = sampling.top_logprobs or 0
    return body


def raw_body(ask: Ask, model: str) -> JsonObject:
    """The body of POST /api/generate without the model's template. Raises Unsupported."""
    body = request_body(ask, model)
    del body["messages"]
    return body | {"prompt": ask.prompt, "raw": True}


def _think(effort: Effort, model: str) -> bool | str:
    """Only gpt-oss has levels; older Ollamas refuse them for any other model."""
    if effort is Effort.NONE:
        return False
    return _LEVELS[effort] if is_gpt_oss(model) else True


def _options(sampling: Sampling) -> JsonObject:
    if sampling.logit_bias:
        raise Unsupported("This engine does not support `logit_bias`.", param="logit_bias")
    values: JsonObject = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "num_predict": sampling.max_tokens,
        "stop": None if sampling.tell_stop else list(sampling.stop) or None,
        "seed": sampling.seed,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return {name: value for name, value in values.items() if value is not None}


def _tools(ask: Ask) -> JsonObject:
    """Where one tool is named, the others are not told."""
    choice = ask.tool_choice or ToolChoice()
    if not ask.tools or choice.mode is ToolMode.NONE:
        return {}
    return {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.parameters or {"type": "object", "properties": {}},
                },
            }
            for tool in ask.tools
            if choice.name in {None, tool.name}
        ]
    }


def _messages(messages: tuple[Message, ...]) -> Iterator[JsonObject]:
    """One message of ours is one of theirs, except that each tool result is a message of its own."""
    names: dict[str, str] = {}
    for message in messages:
        match message.role:
            case Role.TOOL:
                for part in message.parts:
                    if isinstance(part, ToolResult):
                        named = {"tool_name": names[part.call_id]} if part.call_id in names else {}
                        yield _showing(
                            {"role": "tool", "content": part.text, "tool_call_id": part.call_id, **named}, part.images
                        )
            case Role.ASSISTANT:
                names |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}
                yield _assistant(message)
            case Role.SYSTEM | Role.DEVELOPER:
                yield {"role": "system", "content": _content(message)}
            case Role.USER:
                yield _showing({"role": "user", "content": _content(message)}, message.images)


def _showing(written: JsonObject, images: tuple[Image, ...]) -> JsonObject:
    """A message with what is shown in it, which has its place beside the text."""
    return {**written, "images": [image.data for image in images]} if images else written


def _assistant(message: Message) -> JsonObject:
    written: JsonObject = {"role": "assistant", "content": _content(message)}
    if thinking := "".join(part.text for part in message.parts if isinstance(part, Reasoning)):
        written["thinking"] = thinking
    if calls := [_call(part) for part in message.parts if isinstance(part, ToolCall)]:
        written["tool_calls"] = calls
    return written


def _call(call: ToolCall) -> JsonObject:
    arguments = Raw(earlier_arguments(call.arguments).encode())
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _content(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, Text | Refusal))
