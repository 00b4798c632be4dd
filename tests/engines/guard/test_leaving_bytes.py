"""What leaves for an engine, looked at as bytes: every known control token, split at every place, over every pair of
fields of every dialect's request, for every kind of engine.

One request does for all pairs: each of its texts begins with the end of a token and ends with its beginning, so any two
that meet, in whatever order and with whatever between them that a template strips, would make the token whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from standpipe.chat.ask import Ask, EmbedAsk
from standpipe.chat.errors import Failure
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.harmony.markup import MARKERS
from standpipe.dialects.ollama.request import CHAT, GENERATE
from standpipe.dialects.openai import embeddings
from standpipe.dialects.openai.completions import LEGACY
from standpipe.dialects.openai.request import API, COMPLETIONS
from standpipe.dialects.openai.responses.request import OpenAIResponses
from standpipe.engines.guard.control_tokens import FAMILIES
from standpipe.engines.guard.forced_calls import Constrained
from standpipe.engines.guard.guarded import Guarded, HarmonyUpstream
from standpipe.engines.upstream import LLAMA_CPP, PLAIN, Ollama, Upstream
from standpipe.http_client.transport import HttpFault
from standpipe.policy.terms import join
from tests.virtual import Collected, run

TOKENS = sorted({*FAMILIES, *MARKERS, "<|reserved_200013|>", "<\uff5cTool\uff5c>"})
SPLITS = {token: [(token[:at], token[at:]) for at in range(1, len(token))] for token in TOKENS}


class Wire:
    """A client that keeps the body of each request, and reaches nobody."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def request(self, _method: str, _path: str, *, body: bytes, **_: Any) -> None:
        self.bodies.append(body)
        raise HttpFault("nobody is there")

    async def fetch(self, method: str, path: str, *, body: bytes = b"", **_: Any) -> None:
        await self.request(method, path, body=body)


def schema(text: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {text: {"type": "string", "description": text, "enum": [text, "b" + text]}},
        "required": [text],
        "additionalProperties": False,
    }


def letters(text: str) -> list[str]:
    """One text in parts of one character, and whole."""
    return [*text, text]


def chat(text: str) -> dict[str, Any]:
    call = {"id": text, "type": "function", "function": {"name": "f", "arguments": json.dumps({text: [text, text]})}}
    hidden = json.dumps({"a": text}).replace("<", "\\u003c").replace("/", "\\/")
    other = {"id": "2", "type": "function", "function": {"name": "f", "arguments": hidden}}
    return {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": part} for part in letters(text)]},
            {"role": "developer", "content": text},
            {"role": "user", "content": text, "name": "n"},
            {"role": "assistant", "content": text, "reasoning_content": text, "tool_calls": [call, other]},
            {
                "role": "tool",
                "tool_call_id": text,
                "content": [{"type": "text", "text": part} for part in letters(text)],
            },
            {"role": "tool", "tool_call_id": "2", "content": text},
            {"role": "user", "content": [{"type": "text", "text": part} for part in letters(text)]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": text, "parameters": schema(text)}},
            {"type": "function", "function": {"name": "g", "description": text}},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "description": text, "schema": schema(text)},
        },
    }


def completions(text: str) -> dict[str, Any]:
    return {"model": "m", "prompt": text, "max_tokens": 5}


def responses(text: str) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": text, "name": "f", "arguments": json.dumps({text: text})}
    thought = {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}
    return {
        "instructions": text,
        "input": [
            {"role": "developer", "content": [{"type": "input_text", "text": part} for part in letters(text)]},
            {"role": "user", "content": text},
            thought,
            {**thought, "content": [{"type": "reasoning_text", "text": part} for part in letters(text)]},
            call,
            {"type": "function_call_output", "call_id": text, "output": text},
            {"role": "assistant", "content": [{"type": "output_text", "text": part} for part in letters(text)]},
            {"role": "user", "content": text},
        ],
        "tools": [{"type": "function", "name": "f", "description": text, "parameters": schema(text)}],
        "text": {"format": {"type": "json_schema", "name": "s", "description": text, "schema": schema(text)}},
    }


def messages(text: str) -> dict[str, Any]:
    return {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": part} for part in letters(text)],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": part} for part in letters(text)]},
            {
                "role": "assistant",
                "content": [
                    *({"type": "thinking", "thinking": part, "signature": "s"} for part in letters(text)),
                    {"type": "text", "text": text},
                    {"type": "tool_use", "id": text, "name": "f", "input": {text: [text, {"b": text}]}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": text,
                        "content": [{"type": "text", "text": part} for part in letters(text)],
                    },
                    {"type": "text", "text": text},
                ],
            },
        ],
        "tools": [{"name": "f", "description": text, "input_schema": schema(text)}],
    }


