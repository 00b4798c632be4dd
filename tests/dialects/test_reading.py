from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from msgspec.json import Decoder, encode

from standpipe.chat.errors import InvalidAsk
from standpipe.dialects import reading


class Item(Struct):
    name: str
    size: int | None = None


class Body(Struct):
    items: list[Item] = []
    weights: dict[str, float] = {}
    either: str | list[Item] | None = None
    anything: Any = None


BODY = Decoder(Body)


def fault(body: bytes) -> tuple[str | None, str]:
    with pytest.raises(InvalidAsk) as caught:
        reading.fields(body)
        reading.decode(body, BODY)
    return caught.value.param, caught.value.message


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", None, "The body is empty; it must be a JSON object."),
        (b" \n", None, "The body is empty; it must be a JSON object."),
        (b'{"items": [}', None, "The body is not JSON: invalid character at byte 11."),
        (b'{"items": []} x', None, "The body is not JSON: trailing characters at byte 15."),
        (b'{"items": [', None, "The body is not whole JSON: it breaks off at byte 11."),
        (b'{"anything": NaN}', None, "The body is not JSON: invalid character at byte 13."),
        (b'{"anything": Infinity}', None, "The body is not JSON: invalid character at byte 13."),
        (b'{"anything": "\xff"}', None, "The body is not UTF-8 at byte 14."),
        (b'{"anything": "\\ud800 and so on"}', None, None),
        (b"[]", None, "The body must be an object, not an array."),
        (b"null", None, "The body must be an object, not null."),
        (b'{"items": {}}', "items", "`items` must be an array, not an object."),
        (b'{"items": [{"name": 1}]}', "items[0].name", "`items[0].name` must be a string, not an integer."),
        (b'{"items": [{}]}', "items[0].name", "`items[0].name` is missing."),
        (
            b'{"items": [{"name": "a", "size": true}]}',
            "items[0].size",
            "`items[0].size` must be an integer or null, not a boolean.",
        ),
        (b'{"either": 1}', "either", "`either` must be a string, an array or null, not an integer."),
        (b'{"weights": {"a": "b"}}', "weights", "`weights` must be a number, not a string."),
        (b'{"anything": 1e999}', "anything", "`anything` has a number that is out of range."),
        (b'{"anything": ' + b"9" * 5000 + b"}", "anything", "`anything` has a number that is out of range."),
    ],
)
def test_every_fault_is_said_and_names_its_field(body, param, message):
    found = fault(body)
    assert found[0] == param
    assert message is None or found[1] == message


def nested(levels: int) -> bytes:
    return b'{"anything":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_nesting_is_bounded():
    body = nested(reading.DEPTH)
    reading.decode(body, BODY)
    assert fault(nested(reading.DEPTH + 1)) == (None, "The body is nested more than 16 levels deep.")
    assert fault(b'{"unknown":' + b"[" * 9_000)[1] == "The body is nested more than 16 levels deep."


def test_brackets_in_strings_are_no_nesting():
    reading.fields(b'{"anything": "' + b"[{" * 50 + b'\\"[[[[\\\\", "items": []}')


def test_measuring_takes_linear_time_whatever_the_bytes():
    for hostile in (b'"' + b'\\"' * 200_000, b'"\\' * 200_000, b'"' * 400_001, b"\\" * 400_000, b"]" * 400_000):
        assert "not" in fault(b"[" * 9 + b"]" * 9 + b"{" * 9 + hostile)[1]


def test_many_flat_brackets_are_no_nesting():
    reading.fields(b'{"anything": [' + b",".join([b"[]"] * 100) + b"]}")


@settings(deadline=None)
@given(st.recursive(st.none() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2), max_leaves=60))
def test_the_depth_is_counted_right(value):
    def depth(node: object) -> int:
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    body = encode({"anything": value})
    if depth(value) + 1 <= reading.DEPTH:
        assert set(reading.fields(body)) == {"anything"}
    else:
        assert "nested" in fault(body)[1]


def test_arrays_and_objects_are_counted():
    flat = b'{"anything": [' + b",".join([b"{}"] * (reading.NODES - 2)) + b"]}"
    reading.decode(flat, BODY)
    reading.fields(flat)
    assert "more than 10000 arrays and objects" in fault(flat.replace(b"]", b",[]]"))[1]


def test_unknown_names_are_reported_if_they_are_plain_and_few():
    names = ["known", "a b", "x\r\ny", "é", "y" * 65, "", *(f"new{i}" for i in range(30))]
    assert reading.unknown(names, {"known"}) == tuple(f"new{i}" for i in range(16))


def test_null_means_not_set():
    sent = reading.fields(b'{"a": null, "b": 0}')
    assert reading.is_null(sent["a"])
    assert reading.is_null(sent.get("c"))
    assert not reading.is_null(sent["b"])
    assert not reading.is_null(Raw(b'"null"'))
