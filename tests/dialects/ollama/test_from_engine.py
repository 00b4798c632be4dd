"""What a native Ollama sends, and what our own public side sends: Standpipe may stand behind Standpipe."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Sampling
from standpipe.chat.errors import EngineFailed, Failure, Unsupported
from standpipe.chat.events import (
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.framing import LIMIT
from standpipe.dialects.ollama.from_engine import Decoder
from standpipe.dialects.ollama.request import CHAT
from standpipe.dialects.openai.faults import failure_in_stream
from tests import golden
from tests.streams import cut, legal_streams

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
ENGINES = ["gpt_oss_tool", "plain"]


def decoded(*pieces: bytes) -> list[Event]:
    decoder, events = Decoder("m", failure_in_stream, Sampling(logprobs=True, top_logprobs=20)), list[Event]()
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.end()
    assert decoder.done
    return events


def line(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", **fields}) + b"\n"


def said(**message: Any) -> bytes:
    return line(message={"role": "assistant", **message}, done=False)


DONE = line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_sends_is_understood_as_its_transcript(engine):
    events = decoded(golden.read(f"ollama_upstream/{engine}.ndjson"))
    golden.check(f"ollama_upstream/{engine}.events", "".join(f"{event!r}\n" for event in events).encode())


@settings(deadline=None)
@given(st.sampled_from([golden.read(f"ollama_upstream/{engine}.ndjson") for engine in ENGINES]), st.data())
def test_any_split_gives_the_same_events(stream, data):
    assert decoded(*data.draw(cut(stream))) == decoded(stream)


def test_an_answer_starts_when_something_is_said():
    decoder = Decoder("m", failure_in_stream)
    assert decoder.feed(said(content="")) == []
    assert decoder.feed(said(content="Hi")) == [Started("m"), TextDelta("Hi")]
    assert decoder.feed(DONE) == [Finished(FinishReason.STOP)]
    assert decoder.feed(said(content="more")) == []


def test_an_answer_without_a_word_starts_and_finishes():
    assert decoded(DONE) == [Started("m"), Finished(FinishReason.STOP)]


def test_the_last_line_may_lack_its_end():
    assert decoded(said(content="Hi"), DONE.rstrip()) == [
        Started("m"),
        TextDelta("Hi"),
        Finished(FinishReason.STOP),
    ]


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, None),
        ({"prompt_eval_count": 3, "eval_count": 1}, Usage(3, 1)),
        ({"eval_count": 1}, Usage(0, 1)),
        ({"prompt_eval_duration": 5}, None),
    ],
)
def test_what_is_not_counted_is_not_told(counts, usage):
    assert decoded(line(done=True, **counts))[-1] == Finished(FinishReason.STOP, usage)


def test_durations_are_in_nanoseconds():
    done = line(done=True, prompt_eval_duration=250_000_000, eval_duration=1_500_000_000)
    assert decoded(done)[-1] == Finished(FinishReason.STOP, None, Timings(0.25, 1.5))


def test_calls_have_ids_even_if_the_engine_has_none():
    call = {"function": {"name": "f", "arguments": {"a": 1.5}}}
    assert decoded(said(content="", tool_calls=[call]), said(tool_calls=[{**call, "id": "x"}, call]), DONE)[1:] == [
        ToolCallDelta(0, '{"a":1.5}', "call_m0", "f"),
        ToolCallDelta(1, '{"a":1.5}', "x", "f"),
        ToolCallDelta(2, '{"a":1.5}', "call_m2", "f"),
        Finished(FinishReason.TOOL_CALLS),
    ]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ({"name": "f"}, "{}"),
        ({"name": "f", "arguments": '{"a":1}'}, '{"a":1}'),
        ({"name": "f", "arguments": {"n": 123456789012345678}}, '{"n":123456789012345678}'),
    ],
)
def test_arguments_become_text(function, text):
    assert decoded(said(tool_calls=[{"function": function}]), DONE)[1] == ToolCallDelta(0, text, "call_m0", "f")


def test_logprobs_are_read_and_nonsense_in_their_place_is_dropped():
    logprobs = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Yo", "logprob": -1}]}]
    told = line(message={"content": "Hi"}, logprobs=logprobs)
    token = TokenLogprob("Hi", -0.5, (72, 105), (TokenLogprob("Yo", -1.0),))
    assert decoded(told, DONE)[1] == TextDelta("Hi", (token,))
    assert decoded(line(message={"content": "Hi"}, logprobs=[{"x": 1}]), DONE)[1] == TextDelta("Hi")


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        (line(error="an error was encountered while running the model"), EngineFailed, "500"),
        (line(error={"message": "context length exceeded", "code": 400}), Failure, "context"),
        (b'{"error":"x","done":"maybe"}\n', EngineFailed, "500"),
        (b"not json\n", EngineFailed, "unreadable"),
        (b"[" * 100_000 + b"\n", EngineFailed, "unreadable"),
        (b"x" * (LIMIT + 1), EngineFailed, "more than"),
    ],
)
def test_errors_and_nonsense_are_failures_without_the_engines_words(sent, kind, says):
    with pytest.raises(kind, match=says) as caught:
        decoded(said(content="Half"), sent, DONE)
    assert "encountered" not in caught.value.message


@pytest.mark.parametrize("cut_at", [(), (said(content="Half an ans"),), (said(content="Half"), b'{"done": tr')])
def test_an_answer_that_is_not_done_is_not_whole(cut_at):
    with pytest.raises(EngineFailed):
        decoded(*cut_at)


def test_what_a_line_with_an_error_means_is_not_decided_here():
    decoder = Decoder("m", lambda data: Unsupported(data.decode()))
    with pytest.raises(Unsupported, match="anything"):
        decoder.feed(line(error="anything"))


# Our own public side


def heard(events: list[Event]) -> list[Event]:
    """What the other side must hear: calls come last and whole, a refusal is text, silence is not heard."""
    kept: list[Event] = []
    fold = AnswerBuilder()
    for event in events:
        match event:
            case Waiting() | Started() | TextDelta("", ()) | ReasoningDelta(""):
                continue
            case TextDelta(text, logprobs):
                kept.append(TextDelta(text, logprobs))
            case ToolCallDelta():
                fold.add([event])
            case Finished(reason):
                fold.add([event])
                assert fold.answer is not None
                calls = fold.answer.tool_calls
                kept += [ToolCallDelta(i, _compact(call.arguments), call.id, call.name) for i, call in enumerate(calls)]
                if reason in {FinishReason.STOP, FinishReason.TOOL_CALLS}:
                    reason = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
                usage = event.usage and Usage(event.usage.prompt_tokens, event.usage.completion_tokens)
                kept.append(replace(event, reason=reason, usage=usage))
            case Failed():
                pass
            case _:
                kept.append(event)
    return [Started(META.model), *kept] if kept else kept


def _compact(arguments: str) -> str:
    return msgspec.json.format(arguments.encode(), indent=-1).decode()


def written(batches: Iterable[list[Event]]) -> bytes:
    encoder = CHAT.encoder(Parsed(Ask(()), stream=True, echo=True), META)
    return b"".join(encoder.encode(batch) for batch in batches)


def read(pieces: Iterable[bytes]) -> tuple[list[Event], bool]:
    decoder, events = Decoder("m", failure_in_stream, Sampling(logprobs=True, top_logprobs=20)), list[Event]()
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.end()
    except EngineFailed:
        return events, True
    return events, False


@settings(deadline=None)
@given(legal_streams(failing=False, objects=True), st.data())
def test_a_whole_answer_comes_back_as_it_was_at_any_split(events, data):
    assert read(data.draw(cut(written([events])))) == (heard(events), False)


@settings(deadline=None)
@given(legal_streams(objects=True))
def test_an_answer_that_failed_never_comes_back_whole(events):
    came, failed = read([written([[event] for event in events])])
    assert failed == isinstance(events[-1], Failed)
    if not failed:
        assert came == heard(events)


@settings(deadline=None)
@given(legal_streams(failing=False, objects=True), st.data())
def test_batches_do_not_change_the_bytes(events, data):
    at = data.draw(st.integers(0, len(events)))
    assert written([events[:at], events[at:]]) == written([events])


@settings(deadline=None)
@given(legal_streams())
def test_whatever_an_engine_does_a_stream_ends_in_one_of_two_ways(events):
    *before, last = written([events]).splitlines()
    assert all(b'"done":false' in line for line in before)
    assert (b'"done":true' in last) != (b'{"error":' in last)