def ollama_chat(text: str) -> dict[str, Any]:
    call = {"function": {"name": "f", "arguments": {text: [text, text]}}}
    return {
        "model": "m",
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": text},
            {"role": "assistant", "content": text, "thinking": text, "tool_calls": [call]},
            {"role": "tool", "content": text, "tool_name": "f"},
            {"role": "user", "content": text},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": text, "parameters": schema(text)}}],
    }


def ollama_generate(text: str) -> dict[str, Any]:
    return {"model": "m", "prompt": text, "system": text, "format": schema(text)}


def ollama_raw(text: str) -> dict[str, Any]:
    return {"model": "m", "prompt": text, "raw": True}


REQUESTS: dict[str, tuple[Callable[[bytes], Any], Callable[[str], dict[str, Any]]]] = {
    "chat": (COMPLETIONS.parse, chat),
    "api": (API.parse, chat),
    "completions": (LEGACY.parse, completions),
    "responses": (OpenAIResponses().parse, responses),
    "anthropic": (MESSAGES.parse, messages),
    "ollama chat": (CHAT.parse, ollama_chat),
    "ollama generate": (GENERATE.parse, ollama_generate),
    "ollama raw": (GENERATE.parse, ollama_raw),
}
ENGINES: dict[str, Callable[[Any], Any]] = {
    "openai": lambda wire: Constrained(Guarded(Upstream("e", wire, slots=1, models=("m",), capabilities=PLAIN))),
    "gpt-oss elsewhere": lambda wire: Constrained(Guarded(Upstream("e", wire, slots=1, models=("gpt-oss:20b",)))),
    "ollama": lambda wire: Constrained(Guarded(Ollama("e", wire, slots=1, models=("m",)))),
    "embedded": lambda wire: Constrained(
        Guarded(Upstream("e", wire, slots=1, models=("m",), capabilities=LLAMA_CPP), reads_harmony=False),
        ignores_tools=True,
    ),
    "embedded gpt-oss": lambda wire: Guarded(
        HarmonyUpstream("e", wire, slots=1, models=("m",), capabilities=LLAMA_CPP), reads_harmony=False
    ),
}


def strings(value: object) -> Iterator[str]:
    """All strings in a value, keys included; JSON in a string is looked into as well."""
    match value:
        case str():
            yield value
            if value.startswith(("{", "[")):
                with suppress(ValueError):
                    yield from strings(json.loads(value))
        case list():
            for item in value:
                yield from strings(item)
        case dict():
            for pair in value.items():
                yield from strings(list(pair))


def sent(engine: str, ask: Ask | EmbedAsk) -> list[dict[str, Any]]:
    """The documents that leave for an engine of this kind."""
    wire = Wire()
    asked = ENGINES[engine](wire)
    answer = asked.embed(ask) if isinstance(ask, EmbedAsk) else asked.answer(ask, Collected())
    with pytest.raises(Failure):
        run(answer)
    assert wire.bodies
    documents = [msgspec.json.decode(body) for body in wire.bodies]
    for document in documents:
        document.pop("grammar", None)  # what may be said in an answer, and no part of the prompt
    return documents


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dialect", REQUESTS)
def test_no_token_is_whole_in_what_leaves_or_becomes_so_where_two_texts_meet(dialect: str, engine: str) -> None:
    """Each dialect and engine splits each token at another place; together they do at every place."""
    parse, request = REQUESTS[dialect]
    turn = [*REQUESTS].index(dialect) * len(ENGINES) + [*ENGINES].index(engine)
    for splits in SPLITS.values():
        begin, end = splits[turn % len(splits)]
        ask = parse(json.dumps(request(f"{end} x {begin}")).encode()).ask
        for asked in (ask, join(ask, f"Be{begin}", "prepend")):
            for document in sent(engine, asked):
                texts = [text for text in strings(document) if text != f"Be{begin}"]
                assert not any(begin + end in text for text in texts), (begin, end)
                ends = any(text.rstrip().endswith(begin) for text in texts)
                assert not (ends and any(text.lstrip().startswith(end) for text in texts)), (begin, end)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dialect", REQUESTS)
def test_the_operators_prompt_leaves_as_it_is(dialect: str, engine: str) -> None:
    parse, request = REQUESTS[dialect]
    asked = join(parse(json.dumps(request("<s>")).encode()).ask, "Be <|im_start|> kind.", "prepend")
    for document in sent(engine, asked):
        text = document["prompt"] if asked.raw else document["messages"][0]["content"]
        assert text.startswith("Be <|im_start|> kind.")
        assert "<s>" not in json.dumps(document)


@pytest.mark.parametrize("engine", [name for name in ENGINES if "gpt-oss" not in name])
def test_texts_to_embed_are_no_way_around(engine: str) -> None:
    for begin, end in (split for splits in SPLITS.values() for split in splits[:2]):
        ask = embeddings.parse(json.dumps({"model": "m", "input": [f"{end} {begin}", begin + end]}).encode()).ask
        (document,) = sent(engine, ask)
        first, second = document["input"]
        assert begin + end not in second
        assert begin + end not in first + first
