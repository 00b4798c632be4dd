"""What property tests draw: legal streams of events, and ways to cut bytes."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_SOME_TEXT = st.one_of(
    st.sampled_from(["", "Hello", "\n", "\r\n", "data: ", "[DONE]", '"', "\\", "\u2028", "👉🏽"]), TEXT
)

_RIVALS = st.builds(TokenLogprob, _SOME_TEXT, st.floats(-20, 0), st.none() | st.just((72, 105)))
_LOGPROBS = st.builds(
    TokenLogprob,
    _SOME_TEXT,
    st.floats(-20, 0),
    st.none() | st.just((226, 128, 168)),
    st.lists(_RIVALS, max_size=2).map(tuple),
)
WAITING = st.builds(Waiting, st.none() | st.integers(1, 200), st.none() | st.floats(0, 600))
_TEXTS = st.builds(
    TextDelta,
    _SOME_TEXT,
    st.just(()) | st.lists(_LOGPROBS, max_size=2).map(tuple),
    st.sampled_from([False, False, True]),
)
_USAGES = st.builds(
    Usage,
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.none() | st.integers(0, 10**6),
    st.none() | st.integers(0, 10**6),
)
_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)


@st.composite
def calls(draw: st.DrawFn) -> list[Event]:
    """The deltas of some tool calls, interleaved, each call's first with its id and name."""
    deltas: list[Event] = []
    for index in range(draw(st.integers(1, 3))):
        deltas.append(ToolCallDelta(index, draw(_SOME_TEXT), f"call_{draw(_NAMES)}_{index}", draw(_NAMES)))
        deltas += [ToolCallDelta(draw(st.integers(0, index)), draw(_SOME_TEXT)) for _ in range(draw(st.integers(0, 3)))]
    return deltas


@st.composite
def whole_calls(draw: st.DrawFn) -> list[Event]:
    """As `calls`, but the arguments of each are a JSON object."""
    queues: list[list[ToolCallDelta]] = []
    for index in range(draw(st.integers(1, 3))):
        said = json.dumps(draw(st.dictionaries(_SOME_TEXT, _SOME_TEXT | st.integers(), max_size=2)))
        pieces = draw(cut(said.encode()))
        first = ToolCallDelta(index, "", f"call_{draw(_NAMES)}_{index}", draw(_NAMES))
        queues.append([first, *(ToolCallDelta(index, piece.decode()) for piece in pieces)])
    deltas: list[Event] = []
    while any(queues):
        ready = []
        for queue in filter(None, queues):
            ready.append(queue)
            if queue[0].id is not None:
                break  # none of the later calls has begun
        deltas.append(ready[draw(st.integers(0, len(ready) - 1))].pop(0))
    return deltas


@st.composite
def legal_streams(draw: st.DrawFn, *, failing: bool = True, objects: bool = False) -> list[Event]:
    """`Waiting* Started delta* (Finished | Failed)`, with Waiting anywhere before the end. With `objects`, whatever
    calls there are have JSON objects for arguments."""
    before: list[Event] = list(draw(st.lists(WAITING, max_size=2)))
    said = st.one_of(_TEXTS, st.builds(ReasoningDelta, _SOME_TEXT), WAITING)
    deltas: list[Event] = list(draw(st.lists(said, max_size=6)))
    called = draw(st.booleans())
    if called:
        deltas += draw(whole_calls() if objects else calls())
    failed = Failed(EngineFailed("The connection to the engine was lost."))
    reasons = [reason for reason in FinishReason if called or reason is not FinishReason.TOOL_CALLS]
    finished: st.SearchStrategy[Event] = st.builds(Finished, st.sampled_from(reasons), st.none() | _USAGES)
    end: Event = draw(finished | st.just(failed)) if failing else draw(finished)
    return [*before, Started(draw(st.none() | _NAMES)), *deltas, end]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces, some of them perhaps empty."""
    if draw(st.integers(0, 9)) == 0:
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in pairwise([0, *places, len(data)])]
