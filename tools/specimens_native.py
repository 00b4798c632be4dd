"""What the page of compatibility is made from, for Anthropic's and Ollama's formats."""

from __future__ import annotations

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from ollama._types import ChatRequest, GenerateRequest

from standpipe.dialects.anthropic import request as anthropic
from standpipe.dialects.anthropic import wire as anthropic_wire
from standpipe.dialects.ollama import request as ollama
from standpipe.dialects.ollama import wire as ollama_wire
from tools.specimens import ANY_MODEL, HELLO, PNG, SCHEMA, SEEN, Section, parse

_THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "unsigned"}
_USED = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {}}
_SHOWN = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
_CUSTOM = {"type": "custom", "name": "get_weather", "description": "Now.", "input_schema": SCHEMA, "strict": True}

ANTHROPIC = Section(
    path="POST /v1/messages",
    title="Anthropic Messages",
    about="`POST /v1/messages/count_tokens` takes the same fields without `max_tokens`, and returns an estimate.",
    parse=parse(anthropic.MESSAGES),
    struct=anthropic_wire.Request,
    published=(MessageCreateParamsNonStreaming, MessageCreateParamsStreaming),
    specimens=(
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
                {"role": "assistant", "content": [_THOUGHT, {"type": "redacted_thinking", "data": "eA=="}, _USED]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "call_1",
                            "content": [{"type": "text", "text": "Sunny."}, _SHOWN],
                            "is_error": False,
                        },
                        {"type": "text", "text": "Well?"},
                        _SHOWN,
                    ],
                },
            ],
            "max_tokens": 100,
            "model": "gpt-oss:latest",
            "system": [{"type": "text", "text": "Be brief."}],
            "stream": True,
            "temperature": 1,
            "top_p": 1,
            "top_k": 40,
            "stop_sequences": ["END"],
            "tools": [_CUSTOM],
            "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        },
        *(
            {"messages": HELLO, "max_tokens": 1, "tools": [_CUSTOM], "tool_choice": {"type": choice}}
            for choice in ("auto", "any", "none")
        ),
        {
            "messages": HELLO,
            "max_tokens": 1,
            "tools": [
                {"type": "bash_20250124", "name": "bash"},
                {"type": "text_editor_20250124", "name": "str_replace_editor"},
                {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
                {"type": "memory_20250818", "name": "memory"},
            ],
        },
        {
            "messages": HELLO,
            "max_tokens": 1,
            "tools": [{"type": "text_editor_20250429", "name": "str_replace_based_edit_tool"}],
        },
        *(
            {"messages": HELLO, "max_tokens": 1, "thinking": {"type": kind}}
            for kind in ("adaptive", "disabled", "between_tools")
        ),
    ),
    notes={
        "messages": "turns of the same role in a row are one turn",
        "messages[].content[].source": SEEN,
        "model": ANY_MODEL,
        "thinking": "without it no thinking is told",
        "thinking.budget_tokens": "chooses an effort, unless `output_config.effort` does",
        "output_config.effort": "`xhigh` and `max` mean `high`",
    },
    more=anthropic.MESSAGES.reader.ignored | anthropic.MESSAGES.reader.refused.keys(),
)

_OPTIONS = {
    "temperature": 1,
    "top_p": 1,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 1,
    "num_predict": 100,
    "stop": ["END"],
    "repeat_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
}
_OLLAMA = {
    "model": "gpt-oss:latest",
    "stream": True,
    "think": True,
    "format": SCHEMA,
    "options": _OPTIONS,
    "keep_alive": "5m",
    "logprobs": True,
    "top_logprobs": 2,
}
_OLLAMA_NOTES = {
    "model": ANY_MODEL,
    "stream": "true unless said otherwise",
    **{f"options.{name}": f"the nearest between {low} and {high}" for name, (low, high) in ollama.NEAREST.items()},
    "options.num_predict": "less than 1 is no limit of its own",
    "think": "`max` means `high`",
    "keep_alive": "0 unloads the model in name, where nothing is asked; else it changes nothing",
}

OLLAMA_CHAT = Section(
    path="POST /api/chat",
    title="Ollama chat",
    about="A request without messages is answered at once. Most `options` would make an engine reload its model.",
    parse=parse(ollama.CHAT),
    struct=ollama_wire.ChatRequest,
    published=(ChatRequest,),
    specimens=(
        {
            **_OLLAMA,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is the weather?", "images": [PNG]},
                {
                    "role": "assistant",
                    "content": "Well.",
                    "thinking": "Hm.",
                    "tool_calls": [{"id": "call_1", "function": {"name": "get_weather", "arguments": {}}}],
                },
                {"role": "tool", "content": "Sunny.", "tool_name": "get_weather", "tool_call_id": "call_1"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "get_weather", "description": "Now.", "parameters": SCHEMA},
                }
            ],
        },
        {"messages": HELLO, "think": "low", "format": "json", "options": {"stop": "END"}},
    ),
    notes={
        **_OLLAMA_NOTES,
        "messages[].images": SEEN,
        "messages[].tool_call_id": "else `tool_name`, else the order tells which call was answered",
    },
    more=ollama.IGNORED,
)

OLLAMA_GENERATE = Section(
    path="POST /api/generate",
    title="Ollama generate",
    about="One question, without a conversation. A request without a prompt is answered at once.",
    parse=parse(ollama.GENERATE),
    struct=ollama_wire.GenerateRequest,
    published=(GenerateRequest,),
    specimens=(
        {**_OLLAMA, "prompt": "Hello!", "system": "Be brief.", "images": [PNG]},
        {"prompt": "Hello!", "think": "low", "format": "json", "options": {"stop": "END"}},
        {"prompt": "Once upon", "raw": True},
    ),
    notes={
        **_OLLAMA_NOTES,
        "images": SEEN,
        "raw": "the prompt is continued without a chat template where the engine can; if not, `x-standpipe-dropped` "
        "names `raw`. Control tokens in it are text",
    },
    more=ollama.IGNORED,
)
