from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Sampling
from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure
from standpipe.chat.events import (
    Event,
    EventOrder,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from standpipe.dialects.framing import LIMIT
from standpipe.dialects.openai.from_engine import Decoder
from tests import golden
from tests.streams import cut

EVERYTHING = Sampling(logprobs=True, top_logprobs=20, stop=("\n\n",))
ENGINES = ["llama", "llama_emoji_first", "llama_gpt_oss_tool", "vllm", "ollama_tools"]


def frame(**fields: Any) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def said(**delta: Any) -> bytes:
    return frame(choices=[{"index": 0, "delta": delta}])


STOP = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


def decoded(*reads: bytes, sampling: Sampling = EVERYTHING) -> list[Event]:
    decoder = Decoder(sampling=sampling)
    events = [event for read in reads for event in decoder.feed(read)]
    events += decoder.end()
    assert decoder.done
    return events


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_sends_is_understood_as_its_transcript(engine):
    events = decoded(golden.read(f"openai_upstream/{engine}.sse"))
    golden.check(f"openai_upstream/{engine}.events", "".join(f"{event!r}\n" for event in events).encode())
    order = EventOrder()
    for event in events:
        order.advance(event)


@settings(deadline=None)
@given(st.sampled_from(ENGINES).map(lambda engine: golden.read(f"openai_upstream/{engine}.sse")), st.data())
def test_any_split_gives_the_same_events(stream, data):
    assert decoded(*data.draw(cut(stream))) == decoded(stream)


def test_an_answer_starts_when_something_is_said():
    decoder = Decoder()
    assert decoder.feed(said(role="assistant", content=None)) == []
    assert decoder.feed(said(content="")) == []
    assert decoder.feed(said(content="Hi")) == [Started(), TextDelta("Hi")]
    assert decoder.feed(said(content="!")) == [TextDelta("!")]


def test_an_answer_without_a_word_starts_and_finishes():
    assert decoded(STOP, DONE) == [Started(), Finished(FinishReason.STOP)]


def test_the_finish_waits_for_the_usage():
    decoder = Decoder()
    decoder.feed(said(content="Hi"))
    assert decoder.feed(STOP) == []
    assert decoder.feed(frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 1})) == []
    assert decoder.feed(DONE) == [Finished(FinishReason.STOP, Usage(3, 1))]
    assert decoder.done
    assert decoder.feed(said(content="more")) == []
    assert decoder.end() == []


def test_the_end_of_the_body_finishes_an_answer_as_well():
    assert decoded(said(content="Hi"), STOP) == [Started(), TextDelta("Hi"), Finished(FinishReason.STOP)]


LEAKS = (
    b'data: {"choices":[{"delta":{"role":"assistant"},"index":0}],"model":"m@main"}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hello"},"index":0}],"model":"m@main"}\n\n',
    b'data: {"choices":[{"delta":{"content":" there"},"index":0}],"model":"m@main"}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2,"prompt_tokens":31}}\n\n',
)
"""Of `transformers serve`, asked to stop at `there`: it stops, and writes the word."""


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_stop_string_that_an_engine_writes_out_reaches_nobody():
    events = decoded(*LEAKS, sampling=Sampling(stop=("there",)))
    assert text_of(events) == "Hello "
    assert events[-1] == Finished(FinishReason.STOP, Usage(31, 2), stop="there")


def test_an_engine_that_does_not_know_of_stop_strings_is_stopped():
    decoder = Decoder("t", Sampling(stop=("there",)))
    events = [event for read in (*LEAKS[:3], said(content=" and")) for event in decoder.feed(read)]
    assert (text_of(events), decoder.done) == ("Hello ", True)


@pytest.mark.parametrize(("told", "stop"), [("END", "END"), (200012, None), (None, None)])
def test_the_stop_string_that_ended_it_is_kept_where_an_engine_tells(told, stop):
    end = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": told}])
    assert decoded(said(content="Hi"), end, DONE, sampling=Sampling(stop=("END",)))[-1] == Finished(
        FinishReason.STOP, stop=stop
    )


@pytest.mark.parametrize(
    "usages",
    [
        [frame(choices=[{"index": 0, "delta": {"content": "Hi"}}], usage={"prompt_tokens": 3, "completion_tokens": 1})],
        [frame(choices=[{"index": 0, "delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}])],
        [
            frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 0}),
            frame(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": None}),
            frame(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0}),
        ],
    ],
)
def test_usage_may_be_anywhere_and_the_latest_that_counts_is_it(usages):
    assert decoded(*usages, STOP, DONE)[-1] == Finished(FinishReason.STOP, Usage(3, 1))


def test_usage_that_is_not_told_is_none_and_not_zero():
    nothing = frame(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    assert decoded(said(content="Hi"), STOP, nothing, DONE)[-1] == Finished(FinishReason.STOP)


@pytest.mark.parametrize(
    "delta", [{"reasoning": "Hm"}, {"reasoning_content": "Hm"}, {"reasoning": "Hm", "reasoning_content": "Hm"}]
)
def test_reasoning_under_any_name_is_taken_once(delta):
    assert decoded(said(**delta), STOP, DONE)[1:-1] == [ReasoningDelta("Hm")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos_token", FinishReason.STOP),
    ],
)
def test_reasons_are_understood(reason, expected):
    assert decoded(frame(choices=[{"delta": {}, "finish_reason": reason}]), DONE)[-1] == Finished(expected)


def test_an_answer_that_calls_tools_says_so_even_if_the_engine_does_not():
    call = said(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}])
    assert decoded(call, STOP, DONE)[1:] == [ToolCallDelta(0, "{}", "c", "f"), Finished(FinishReason.TOOL_CALLS)]


