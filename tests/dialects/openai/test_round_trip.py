"""What our public side writes, our upstream side reads: Standpipe may stand behind Standpipe, and nothing is lost."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Sampling
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.openai.from_engine import Decoder
from standpipe.dialects.openai.request import API
from tests.streams import cut, legal_streams

EVERYTHING = Sampling(logprobs=True, top_logprobs=20)
META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")


def streams(*, failing: bool = True) -> st.SearchStrategy[list[Event]]:
    """Without calls whose arguments are `null`: they are understood, but do not come back as they were."""
    return legal_streams(failing=failing).filter(
        lambda events: not any(isinstance(event, ToolCallDelta) and "null" in event.arguments for event in events)
    )


def heard(events: list[Event], *, usage: bool) -> list[Event]:
    """What another side must hear of these events: silence, and deltas that say nothing, are not heard."""
    kept: list[Event] = []
    called = any(isinstance(event, ToolCallDelta) for event in events)
    for event in events:
        match event:
            case Waiting() | Started() | TextDelta("", (), _) | TextDelta("", _, True) | ReasoningDelta(""):
                continue
            case ToolCallDelta(_, "", None, None):
                continue
            case Finished(reason):
                if called and reason is FinishReason.STOP:
                    reason = FinishReason.TOOL_CALLS
                if reason is FinishReason.TOOL_CALLS:
                    kept += without_arguments(events)
                kept.append(replace(event, reason=reason, usage=event.usage if usage else None))
            case Failed():
                pass
            case _:
                kept.append(event)
    return [Started(META.model), *kept] if kept else kept


def without_arguments(events: list[Event]) -> list[Event]:
    """What is added to calls that came without arguments."""
    said: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            said[event.index] = said.get(event.index, "") + event.arguments
    return [ToolCallDelta(index, "{}") for index, arguments in sorted(said.items()) if not arguments.strip()]


def written(batches: Iterable[list[Event]], *, usage: bool) -> bytes:
    encoder = API.encoder(Parsed(Ask(()), stream=True, echo=usage), META)
    return b"".join(encoder.encode(batch) for batch in batches)


def read(pieces: Iterable[bytes]) -> tuple[list[Event], bool]:
    decoder, events, failed = Decoder(sampling=EVERYTHING), list[Event](), False
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.end()
    except EngineFailed:
        failed = True
    return events, failed


@settings(deadline=None)
@given(streams(failing=False), st.booleans(), st.data())
def test_a_whole_answer_comes_back_as_it_was_at_any_split(events, usage, data):
    stream = written([events], usage=usage)
    assert read(data.draw(cut(stream))) == (heard(events, usage=usage), False)


@settings(deadline=None)
@given(streams())
def test_an_answer_that_failed_never_comes_back_whole(events):
    came, failed = read(written([[event]], usage=True) for event in events)
    assert came == heard(events, usage=True)
    assert failed == isinstance(events[-1], Failed)


@settings(deadline=None)
@given(streams(failing=False), st.data())
def test_batches_do_not_change_the_bytes(events, data):
    at = data.draw(st.integers(0, len(events)))
    assert written([events[:at], events[at:]], usage=True) == written([events], usage=True)


def cut_off(finished: Finished) -> bool:
    return finished.reason in {FinishReason.LENGTH, FinishReason.CONTENT_FILTER}


@settings(deadline=None)
@given(streams(failing=False))
def test_both_sides_fold_to_the_same_answer(events):
    ours, theirs = AnswerBuilder(), AnswerBuilder()
    *said, finished = events
    assert isinstance(finished, Finished)
    ours.add([*said, *([] if cut_off(finished) else without_arguments(events)), finished])
    theirs.add(read([written([events], usage=True)])[0])
    assert ours.answer is not None
    assert theirs.answer is not None
    for field in ("text", "reasoning", "refusal", "tool_calls", "usage"):
        assert getattr(ours.answer, field) == getattr(theirs.answer, field)


@settings(deadline=None)
@given(st.lists(legal_streams(failing=False), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_several_choices_of_one_stream_are_each_what_it_is_alone(choices, random):
    parsed = Parsed(Ask(()), stream=True, echo=True, others=(Ask(()),) * (len(choices) - 1))
    encoders = API.encoders(parsed, META)
    rest = [(encoder, iter(events)) for encoder, events in zip(encoders, choices, strict=True)]
    told = b""
    while rest:
        speaker = random.choice(rest)
        if (event := next(speaker[1], None)) is None:
            rest.remove(speaker)
        else:
            told += speaker[0].encode([event])
    frames = told.split(b"\n\n")[:-1]
    assert frames[-1] == b"data: [DONE]"
    assert frames.count(b"data: [DONE]") == 1
    usages = [frame for frame in frames if b'"choices":[],' in frame]
    alone = [API.encoder(parsed, META).encode(events).split(b"\n\n")[:-2] for events in choices]
    assert len(usages) == all(b'"choices":[],' in frames[-1] for frames in alone)
    for index, one in enumerate(alone):
        own = b'"choices":[{"index":%d,' % index
        mine = [frame.replace(own, b'"choices":[{"index":0,') for frame in frames if own in frame]
        assert mine == [frame for frame in one if b'"choices":[],' not in frame]
