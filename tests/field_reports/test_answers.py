"""Bytes from an engine to bytes to each client: what was reported is read as it was meant, by every client."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from standpipe.chat.ask import Ask, Sampling
from standpipe.chat.errors import Failure
from standpipe.chat.events import Answer, AnswerBuilder, Event, EventOrder, Failed, FinishReason
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.framing import NdjsonFrames, SseFrames
from standpipe.dialects.ollama.from_engine import Decoder as OllamaDecoder
from standpipe.dialects.ollama.request import CHAT, GENERATE
from standpipe.dialects.openai.completions import LEGACY
from standpipe.dialects.openai.faults import failure_in_stream
from standpipe.dialects.openai.from_engine import Decoder as OpenAIDecoder
from standpipe.dialects.openai.request import API, COMPLETIONS
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tests.field_reports.cases import CALLS, FILTER, LENGTH, OLLAMA, OPENAI, STOP, Case, Meant

META = ResponseMeta("7Yd2k", 1_700_000_000, "m")
OPENAI_ENGINE = partial(OpenAIDecoder, "m")
OLLAMA_ENGINE = partial(OllamaDecoder, "m", failure_in_stream)
ROWS = [
    pytest.param(engine, case, id=f"{name}: {case.reported}")
    for name, engine, cases in (("OpenAI", OPENAI_ENGINE, OPENAI), ("Ollama", OLLAMA_ENGINE, OLLAMA))
    for case in cases
]


def read(engine: Callable[..., Any], case: Case, *pieces: bytes) -> tuple[list[Event], frozenset[str]]:
    """What an engine's codec makes of the bytes, in these pieces."""
    odd: set[str] = set()
    decoder, events = engine(sampling=case.sampling, odd=odd.add), list[Event]()
    for piece in pieces:
        events += decoder.feed(piece)
        if decoder.done:
            break
    else:
        events += decoder.end()
    order = EventOrder()
    for event in events:
        order.advance(event)
    return events, frozenset(odd)


def whole(events: list[Event]) -> Answer:
    builder = AnswerBuilder()
    builder.add(events)
    assert builder.answer is not None
    return builder.answer


def meant(answer: Answer, odd: frozenset[str]) -> Meant:
    calls = tuple((call.name, call.arguments) for call in answer.tool_calls)
    return Meant(answer.text, answer.reason, calls, answer.reasoning, answer.usage, answer.stop, answer.logprobs, odd)


@pytest.mark.parametrize(("engine", "case"), ROWS)
def test_an_engine_is_understood_however_its_bytes_are_cut(engine, case):
    for pieces in ([case.sent], [case.sent[i : i + 1] for i in range(len(case.sent))]):
        if isinstance(case.meant, Meant):
            events, odd = read(engine, case, *pieces)
            assert meant(whole(events), odd if case.meant.odd else frozenset()) == case.meant
        else:
            with pytest.raises(case.meant) as caught:
                read(engine, case, *pieces)
            assert type(caught.value) is case.meant


# What clients read: text, why it ended, and calls, in the words of their format. -------------------------------------

Read = tuple[str, Any, list[tuple[str, Any]]]


def from_chat(body: bytes) -> Read:
    (choice,) = json.loads(body)["choices"]
    message = choice["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    return message["content"] or "", choice["finish_reason"], calls


def from_chunks(stream: bytes) -> Read:
    *frames, done = SseFrames().feed(stream)
    assert done == b"[DONE]"
    choices = [json.loads(frame)["choices"][0] for frame in frames]
    assert choices[0]["delta"]["role"] == "assistant"
    calls: dict[int, list[str]] = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls", ()):
            got = calls.setdefault(call["index"], [call["function"].get("name", ""), ""])
            got[1] += call["function"]["arguments"]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, choices[-1]["finish_reason"], [(name, arguments) for name, arguments in calls.values()]


def from_completion(body: bytes) -> Read:
    (choice,) = json.loads(body)["choices"]
    return choice["text"], choice["finish_reason"], []


def from_completion_chunks(stream: bytes) -> Read:
    *frames, _ = SseFrames().feed(stream)
    choices = [json.loads(frame)["choices"][0] for frame in frames]
    return "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"], []


def from_response(body: bytes | dict[str, Any]) -> Read:
    response = body if isinstance(body, dict) else json.loads(body)
    said = [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]
    calls = [(item["name"], item["arguments"]) for item in response["output"] if item["type"] == "function_call"]
    return "".join(said), (response["status"], response["incomplete_details"]), calls


def from_response_events(stream: bytes) -> Read:
    return from_response(json.loads(SseFrames().feed(stream)[-1])["response"])