def test_a_choice_may_lack_its_delta():
    assert decoded(frame(choices=[{"finish_reason": "stop"}]), frame(choices=None), DONE)[-1] == Finished(
        FinishReason.STOP
    )


def test_a_token_without_text_keeps_its_log_probability():
    silent = frame(choices=[{"delta": {"content": ""}, "logprobs": {"content": [{"token": "<pad>", "logprob": -1}]}}])
    assert decoded(silent, STOP)[1] == TextDelta("", (TokenLogprob("<pad>", -1),))


def test_other_choices_are_not_ours():
    other = frame(choices=[{"index": 1, "delta": {"content": "Two"}, "finish_reason": "length"}])
    assert decoded(said(content="One"), other, STOP, DONE)[1:] == [TextDelta("One"), Finished(FinishReason.STOP)]


def test_completions_tell_log_probabilities_in_their_own_way():
    told = {
        "tokens": ["Once", " upon"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {" a": -2.0, " upon": -0.5, " in": -1.0}],
        "text_offset": [0, 4],
    }
    said_raw = frame(choices=[{"text": " upon", "logprobs": told, "finish_reason": None}])
    end = frame(choices=[{"text": "", "logprobs": None, "finish_reason": "length"}])
    found = decoded(said_raw, end, DONE, sampling=Sampling(logprobs=True, top_logprobs=2))
    rivals = (TokenLogprob(" upon", -0.5), TokenLogprob(" in", -1.0))
    assert found[1:] == [
        TextDelta(" upon", (TokenLogprob(" upon", -0.5, None, rivals),)),
        Finished(FinishReason.LENGTH),
    ]


def test_log_probabilities_of_another_shape_are_dropped():
    strange = frame(choices=[{"delta": {"content": "Hi"}, "logprobs": {"content": [{"token": 5}]}}])
    assert decoded(strange, STOP, DONE)[1] == TextDelta("Hi")


@pytest.mark.parametrize(
    "name", ["/srv/models/a.gguf", "C:\\models\\a.gguf", "./models/a.gguf", "~/a.gguf", "../a.gguf", "a.gguf"]
)
def test_a_model_named_by_its_file_does_not_tell_where_it_is(name):
    stream = frame(model=name, choices=[{"delta": {"content": "Hi"}, "finish_reason": "stop"}])
    assert decoded(stream, DONE)[0] == Started("a.gguf")


def test_a_model_may_have_an_owner():
    stream = frame(model="openai/gpt-oss-20b", choices=[{"delta": {"content": "Hi"}, "finish_reason": "stop"}])
    assert decoded(stream, DONE)[0] == Started("openai/gpt-oss-20b")


BROKEN = {
    "no end": [said(content="Half an ans")],
    "no reason": [said(content="Half an ans"), DONE],
    "nothing": [],
    "only done": [DONE],
    "cut frame": [said(content="Half"), STOP[:-10]],
    "no json": [said(content="Half"), b"data: oops\n\n"],
    "no object": [b"data: []\n\n"],
    "wrong types": [b'data: {"choices": 5}\n\n'],
    "bad utf-8": [b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'],
    "very deep": [b'data: {"error":' + b"[" * 100_000 + b"\n\n"],
    "too large": [b"data: " + b"x" * LIMIT],
    "abort": [frame(choices=[{"delta": {"content": "x"}, "finish_reason": "abort"}]), DONE],
    "call without name": [said(tool_calls=[{"index": 0, "id": "c", "function": {"arguments": "{}"}}]), STOP, DONE],
    "llama.cpp error": [
        said(content="Half"),
        frame(error={"code": 500, "message": "The model produced output that does not match", "type": "server_error"}),
    ],
    "vllm error": [frame(object="error", message="secret /srv/x", type="InternalServerError", code=500), DONE],
    "error text": [frame(error="out of memory at http://10.0.0.1:8000"), STOP, DONE],
    "error and reason": [frame(choices=[{"delta": {}, "finish_reason": "stop"}], error={"message": "no"}), DONE],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_never_looks_whole(name):
    with pytest.raises(EngineFailed) as caught:
        decoded(*BROKEN[name])
    assert "/" not in caught.value.message


def test_the_status_in_an_error_frame_is_kept_for_retries():
    with pytest.raises(EngineFailed) as caught:
        decoded(frame(error={"code": 503, "message": "busy"}))
    assert caught.value.upstream_status == 503


def test_a_clients_fault_that_is_found_late_stays_one():
    with pytest.raises(ContextTooLong):
        decoded(frame(error={"message": "maximum context length is 4096 tokens", "type": "BadRequestError"}))


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([said(content="x"), STOP, DONE, b": ping\n\n", b"data: "]) | st.binary(max_size=8), max_size=6
    )
)
def test_anything_at_all_is_decoded_or_fails_as_a_failure(reads):
    try:
        events = decoded(*reads)
    except Failure:
        return
    order = EventOrder()
    for event in events:
        order.advance(event)
    assert isinstance(events[-1], Finished)
