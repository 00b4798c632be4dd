"""What the page of compatibility is made from: for each of OpenAI's formats, requests that hold everything it supports.

The specimens are whole requests, written by hand; what they lack, `fields` finds out. A note is here only where the
dialect says nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from openai.types import completion_create_params as legacy_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses import response_create_params as responses_params

from standpipe.dialects.dialect import Dialect
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import embeddings as openai_embeddings
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai import wire as openai_wire
from standpipe.dialects.openai.responses import request as openai_responses
from standpipe.dialects.openai.responses import wire as openai_responses_wire
from tools.fields import Parse, Row, Table

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
HELLO = [{"role": "user", "content": "Hello!"}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAD0lEQVR42mNgGAWjgHwAAAJAAAHgTR1EAAAAAElFTkSuQmCC"
URL = f"data:image/png;base64,{PNG}"
SEEN = "a PNG, JPEG, GIF or WebP in base64, where the model sees images; a 400 otherwise"
ANY_MODEL = "a name that no engine lists is served by the default model"


class Section(NamedTuple):
    """A dialect's path, what is said of it as a whole, what its table is made from, and what is to be
    said of single fields beyond what the dialect says itself."""

    path: str
    title: str
    about: str
    parse: Parse
    struct: type[Struct]
    published: Sequence[Any]
    specimens: Sequence[dict[str, Any]]
    notes: Mapping[str, str]
    more: Collection[str] = ()
    """Fields beyond the published ones."""

    def rows(self) -> list[Row]:
        """The table. Raises ValueError for a note on a field that there is not."""
        rows = Table(self.parse, self.struct, self.published, self.specimens, self.more).rows()
        if unknown := self.notes.keys() - {row.field for row in rows}:
            raise ValueError(f"notes on fields that are not in the table: {unknown}")
        return [self._noted(row) for row in rows]

    def _noted(self, row: Row) -> Row:
        if row.kinds or row.field not in self.notes:
            return row
        return row._replace(note="; ".join(filter(None, (row.note, self.notes[row.field]))))


def parse(dialect: Dialect) -> Parse:
    """A dialect as a table asks it."""
    return lambda body: dialect.parse(body).dropped


def _flavours() -> str:
    """What differs between the two paths that take a chat."""
    ours = openai_chat.API.parse(msgspec.json.encode({"messages": HELLO}))
    sampling = ours.ask.sampling
    return (
        "`POST /api` takes the same fields, with other defaults: "
        f"`stream` {str(ours.stream).lower()}, `temperature` {sampling.temperature}, `top_p` {sampling.top_p}."
    )


_CALLED = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
_FUNCTION = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Now.", "parameters": SCHEMA, "strict": True},
}

CHAT = Section(
    path="POST /v1/chat/completions",
    title="OpenAI Chat Completions",
    about=_flavours(),
    parse=parse(openai_chat.COMPLETIONS),
    struct=openai_wire.Request,
    published=(chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming),
    specimens=(
        {
            "messages": [
                {"role": "system", "content": "Be brief.", "name": "operator"},
                {"role": "developer", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "No."}],
                    "refusal": "No.",
                    "reasoning": "Hm.",
                    "reasoning_content": "Hm.",
                    "thinking": "Hm.",
                    "tool_calls": [_CALLED],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
                {"role": "assistant", "function_call": {"name": "get_weather", "arguments": "{}"}},
                {"role": "function", "name": "get_weather", "content": "Sunny."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Thanks!"}, {"type": "image_url", "image_url": {"url": URL}}],
                },
            ],
            "model": "gpt-oss:latest",
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 1,
            "top_p": 1,
            "max_tokens": 100,
            "max_completion_tokens": 100,
            "n": 2,
            "stop": ["END"],
            "seed": 1,
            "frequency_penalty": 0.5,
            "presence_penalty": 0.5,
            "logit_bias": {"50256": -100},
            "logprobs": True,
            "top_logprobs": 2,
            "tools": [_FUNCTION],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
            "parallel_tool_calls": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "place", "description": "Where.", "schema": SCHEMA, "strict": True},
            },
            "reasoning_effort": "low",
            "modalities": ["text"],
        },
        {"messages": HELLO, "stop": "END", "tools": [_FUNCTION], "tool_choice": "auto"},
        {"messages": HELLO, "response_format": {"type": "json_object", "schema": SCHEMA}},
        {"messages": HELLO, "response_format": {"type": "text"}},
    ),
    notes={
        "messages[].content[].image_url": SEEN,
        "messages[].reasoning": "accepted back under each of the names that engines give it",
        "messages[].reasoning_content": "as `reasoning`",
        "messages[].thinking": "as `reasoning`",
        "model": ANY_MODEL,
        "max_completion_tokens": "counts more than `max_tokens`",
        "n": "each answer is charged as a request",
        "reasoning_effort": "`xhigh` and `max` mean `high`",
    },
)

_DECLARED = {"type": "function", "name": "get_weather", "description": "Now.", "parameters": SCHEMA, "strict": True}

_GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}

_CLIENT_SIDE = (
    {"type": "custom", "name": "edit", "description": "Edits files.", "format": _GRAMMAR},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "namespace", "name": "weather", "description": "Of all.", "tools": [_DECLARED]},
)

RESPONSES = Section(
    path="POST /v1/responses",
    title="OpenAI Responses",
    about="If the operator stores none (`keep_responses` is 0, the default), `store` is answered with false and "
    "`previous_response_id` is refused. An `item_reference` works for `hold_answers` seconds after its last use, "
    "unless `store` was false; later it is a note in the past of a conversation. Items of tools that ran elsewhere are "
    "passed over there.",
    parse=parse(openai_responses.OpenAIResponses(keeps=True)),
    struct=openai_responses_wire.Request,
    published=(
        responses_params.ResponseCreateParamsNonStreaming,
        responses_params.ResponseCreateParamsStreaming,
    ),
    specimens=(
        {
            "input": [
                {"type": "message", "role": "developer", "content": "Be brief."},
                {"type": "message", "role": "system", "content": "Be kind."},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "The weather?"}]},
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "They want the weather."}],
                    "content": [{"type": "reasoning_text", "text": "Hm."}],
                },
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [
                        {"type": "output_text", "text": "Well.", "annotations": []},
                        {"type": "refusal", "refusal": "No."},
                    ],
                },
                {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."},
                {
                    "type": "function_call_output",
                    "call_id": "call_2",
                    "output": [{"type": "input_text", "text": "Sunny."}],
                },
                {
                    "type": "function_call",
                    "id": "fc_1",
                    "call_id": "call_3",
                    "namespace": "weather",
                    "name": "get",
                    "arguments": "{}",
                },
                {"type": "custom_tool_call", "call_id": "call_4", "name": "apply_patch", "input": "*** Begin Patch"},
                {"type": "custom_tool_call_output", "call_id": "call_4", "output": "Done."},
                {
                    "type": "local_shell_call",
                    "id": "lsh_1",
                    "call_id": "call_5",
                    "status": "completed",
                    "action": {"type": "exec", "command": ["ls"], "env": {}},
                },
                {"type": "local_shell_call_output", "id": "call_5", "output": "{}"},
                {
                    "type": "apply_patch_call",
                    "call_id": "call_6",
                    "status": "completed",
                    "operation": {"type": "delete_file", "path": "a.py"},
                },
                {"type": "apply_patch_call_output", "call_id": "call_6", "status": "completed", "output": "Done."},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Thanks!"},
                        {"type": "input_image", "image_url": URL, "detail": "auto"},
                    ],
                },
            ],
            "instructions": "Be brief.",
            "model": "gpt-oss:latest",
            "stream": True,
            "store": True,
            "previous_response_id": "resp_1",
            "background": False,
            "frequency_penalty": 0.5,
            "presence_penalty": 0.5,
            "include": ["message.output_text.logprobs"],
            "max_output_tokens": 100,
            "metadata": {"purpose": "test"},
            "parallel_tool_calls": True,
            "reasoning": {"effort": "low"},
            "temperature": 1,
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "place",
                    "description": "Where.",
                    "schema": SCHEMA,
                    "strict": True,
                }
            },
            "tool_choice": {"type": "function", "name": "get_weather"},
            "tools": [_DECLARED, *_CLIENT_SIDE],
            "top_logprobs": 2,
            "top_p": 1,
            "truncation": "auto",
        },
        {
            "input": "Hello!",
            "text": {"format": {"type": "json_object"}},
            "tools": [_DECLARED],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
        },
        {"input": "Hello!", "text": {"format": {"type": "text"}}, "tool_choice": "auto"},
        {
            "input": [
                {"role": "user", "content": "Hello!"},
                {"type": "additional_tools", "role": "developer", "tools": [_DECLARED, *_CLIENT_SIDE]},
            ],
        },
    ),
    notes={
        "input[].content[].image_url": SEEN,
        "input[].summary": "read where `content` is empty",
        "input[].tools": "of `additional_tools`",
        "tools[].environment": "of a `shell`: `local`, where the client runs the commands",
        "tools[].format": "told to the model; nobody holds it to that",
        "tools[].tools": "of a `namespace`",
        "model": ANY_MODEL,
        "previous_response_id": "where responses are kept",
        "store": "where responses are kept",
        "include": "what concerns tools of OpenAI's own adds nothing",
        "reasoning.effort": "`xhigh` and `max` mean `high`",
        "truncation": "nothing is ever cut: the answer says `disabled`",
    },
    more=("frequency_penalty", "presence_penalty"),
)

LEGACY = Section(
    path="POST /v1/completions",
    title="OpenAI Completions (legacy)",
    about="The model continues the prompt, without a chat template. Where an engine has no path for that, it answers "
    "it like a user's message, and `x-standpipe-dropped` names `raw`. Control tokens in the prompt are text: a chat "
    "template written by hand has no effect.",
    parse=parse(openai_completions.LEGACY),
    struct=openai_completions.Request,
    published=(
        legacy_params.CompletionCreateParamsNonStreaming,
        legacy_params.CompletionCreateParamsStreaming,
    ),
    specimens=(
        {
            "prompt": ["Once upon a time"],
            "logprobs": 2,
            "best_of": 2,
            "echo": False,
            "model": "gpt-oss:latest",
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 1,
            "top_p": 1,
            "max_tokens": 100,
            "n": 2,
            "stop": ["END"],
            "seed": 1,
            "frequency_penalty": 0.5,
            "presence_penalty": 0.5,
            "logit_bias": {"50256": -100},
        },
        {"prompt": ["Once upon a time", "In the beginning"], "echo": True, "stop": "END"},
    ),
    notes={
        "model": ANY_MODEL,
        "n": "each answer is charged as a request",
        "max_tokens": "without it, the operator's limit holds, not 16",
    },
)

EMBEDDINGS = Section(
    path="POST /v1/embeddings",
    title="OpenAI Embeddings",
    about="If an engine supports them; otherwise a 400 that says so.",
    parse=lambda body: openai_embeddings.parse(body).dropped,
    struct=openai_embeddings.Request,
    published=(EmbeddingCreateParams,),
    specimens=(
        {"input": ["Hello!"], "model": "embedder", "dimensions": 256, "encoding_format": "base64"},
        {"input": "Hello!"},
    ),
    notes={},
)
