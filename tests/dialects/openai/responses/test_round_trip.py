"""Whatever legal events come, the stream of a response keeps its grammar, and loses nothing that was said."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from standpipe.chat.ask import Image, Message, Part, Reasoning, Refusal, Role, Text, ToolCall
from standpipe.chat.events import (
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from standpipe.dialects.dialect import ResponseMeta
from standpipe.dialects.openai.responses.kept import (
    Answered,
    Turn,
    asked_now,
    marked,
    pack,
    pack_items,
    place_of,
    unpack,
    unpack_item,
)
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tests import openai_schema
from tests.streams import legal_streams

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
DIALECT = OpenAIResponses(keeps=True)
ASKED = DIALECT.parse(b'{"input":"Hello!","instructions":"Be brief.","store":false}')


def written(batches: list[list[Event]]) -> bytes:
    encoder = DIALECT.encoder(ASKED, META)
    return b"".join(encoder.encode(batch) for batch in batches)


class Listener:
    """Builds the output from the events alone, as clients do, and holds them against the grammar."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.open: set[int] = set()
        self.parts: set[tuple[int, int]] = set()
        self.state = "new"

    def hear(self, event: dict[str, Any]) -> None:
        kind = event["type"].removeprefix("response.")
        assert self.state != "closed"
        if "response" in event:
            self._hear_response(kind, event["response"])
        else:
            assert self.state == "in_progress"
            self._hear_item(kind, event)

    def _hear_response(self, kind: str, response: dict[str, Any]) -> None:
        assert (kind == "created") == (self.state == "new")
        if kind in {"queued", "in_progress"}:
            assert response["status"] == kind
            assert self.items == []
        self.state = response["status"]
        if kind in {"completed", "incomplete", "failed"}:
            self.state = "closed"
            self.final = response
            if kind != "failed":
                assert not self.open
                assert not self.parts

    def _hear_item(self, kind: str, event: dict[str, Any]) -> None:
        index = event["output_index"]
        if kind == "output_item.added":
            assert index == len(self.items)
            self.items.append(event["item"])
            self.open.add(index)
            return
        assert index in self.open
        item = self.items[index]
        assert event.get("item_id", item["id"]) == item["id"]
        if kind == "output_item.done":
            assert event["item"] == {**item, "status": event["item"]["status"]}
            self.open.remove(index)
            self.items[index] = event["item"]
        elif kind.startswith("function_call_arguments"):
            if kind.endswith("delta"):
                item["arguments"] += event["delta"]
            assert event.get("arguments", item["arguments"]) == item["arguments"]
        else:
            self._hear_part(kind, event, item)

    def _hear_part(self, kind: str, event: dict[str, Any], item: dict[str, Any]) -> None:
        place = (event["output_index"], event["content_index"])
        if kind == "content_part.added":
            assert event["content_index"] == len(item["content"])
            item["content"].append(event["part"])
            self.parts.add(place)
            return
        assert place in self.parts
        part = item["content"][event["content_index"]]
        if kind == "content_part.done":
            assert event["part"] == part
            self.parts.remove(place)
            return
        name, _, step = kind.partition(".")
        assert part["type"] == name
        field = "refusal" if name == "refusal" else "text"
        if step == "delta":
            part[field] += event["delta"]
            if "logprobs" in part:
                part["logprobs"] += event["logprobs"]
        else:
            assert event[field] == part[field]


@settings(deadline=None)
@given(legal_streams())
def test_every_stream_keeps_the_grammar_and_its_deltas_add_up_to_its_end(events):
    listener = Listener()
    stream = openai_schema.decoded(written([events]))
    for number, event in enumerate(stream):
        assert event["sequence_number"] == number
        listener.hear(event)
    assert listener.state == "closed"
    assert (listener.final["status"] == "failed") == isinstance(events[-1], Failed)
    heard = [{**item, "status": None} for item in listener.items]
    assert heard == [{**item, "status": None} for item in listener.final["output"]]


@settings(deadline=None, max_examples=40)
@given(legal_streams())
def test_every_event_is_one_by_the_published_schema(events):
    for _, data in openai_schema.events(written([events])):
        openai_schema.hold(ResponseStreamEvent, data)


