from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct
from msgspec.json import encode

from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects import reading


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(Struct):
    name: str
    size: int | None = None


class Paint(Struct):
    colour: Colour = Colour.RED
    thickness: Annotated[float, Meta(ge=0, le=2.5)] | None = None


class Body(Struct):
    items: Annotated[list[Item], Meta(min_length=1, max_length=3)] | None = None
    weights: Annotated[dict[Annotated[str, Meta(max_length=2)], float], Meta(max_length=2)] = {}
    either: Annotated[str, Meta(min_length=1, max_length=4)] | list[Item] | None = None
    paint: Paint | Literal["none", "all"] | bool | None = None
    limit: Annotated[int, Meta(ge=-1, description="at least 1, or -1")] = 1
    layers: Annotated[int, Meta(ge=1)] = 1
    anything: Any = None


READER = reading.Reader(Body, ignored={"user", "paint.gloss"}, refused={"raw": "`raw` is not read."})


def fault(body: bytes) -> tuple[str | None, str]:
    with pytest.raises(InvalidAsk) as caught:
        READER.read(body)
    return caught.value.param, caught.value.message


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", None, "The body is empty; it must be a JSON object."),
        (b" \n", None, "The body is empty; it must be a JSON object."),
        (b'{"items": [}', None, "The body is not JSON: invalid character at byte 11."),
        (b'{"items": []} x', None, "The body is not JSON: trailing characters at byte 15."),
        (b'{"items": [', None, "The body is incomplete JSON: it ends at byte 11."),
        (b'{"anything": NaN}', None, "The body is not JSON: invalid character at byte 13."),
        (b'{"anything": Infinity}', None, "The body is not JSON: invalid character at byte 13."),
        (b'{"anything": "\xff"}', None, "The body is not UTF-8 at byte 14."),
        (b"[]", None, "The body must be an object, not an array."),
        (b"null", None, "The body must be an object, not null."),
        (b'{"items": {}}', "items", "`items` must be an array or null, not an object."),
        (b'{"items": [{"name": 1}]}', "items[0].name", "`items[0].name` must be a string, not an integer."),
        (b'{"items": [{}]}', "items[0].name", "`items[0].name` is missing."),
        (
            b'{"items": [{"name": "a", "size": true}]}',
            "items[0].size",
            "`items[0].size` must be an integer or null, not a boolean.",
        ),
        (b'{"either": 1}', "either", "`either` must be a string, an array or null, not an integer."),
        (b'{"weights": {"a": "b"}}', "weights", "Each value of `weights` must be a number, not a string."),
        (b'{"weights": {"abc": 1}}', "weights", "Each key of `weights` may have at most 2 characters."),
        (b'{"weights": {"a": 1, "b": 1, "c": 1}}', "weights", "`weights` may have at most 2 entries."),
        (b'{"items": []}', "items", "`items` must not be empty."),
        (b'{"items": [%b{"name": ""}]}' % (b'{"name": ""},' * 3), "items", "`items` may have at most 3 entries."),
        (b'{"either": ""}', "either", "`either` must have 1 to 4 characters."),
        (b'{"either": "12345"}', "either", "`either` must have 1 to 4 characters."),
        (b'{"paint": {"thickness": 2.6}}', "paint.thickness", "`paint.thickness` must be between 0 and 2.5."),
        (b'{"paint": {"colour": "green"}}', "paint.colour", "`paint.colour` must be one of `red`, `blue`."),
        (b'{"paint": "some"}', "paint", "`paint` must be true, false or one of `all`, `none`."),
        (b'{"limit": -2}', "limit", "`limit` must be at least 1, or -1."),
        (b'{"layers": 0}', "layers", "`layers` must be at least 1."),
        (b'{"anything": 1e999}', "anything", "`anything` has a number that is out of range."),
        (b'{"anything": ' + b"9" * 5000 + b"}", "anything", "`anything` has a number that is out of range."),
    ],
)
def test_every_fault_is_said_and_names_its_field(body, param, message):
    assert fault(body) == (param, message)


