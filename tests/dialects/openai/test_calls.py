from typing import Any

import pytest

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import ToolCallDelta
from standpipe.dialects.openai.calls import Calls, Piece, PieceFunction

D = ToolCallDelta


def p(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Piece:
    return Piece(index, call_id, PieceFunction(name, arguments))


CASES = {
    "as the format wants it": (
        [p(0, "a", "f", ""), p(0, None, None, '{"x"'), p(0, None, None, ":1}"), p(1, "b", "g", "{}")],
        [D(0, "", "a", "f"), D(0, '{"x"'), D(0, ":1}"), D(1, "{}", "b", "g")],
    ),
    "interleaved": (
        [p(0, "a", "f", ""), p(1, "b", "g", ""), p(0, None, None, "{}"), p(1, None, None, "{}")],
        [D(0, "", "a", "f"), D(1, "", "b", "g"), D(0, "{}"), D(1, "{}")],
    ),
    "indices that do not begin at 0": (
        [p(7, "a", "f", "{}"), p(9, "b", "g", "{}")],
        [D(0, "{}", "a", "f"), D(1, "{}", "b", "g")],
    ),
    "one index for all, whole": (
        [p(0, "a", "f", '{"x":1}'), p(0, "b", "f", '{"x":2}')],
        [D(0, '{"x":1}', "a", "f"), D(1, '{"x":2}', "b", "f")],
    ),
    "one index for all, in pieces": (
        [p(0, "a", "f", ""), p(0, None, None, "{}"), p(0, "b", "g", ""), p(0, None, None, "{}")],
        [D(0, "", "a", "f"), D(0, "{}"), D(1, "", "b", "g"), D(1, "{}")],
    ),
    "one index for all and no ids": (
        [p(0, None, "f", "{}"), p(0, None, "f", "{}"), p(0, None, "g", "{}")],
        [D(0, "{}", "call_m0", "f"), D(1, "{}", "call_m1", "f"), D(2, "{}", "call_m2", "g")],
    ),
    "no index": (
        [p(None, "a", "f", '{"x":'), p(None, None, None, "1}"), p(None, "b", "f", "{}")],
        [D(0, '{"x":', "a", "f"), D(0, "1}"), D(1, "{}", "b", "f")],
    ),
    "no index, the id on every piece": (
        [p(None, "a", "f", '{"x":'), p(None, "a", None, "1}"), p(None, "b", "f", "{"), p(None, "b", None, "}")],
        [D(0, '{"x":', "a", "f"), D(0, "1}"), D(1, "{", "b", "f"), D(1, "}")],
    ),
    "neither index nor id": (
        [p(None, None, "f", "{}"), p(None, None, "f", '{"x":'), p(None, None, None, "1}")],
        [D(0, "{}", "call_m0", "f"), D(1, '{"x":', "call_m1", "f"), D(1, "1}")],
    ),
    "no id": ([p(0, None, "f", ""), p(0, None, None, "{}")], [D(0, "", "call_m0", "f"), D(0, "{}")]),
    "an empty id": (
        [p(0, "", "f", "{}"), p(1, "", "g", "{}")],
        [D(0, "{}", "call_m0", "f"), D(1, "{}", "call_m1", "g")],
    ),
    "another id on every piece": (
        [p(0, "a", "f", '{"x":'), p(0, "b", None, "1"), p(0, "c", None, "}")],
        [D(0, '{"x":', "a", "f"), D(0, "1"), D(0, "}")],
    ),
    "everything on every piece": (
        [p(0, "a", "f", '{"x":'), p(0, "a", "f", "{}"), p(0, "a", "f", "}"), p(0, "a", "f", "")],
        [D(0, '{"x":', "a", "f"), D(0, "{}"), D(0, "}")],
    ),
    "the name on every piece": (
        [p(0, None, "f", '{"x":'), p(0, None, "f", "1}"), p(1, None, "f", "{"), p(1, None, "f", "}")],
        [D(0, '{"x":', "call_m0", "f"), D(0, "1}"), D(1, "{", "call_m1", "f"), D(1, "}")],
    ),
    "one id for all": (
        [p(0, "a", "f", "{"), p(0, "a", None, "}"), p(1, "a", "g", "{"), p(1, "a", None, "}")],
        [D(0, "{", "a", "f"), D(0, "}"), D(1, "{", "call_m1", "g"), D(1, "}")],
    ),
    "the name after the id": (
        [p(0, "a"), p(0, None, None, '{"x'), p(0, None, "f"), p(0, None, None, '":1}')],
        [D(0, '{"x', "a", "f"), D(0, '":1}')],
    ),
    "arguments as an object": ([p(0, "a", "f", {"x": [1, None]})], [D(0, '{"x":[1,null]}', "a", "f")]),
    "no arguments": ([p(0, "a", "f"), Piece(0)], [D(0, "", "a", "f")]),
}


@pytest.mark.parametrize("name", CASES)
def test_calls_come_out_as_they_should_be(name):
    pieces, expected = CASES[name]
    calls = Calls("m")
    assert [delta for piece in pieces if (delta := calls.take(piece))] == expected
    assert calls.finish()


def test_an_answer_may_have_no_calls():
    assert Calls("m").finish() is False


def test_a_call_that_never_gets_a_name_fails():
    calls = Calls("m")
    assert calls.take(p(0, "a", None, "{}")) is None
    with pytest.raises(EngineFailed, match="without a name"):
        calls.finish()
