import pytest

from standpipe.chat.ask import ToolCall
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    AnswerBuilder,
    EventOrder,
    Failed,
    Finished,
    FinishReason,
    IllegalOrder,
    ReasoningDelta,
    Started,
    StreamPhase,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)


def test_an_answer_is_the_fold_of_its_events():
    fold = AnswerBuilder()
    fold.add([Waiting(3, 1.0), Started("m"), ReasoningDelta("hm"), ReasoningDelta("m")])
    unfinished = fold.answer
    assert unfinished is None
    logprob = TokenLogprob("b", -0.5)
    fold.add([TextDelta("a"), Waiting(), TextDelta("b", (logprob,)), TextDelta("no", refusal=True)])
    fold.add([ToolCallDelta(1, "{}", "id1", "g"), ToolCallDelta(0, '{"x":', "id0", "f"), ToolCallDelta(0, "1}")])
    fold.add([Finished(FinishReason.TOOL_CALLS, Usage(1, 2), stop="END")])
    answer = fold.answer
    assert answer is not None
    assert (answer.model, answer.reasoning, answer.text, answer.refusal) == ("m", "hmm", "ab", "no")
    assert answer.tool_calls == (ToolCall("id0", "f", '{"x":1}'), ToolCall("id1", "g", "{}"))
    assert answer.logprobs == (logprob,)
    assert (answer.reason, answer.usage, answer.stop) == (FinishReason.TOOL_CALLS, Usage(1, 2), "END")


def test_half_an_answer_is_never_folded_into_a_whole_one():
    fold = AnswerBuilder()
    fold.add([Started(), TextDelta("half")])
    with pytest.raises(EngineFailed, match="gone"):
        fold.add([Failed(EngineFailed("gone"))])
    assert fold.answer is None


def test_the_legal_order_is_walked():
    order = EventOrder()
    for event in (Waiting(1), Started(), TextDelta("a"), Waiting(), Finished(FinishReason.STOP)):
        order.advance(event)
    assert order.phase is StreamPhase.CLOSED


@pytest.mark.parametrize(
    "events",
    [
        [TextDelta("a")],
        [Started(), Started()],
        [Finished(FinishReason.STOP)],
        [Started(), Finished(FinishReason.STOP), TextDelta("a")],
        [Failed(EngineFailed("x")), Failed(EngineFailed("x"))],
    ],
)
def test_an_illegal_order_is_named(events):
    order = EventOrder()
    with pytest.raises(IllegalOrder, match=type(events[-1]).__name__):
        for event in events:
            order.advance(event)
