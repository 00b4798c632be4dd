"""The dialects as clients spell them: what the contract of all dialects (`test_contract`) is tested with.

A new dialect adds one `Format`, and has the whole suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from standpipe.chat.ask import (
    Image,
    JsonObject,
    Message,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.ollama.request import CHAT, GENERATE
from standpipe.dialects.openai.completions import LEGACY
from standpipe.dialects.openai.request import API, COMPLETIONS
from standpipe.dialects.openai.responses.request import OpenAIResponses

SCHEMA: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("get_weather", "Now.", SCHEMA)
NOOP = Tool("noop", None, {"type": "object"})
CONVERSATION = (
    Message(Role.SYSTEM, (Text("Be brief."),)),
    Message(Role.USER, (Text("What is the weather?"),)),
    Message(
        Role.ASSISTANT,
        (
            Reasoning("Hm."),
            Text("Looking."),
            ToolCall("call_1", "get_weather", '{"city":"Paris"}'),
            ToolCall("call_2", "noop", "{}"),
        ),
    ),
    Message(Role.TOOL, (ToolResult("call_1", "7 °C"), ToolResult("call_2", ""))),
    Message(Role.ASSISTANT, (Text("7 °C."),)),
    Message(Role.USER, (Text("Thanks!"),)),
)


class Format(NamedTuple):
    """One dialect.

    `hello` is the least request that asks "Hello!". `sampling` has every field that says how to sample, which means
    `sampled`. The functions spell what is ours, as fields of a request; None where there is no such thing in this
    format.
    """

    dialect: Any
    hello: JsonObject
    sampling: JsonObject
    sampled: Sampling
    said: Callable[[Sequence[Message]], JsonObject] | None = None
    tool: Callable[[Tool], JsonObject] | None = None
    other_tool: JsonObject | None = None
    choice: Callable[[ToolChoice], Any] | None = None
    schema: Callable[[JsonObject], JsonObject] | None = None

    def parse(self, **body: Any) -> Parsed:
        parsed: Parsed = self.dialect.parse(msgspec.json.encode({**self.hello, **body}))
        return parsed

    def tools(self, *tools: Tool) -> JsonObject:
        assert self.tool is not None
        return {"tools": [self.tool(tool) for tool in tools]}

    @property
    def whole(self) -> JsonObject:
        """A request with nearly everything."""
        body = {**self.hello, **self.sampling, "model": "gpt-oss", "stream": True}
        if self.said is not None:
            body |= self.said(CONVERSATION)
        if self.tool is not None:
            body |= self.tools(WEATHER, NOOP)
        if self.choice is not None:
            body["tool_choice"] = self.choice(ToolChoice(ToolMode.NAMED, "noop"))
        if self.schema is not None:
            body |= self.schema(SCHEMA)
        return body


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text))


def _shown(images: Sequence[Image], kind: str = "image_url", *, bare: bool = False) -> list[JsonObject]:
    """As OpenAI spells it: in Chat Completions the address stands in an object."""
    urls = [f"data:{image.media_type};base64,{image.data}" for image in images]
    return [{"type": kind, "image_url": url if bare else {"url": url, "detail": "auto"}} for url in urls]


# OpenAI -------------------------------------------------------------------------------------------------------------


def _chat(messages: Sequence[Message]) -> JsonObject:
    return {"messages": [one for message in messages for one in _chat_messages(message)]}


def _chat_messages(message: Message) -> list[JsonObject]:
    if message.role is Role.TOOL:
        return [
            {
                "role": "tool",
                "tool_call_id": part.call_id,
                "content": [{"type": "text", "text": part.text}, *_shown(part.images)] if part.images else part.text,
            }
            for part in message.parts
            if isinstance(part, ToolResult)
        ]
    content = [{"type": "text", "text": _text(message)}, *_shown(message.images)]
    written: JsonObject = {"role": message.role, "content": content}
    for part in message.parts:
        match part:
            case Reasoning(text):
                written["reasoning_content"] = text
            case ToolCall(call_id, name, arguments):
                function = {"name": name, "arguments": arguments}
                call = {"id": call_id, "type": "function", "function": function}
                written.setdefault("tool_calls", []).append(call)
    return [written]


def _chat_choice(choice: ToolChoice) -> Any:
    return choice.mode if choice.name is None else {"type": "function", "function": {"name": choice.name}}


def _function(tool: Tool) -> JsonObject:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": described}


_CHAT_SAMPLING: JsonObject = {
    "temperature": 2,
    "top_p": 0,
    "max_tokens": 10,
    "n": 1,
    "stop": ["a", "b"],
    "seed": -(2**63),
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 5,
}
_CHAT_SAMPLED = Sampling(
    temperature=2,
    top_p=0,
    max_tokens=10,
    stop=("a", "b"),
    seed=-(2**63),
    frequency_penalty=-2,
    presence_penalty=2,
    logit_bias={"50256": -100},
    logprobs=True,
    top_logprobs=5,
)


def _of_chat(dialect: Any) -> Format:
    return Format(
        dialect,
        {"messages": [{"role": "user", "content": "Hello!"}]},
        _CHAT_SAMPLING,
        _CHAT_SAMPLED,
        _chat,
        _function,
        {"type": "web_search"},
        _chat_choice,
        lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
    )


_LEGACY = Format(
    LEGACY,
    {"prompt": "Hello!"},
    {name: value for name, value in _CHAT_SAMPLING.items() if name != "top_logprobs"} | {"logprobs": 5},
    _CHAT_SAMPLED,
)


def _responses(messages: Sequence[Message]) -> JsonObject:
    items: list[JsonObject] = []
    for message in messages:
        if message.role is not Role.ASSISTANT and message.role is not Role.TOOL:
            seen = _shown(message.images, "input_image", bare=True)
            items.append({"role": message.role, "content": [{"type": "input_text", "text": _text(message)}, *seen]})
            continue
        for part in message.parts:
            match part:
                case Text(text):
                    said = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
                    items.append({"type": "message", "id": "msg_1", "role": "assistant", "content": said})
                case Reasoning(text):
                    thought = [{"type": "reasoning_text", "text": text}]
                    items.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": thought})
                case ToolCall(call_id, name, arguments):
                    call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
                    items.append(call)
                case ToolResult(call_id, text, _, images):
                    seen = _shown(images, "input_image", bare=True)
                    output = [{"type": "input_text", "text": text}, *seen] if seen else text
                    items.append({"type": "function_call_output", "call_id": call_id, "output": output})
    return {"input": items}


_RESPONSES = Format(
    OpenAIResponses(),
    {"input": "Hello!"},
    {
        "temperature": 2,
        "top_p": 0,
        "max_output_tokens": 10,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 5,
    },
    Sampling(temperature=2, top_p=0, max_tokens=10, logprobs=True, top_logprobs=5),
    _responses,
    lambda tool: {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    },
    {"type": "mcp", "server_label": "x"},
    lambda choice: choice.mode if choice.name is None else {"type": "function", "name": choice.name},
    lambda schema: {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}},
)


# Anthropic ----------------------------------------------------------------------------------------------------------


def _anthropic(messages: Sequence[Message]) -> JsonObject:
    written: list[JsonObject] = []
    system = [message for message in messages if message.role is Role.SYSTEM]
    for message in messages:
        blocks: list[JsonObject] = []
        for part in message.parts:
            match part:
                case Text(text):
                    blocks.append({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})
                case Reasoning(text, signature):
                    blocks.append({"type": "thinking", "thinking": text, "signature": signature})
                case ToolCall(call_id, name, arguments):
                    used = {"type": "tool_use", "id": call_id, "name": name, "input": msgspec.Raw(arguments.encode())}
                    blocks.append(used)
                case ToolResult(call_id, text, _, images):
                    content = [{"type": "text", "text": text}, *map(_block, images)] if images else text
                    blocks.append({"type": "tool_result", "tool_use_id": call_id, "content": content})
                case Image():
                    blocks.append(_block(part))
        if message.role is not Role.SYSTEM:
            written.append({"role": "assistant" if message.role is Role.ASSISTANT else "user", "content": blocks})
    return {"messages": written} | ({"system": _text(system[0])} if system else {})


def _block(image: Image) -> JsonObject:
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}


_ANTHROPIC_WORDS = {ToolMode.REQUIRED: "any", ToolMode.NAMED: "tool"}
_ANTHROPIC = Format(
    MESSAGES,
    {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 10},
    {"temperature": 1, "top_p": 0, "top_k": 40, "max_tokens": 10, "stop_sequences": ["a", "b"]},
    Sampling(temperature=1, top_p=0, top_k=40, max_tokens=10, stop=("a", "b"), tell_stop=True),
    _anthropic,
    lambda tool: {"name": tool.name, "description": tool.description, "input_schema": tool.parameters},
    {"type": "web_search_20250305", "name": "web_search"},
    lambda choice: {"type": _ANTHROPIC_WORDS.get(choice.mode, choice.mode), "name": choice.name},
    lambda schema: {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
)


# Ollama -------------------------------------------------------------------------------------------------------------


def _ollama(messages: Sequence[Message]) -> JsonObject:
    written: list[JsonObject] = []
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        written += [
            {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
            | ({"images": [image.data for image in part.images]} if part.images else {})
            for part in results
        ]
        if results:
            continue
        said: JsonObject = {"role": message.role, "content": _text(message)}
        if message.images:
            said["images"] = [image.data for image in message.images]
        for part in message.parts:
            match part:
                case Reasoning(text):
                    said["thinking"] = text
                case ToolCall(call_id, name, arguments):
                    function = {"name": name, "arguments": msgspec.Raw(arguments.encode())}
                    said.setdefault("tool_calls", []).append({"id": call_id, "function": function})
        written.append(said)
    return {"messages": written}


_OLLAMA_SAMPLING: JsonObject = {
    "options": {
        "temperature": 2,
        "top_p": 0,
        "top_k": 40.0,
        "min_p": 0.05,
        "seed": -1,
        "num_predict": 10.0,
        "stop": ["a", "b"],
        "repeat_penalty": 1.1,
        "presence_penalty": 2,
        "frequency_penalty": -2,
    },
    "logprobs": True,
    "top_logprobs": 5,
}
_OLLAMA_SAMPLED = Sampling(
    temperature=2,
    top_p=0,
    top_k=40,
    min_p=0.05,
    max_tokens=10,
    stop=("a", "b"),
    seed=-1,
    frequency_penalty=-2,
    presence_penalty=2,
    repeat_penalty=1.1,
    logprobs=True,
    top_logprobs=5,
)
_OLLAMA_CHAT = Format(
    CHAT,
    {"messages": [{"role": "user", "content": "Hello!"}]},
    _OLLAMA_SAMPLING,
    _OLLAMA_SAMPLED,
    _ollama,
    _function,
    {"type": "web_search"},
    None,
    lambda schema: {"format": schema},
)
_OLLAMA_GENERATE = Format(
    GENERATE, {"prompt": "Hello!"}, _OLLAMA_SAMPLING, _OLLAMA_SAMPLED, schema=lambda schema: {"format": schema}
)

FORMATS = (
    _of_chat(API),
    _of_chat(COMPLETIONS),
    _LEGACY,
    _RESPONSES,
    _ANTHROPIC,
    _OLLAMA_CHAT,
    _OLLAMA_GENERATE,
)