def from_message(body: bytes) -> Read:
    message = json.loads(body)
    said = [block["text"] for block in message["content"] if block["type"] == "text"]
    calls = [(block["name"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]
    return "".join(said), (message["stop_reason"], message["stop_sequence"]), calls


def from_blocks(stream: bytes) -> Read:
    events = [json.loads(frame) for frame in SseFrames().feed(stream)]
    assert events[0]["type"] == "message_start"
    said, calls = "", list[list[str]]()
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls.append([event["content_block"]["name"], ""])
        elif event["type"] == "content_block_delta":
            said += event["delta"].get("text", "")
            if "partial_json" in event["delta"]:
                calls[-1][1] += event["delta"]["partial_json"]
    ending = events[-2]["delta"]
    ended = (ending["stop_reason"], ending["stop_sequence"])
    return said, ended, [(name, json.loads(arguments or "{}")) for name, arguments in calls]


def from_ollama(body: bytes, *, chat: bool) -> Read:
    answers = [json.loads(line) for line in NdjsonFrames().feed(body.rstrip(b"\n") + b"\n")]
    assert answers[-1]["done"] is True
    messages = [answer["message"] if chat else answer for answer in answers]
    said = "".join(message["content" if chat else "response"] for message in messages)
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    return said, answers[-1]["done_reason"], [(call["name"], call["arguments"]) for call in calls]


def words(stop: Any, length: Any, calls: Any, filtered: Any) -> dict[FinishReason, Any]:
    return {STOP: stop, LENGTH: length, CALLS: calls, FILTER: filtered}


INCOMPLETE = [("incomplete", {"reason": reason}) for reason in ("max_output_tokens", "content_filter")]
RESPONDED = words(("completed", None), INCOMPLETE[0], ("completed", None), INCOMPLETE[1])
PLAIN = words("stop", "length", "tool_calls", "content_filter")
WITHOUT_CALLS = PLAIN | {CALLS: "stop"}
ANTHROPIC = words("end_turn", "max_tokens", "tool_use", "refusal")
CLIENTS: list[tuple[Dialect, Callable[[bytes], Read], Callable[[bytes], Read], dict[FinishReason, Any]]] = [
    (API, from_chat, from_chunks, PLAIN),
    (COMPLETIONS, from_chat, from_chunks, PLAIN),
    (LEGACY, from_completion, from_completion_chunks, WITHOUT_CALLS),
    (OpenAIResponses(), from_response, from_response_events, RESPONDED),
    (MESSAGES, from_message, from_blocks, ANTHROPIC),
    (CHAT, partial(from_ollama, chat=True), partial(from_ollama, chat=True), WITHOUT_CALLS),
    (GENERATE, partial(from_ollama, chat=False), partial(from_ollama, chat=False), WITHOUT_CALLS),
]
BODIES: dict[str, dict[str, Any]] = {
    "openai_completions": {"prompt": "x"}, "openai_responses": {"input": "x"}, "ollama_generate": {"prompt": "x"},
}  # fmt: skip


def asked(dialect: Dialect, sampling: Sampling) -> Parsed:
    body = BODIES.get(dialect.name, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9})
    parsed = dialect.parse(json.dumps(body).encode())
    return Parsed(Ask(parsed.ask.messages, sampling=sampling), stream=True, echo=parsed.echo)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client[0].name)
@pytest.mark.parametrize(("engine", "case"), ROWS)
def test_every_client_reads_what_was_meant(engine, case, client):
    dialect, read_whole, read_stream, reasons = client
    parsed = asked(dialect, case.sampling)
    if not isinstance(case.meant, Meant):
        refused(engine, case, dialect, parsed)
        return
    events, _ = read(engine, case, case.sent)
    encoder = dialect.encoder(parsed, META)
    stream = b"".join(encoder.encode([event]) for event in events)
    text, reason, calls, _, _, stop, _, _ = case.meant
    ended = reasons[reason]
    if dialect is MESSAGES:
        ended = (ended, None) if stop is None else ("stop_sequence", stop)
        calls = tuple((name, json.loads(arguments or "{}")) for name, arguments in calls)
    elif dialect is CHAT:
        calls = tuple((name, json.loads(arguments)) for name, arguments in calls if arguments)
    elif reasons is WITHOUT_CALLS:
        calls = ()
    for got in (read_whole(dialect.answer(parsed, META, whole(events))), read_stream(stream)):
        assert got[:2] == (text, ended)
        assert got[2] == list(calls) or dialect is GENERATE


def refused(engine: Callable[..., Any], case: Case, dialect: Dialect, parsed: Parsed) -> None:
    """A failure is one in every format, whole and streamed, without a word of the engine's."""
    with pytest.raises(Failure) as caught:
        read(engine, case, case.sent)
    body = dialect.failure(caught.value, "r")
    assert "error" in json.loads(body)
    stream = dialect.encoder(parsed, META).encode([Failed(caught.value)])
    assert b"error" in stream
    assert b"gone" not in body + stream