def nested(levels: int) -> bytes:
    return b'{"anything":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_nesting_is_bounded():
    READER.read(nested(reading.DEPTH))
    assert fault(nested(reading.DEPTH + 1)) == (None, "The body is nested more than 64 levels deep.")
    assert fault(b'{"unknown":' + b"[" * 9_000)[1] == "The body is nested more than 64 levels deep."


def test_brackets_in_strings_are_no_nesting():
    READER.read(b'{"anything": "' + b"[{" * 50 + b'\\"[[[[\\\\", "items": null}')


def test_measuring_takes_linear_time_whatever_the_bytes():
    for hostile in (b'"' + b'\\"' * 200_000, b'"\\' * 200_000, b'"' * 199_999, b"\\" * 400_000, b"]" * 400_000):
        assert "not" in fault(b"[" * 33 + b"]" * 33 + b"{" * 33 + hostile)[1]


def test_many_flat_brackets_are_no_nesting():
    READER.read(b'{"anything": [' + b",".join([b"[]"] * 100) + b"]}")


@settings(deadline=None)
@given(st.recursive(st.none() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2), max_leaves=200))
def test_the_depth_is_counted_right(value):
    def depth(node: object) -> int:
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    body = encode({"anything": value})
    if depth(value) + 1 <= reading.DEPTH:
        assert READER.read(body)[0].anything == value
    else:
        assert "nested" in fault(body)[1]


def test_arrays_and_objects_are_counted():
    flat = b'{"anything": [' + b",".join([b"{}"] * (reading.NODES - 2)) + b"]}"
    READER.read(flat)
    assert "more than 100000 arrays and objects" in fault(flat.replace(b"]", b",[]]"))[1]


def test_unknown_names_are_reported_if_they_are_plain_and_few():
    names = ["limit", "user", "a b", "x\r\ny", "é", "y" * 65, "", *(f"new{i}" for i in range(30))]
    assert READER.read(encode(dict.fromkeys(names, 1)))[1] == tuple(f"new{i}" for i in range(16))


def test_unknown_names_within_objects_are_reported_with_their_way():
    paint = {"colour": "red", "gloss": 1, "smell": 1, "a b": 1, "thickness": {"x": 1}}
    assert READER.read(encode({"paint": {**paint, "thickness": 1}, "anything": paint}))[1] == ("paint.smell",)
    assert "UTF-8" in fault(b'{"paint": {"\xff": 1}}')[1]


@pytest.mark.parametrize("sent", [b'"x"', b"{}", b"false", b'"null"'])
def test_what_is_refused_is_refused_unless_it_is_null(sent):
    with pytest.raises(Unsupported, match="not read"):
        READER.read(b'{"raw": %b}' % sent)
    assert READER.read(b'{"raw": null }') == READER.read(b"{}")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"\ud83d\ude00", "😀"),
        (rb"\uD83D\uDE00\ude00", "😀\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
        (rb"a\ud83d", "a\ufffd"),
        (rb"\udc00b", "\ufffdb"),
        (rb"\\ud83d", "\\ud83d"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\ud83dx\\", "\ufffdx\\"),
    ],
)
def test_half_a_character_is_replaced_and_nothing_else(sent, read):
    assert READER.read(b'{"anything": {"%b": "%b"}}' % (sent, sent))[0].anything == {read: read}


@given(st.text(st.sampled_from('\\u"dD8cC0aé ')))
def test_whatever_is_no_half_stays_as_it_is(text):
    assert READER.read(encode({"anything": [text, rb"\ud800"]}))[0].anything[0] == text


def test_strings_and_escaped_halves_are_counted():
    many = reading.STRINGS
    assert fault(b'{"anything": [' + b'"",' * many + b"0]}") == (None, "The body has more than 100000 strings.")
    assert fault(b'{"anything": {' + b'"\\\\":0,' * 2 * many + b"}}")[1] == "The body has more than 100000 strings."
    READER.read(b'{"anything": "' + b'\\"' * 3 * many + b'"}')
    READER.read(b'{"anything": "' + b"\\ud83d\\ude00" * (reading.HALVES // 2) + b'"}')
    assert "escaped surrogates" in fault(b'{"anything": "' + b"\\uD83d" * (reading.HALVES + 1) + b'"}')[1]