@settings(deadline=None)
@given(legal_streams(), st.data())
def test_batches_do_not_change_the_bytes(events, data):
    at = data.draw(st.integers(0, len(events)))
    assert written([events[:at], events[at:]]) == written([events])


def said(parts: tuple[Part, ...], kind: type[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind) and not isinstance(part, ToolCall | Image))


@settings(deadline=None)
@given(legal_streams(failing=False))
def test_nothing_that_was_said_is_lost_on_the_way_back(events):
    """An output that is sent back as input is the message that the fold of the same events would be."""
    final = openai_schema.decoded(written([events]))[-1]["response"]
    fold = AnswerBuilder()
    fold.add(events)
    answer = fold.answer
    assert answer is not None
    if not final["output"]:
        assert (answer.text, answer.reasoning, answer.refusal, answer.tool_calls) == ("", "", "", ())
        return
    hello = {"role": "user", "content": "Hello!"}
    back = DIALECT.parse(msgspec.json.encode({"input": [hello, *final["output"]]})).ask.messages
    parts = back[1].parts if len(back) > 1 else ()
    assert said(parts, Text) == answer.text
    assert said(parts, Reasoning) == answer.reasoning
    assert said(parts, Refusal) == answer.refusal
    assert sorted((part.id, part.arguments) for part in parts if isinstance(part, ToolCall)) == sorted(
        (call.id, call.arguments) for call in answer.tool_calls
    )


@settings(deadline=None)
@given(legal_streams(failing=False))
def test_a_whole_answer_is_the_end_of_its_own_stream(events):
    fold = AnswerBuilder()
    fold.add(events)
    assert fold.answer is not None
    whole = msgspec.json.decode(DIALECT.answer(ASKED, META, fold.answer))
    streamed = openai_schema.decoded(written([events]))[-1]["response"]
    for name in whole.keys() - {"output"}:
        assert whole[name] == streamed[name]
    if _is_plain(events):
        assert whole == streamed


def _is_plain(events: list[Event]) -> bool:
    """Whether reasoning, text, refusal and calls follow each other in that order."""
    ranks = []
    for event in events:
        match event:
            case ReasoningDelta(text) if text:
                ranks.append(0)
            case TextDelta(text, logprobs, refusal) if text or logprobs:
                if logprobs and (refusal or not text):
                    return False  # log-probabilities of nothing, or of a refusal, have no place in a fold
                ranks.append(2 if refusal else 1)
            case ToolCallDelta(index):
                ranks.append(3 + index)
    return ranks == sorted(ranks)


@settings(deadline=None)
@given(legal_streams())
def test_what_is_kept_is_what_was_said(events):
    kept: list[Answered] = []
    encoder = DIALECT.encoder(marked(ASKED, "token1", kept.append, stored=True), META)
    stream = openai_schema.decoded(encoder.encode(events))
    assert {event["response"]["id"] for event in stream if "response" in event} == {"resp_token1"}
    if not isinstance(events[-1], Finished):
        assert kept == []
        return
    (answered,) = kept
    turn = Turn.of(asked_now(ASKED), answered)
    assert unpack(pack(turn)) == turn
    assert msgspec.json.decode(turn.response) == stream[-1]["response"]
    assert turn.asked == (Message(Role.USER, (Text("Hello!"),)),)
    assert len(turn.answer) == bool(stream[-1]["response"]["output"])


@settings(deadline=None)
@given(legal_streams(failing=False))
def test_what_is_held_of_an_answer_is_found_by_the_ids_that_the_client_was_given(events):
    kept: list[Answered] = []
    encoder = DIALECT.encoder(marked(ASKED, "token1", kept.append, stored=False), META)
    told = openai_schema.decoded(encoder.encode(events))[-1]["response"]["output"]
    packed = pack_items(kept[0])

    def find(item):
        mark, place = place_of(item)
        assert mark == "token1"
        return unpack_item(packed, place)

    hello = {"role": "user", "content": "Hello!"}
    said = [hello, *told, hello]
    referred = [hello, *({"type": "item_reference", "id": item["id"]} for item in told), hello]
    read = [DIALECT.read(msgspec.json.encode({"input": items}), find) for items in (said, referred)]
    assert read[0].ask.messages == read[1].ask.messages
    assert read[1].dropped == ()
    assert find(f"msg_token1_{len(told)}") is None
