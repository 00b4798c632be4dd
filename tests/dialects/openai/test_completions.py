from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.completion_create_params import CompletionCreateParams

from standpipe.chat.ask import Message, Role, Sampling, Text
from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure, InvalidAsk, Unsupported
from standpipe.chat.events import (
    Answer,
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    Usage,
    Waiting,
)
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.framing import SseFrames
from standpipe.dialects.openai.completions import LEGACY
from tests import golden, openai_schema
from tests.streams import cut, legal_streams

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
LOGPROBS = (TokenLogprob("Hi", -0.25, (72, 105), (TokenLogprob("Yo", -1.5), TokenLogprob("Hey", -2.5))),)


def parse(**body: Any) -> Parsed:
    return LEGACY.parse(msgspec.json.encode({"prompt": "Once upon", **body}))


def stream(batches: list[list[Event]], *, include_usage: bool = False) -> bytes:
    encoder = LEGACY.encoder(parse(stream_options={"include_usage": include_usage}), META)
    return b"".join(encoder.encode(batch) for batch in batches)


def test_it_is_a_dialect():
    dialect: Dialect = LEGACY
    assert (dialect.name, dialect.stream_type) == ("openai_completions", "text/event-stream")


@pytest.mark.parametrize("prompt", ["Once upon", ["Once upon"]])
def test_a_prompt_is_one_raw_message(prompt):
    parsed = parse(prompt=prompt)
    assert parsed.ask.raw
    assert parsed.ask.messages == (Message(Role.USER, (Text("Once upon"),)),)
    assert parsed.ask.sampling == Sampling()
    assert not parsed.stream


def test_no_rivals_are_still_log_probabilities():
    assert parse(logprobs=0).ask.sampling == Sampling(logprobs=True, top_logprobs=0)


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


@pytest.mark.parametrize(
    ("body", "param", "kind"),
    [
        bad("prompt", prompt=[]),
        bad("prompt", prompt=["a", 5.5]),
        bad("prompt", prompt=["a"] * 9),
        bad("prompt", prompt=[{"text": "a"}]),
        bad("prompt", Unsupported, prompt=[1, 2, 3]),
        bad("prompt", Unsupported, prompt=[[1, 2], [3]]),
        bad("echo", Unsupported, echo=True, logprobs=0),
        bad("suffix", Unsupported, suffix="The end."),
        bad("best_of", Unsupported, best_of=3),
        bad("n", n=9),
        bad("n", n=5, prompt=["a", "b"]),
        bad("max_tokens", max_tokens=0),
    ],
)
def test_every_fault_names_its_field(body, param, kind):
    with pytest.raises(Failure) as caught:
        parse(**body)
    assert (caught.value.param, type(caught.value)) == (param, kind)


STREAMS: dict[str, list[list[Event]]] = {
    "text": [
        [Started(), ReasoningDelta("Hm.")],
        [TextDelta(" a time,"), TextDelta(" 👋")],
        [Finished(FinishReason.STOP, Usage(9, 3, reasoning_tokens=1))],
    ],
    "waiting": [
        [Waiting(3, 12.44)],
        [Waiting()],
        [Started(), TextDelta("Hi"), Finished(FinishReason.LENGTH)],
    ],
    "logprobs": [
        [Started(), TextDelta("Hi", LOGPROBS), TextDelta("Hi", LOGPROBS)],
        [Finished(FinishReason.TOOL_CALLS)],
    ],
    "failed": [
        [Started(), TextDelta("Half an ans")],
        [Failed(EngineFailed("The connection to the engine was lost."))],
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_written_as_its_transcript(name):
    golden.check(f"openai_completions/{name}.sse", stream(STREAMS[name]))


@pytest.mark.parametrize("name", ["text", "waiting"])
def test_a_stream_with_usage_is_written_as_its_transcript(name):
    golden.check(f"openai_completions/{name}.usage.sse", stream(STREAMS[name], include_usage=True))


ANSWERS = {
    "text": Answer(" a time,", "Hm.", "", (), FinishReason.STOP, usage=Usage(9, 3, reasoning_tokens=1)),
    "refusal": Answer("", "", "I cannot help.", (), FinishReason.CONTENT_FILTER),
    "logprobs": Answer("HiHi", "", "", (), FinishReason.LENGTH, logprobs=LOGPROBS * 2),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_its_transcript(name):
    written = LEGACY.answer(parse(), META, ANSWERS[name])
    openai_schema.hold(Completion, written)
    golden.check(f"openai_completions/{name}.json", msgspec.json.format(written, indent=2) + b"\n")


def read(data: bytes) -> tuple[str, list[str | None], list[Any]]:
    """What a stream says: its text, the reasons for its end, and the offsets of its tokens."""
    *frames, last = SseFrames().feed(data)
    if last != b"[DONE]":
        frames.append(last)
    text, reasons, offsets = "", [], []
    for frame in frames:
        chunk = msgspec.json.decode(frame)
        for choice in chunk.get("choices", ()):
            if choice["logprobs"]:
                offsets += choice["logprobs"]["text_offset"]
            text += choice["text"]
            reasons.append(choice["finish_reason"])
    return text, reasons, offsets


def test_offsets_count_characters_from_the_beginning():
    assert read(stream(STREAMS["logprobs"])) == ("HiHi", [None, None, "stop"], [0, 2])


def test_a_failed_stream_has_nothing_that_looks_whole():
    written = stream(STREAMS["failed"])
    assert b"[DONE]" not in written
    assert b'"finish_reason":"' not in written


@settings(deadline=None)
@given(legal_streams(failing=False), st.booleans(), st.data())
def test_a_stream_says_what_the_whole_answer_says(events, usage, data):
    written = stream([[event] for event in events], include_usage=usage)
    frames = SseFrames()
    assert [frame for piece in data.draw(cut(written)) for frame in frames.feed(piece)][-1] == b"[DONE]"
    fold = AnswerBuilder()
    fold.add(events)
    assert fold.answer is not None
    whole = msgspec.json.decode(LEGACY.answer(parse(), META, fold.answer))
    text, reasons, _ = read(written)
    assert len(text) == len(whole["choices"][0]["text"])
    assert set(reasons[:-1]) <= {None}
    assert reasons[-1] == whole["choices"][0]["finish_reason"]


def test_a_failure_names_the_prompt():
    failure = ContextTooLong("`messages` do not fit.", param="messages")
    error = msgspec.json.decode(LEGACY.failure(failure, "7Yd2k"))["error"]
    assert (error["param"], error["message"]) == ("prompt", "`prompt` do not fit.")


def test_every_field_that_official_clients_can_send_is_known():
    assert openai_schema.fields_sent(CompletionCreateParams) == LEGACY.reader.taken | {"user"}
