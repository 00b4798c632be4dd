"""What strangers may send: a whole request with one place changed, missing or damaged, and bytes that are nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["user", "text", "tool_use", "tool_result", "json", "$ref"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "name", "text", "$ref", "items", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*path, key))


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a JSON value with another in one place."""
    changed = copy.deepcopy(node)
    *way, last = path
    inner: Any = changed
    for key in way:
        inner = inner[key]
    inner[last] = value
    return changed


@st.composite
def bodies(draw: st.DrawFn, whole: dict[str, Any]) -> bytes:
    """Bodies like this whole request, nearly."""
    kind = draw(st.sampled_from(["changed", "changed", "missing", "damaged", "bytes"]))
    if kind == "bytes":
        return draw(JSON.map(msgspec.json.encode) | st.binary(max_size=40))
    if kind == "damaged":
        body = bytearray(msgspec.json.encode(whole))
        for _ in range(draw(st.integers(1, 4))):
            body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
        return bytes(body)
    path = draw(st.sampled_from(list(places(whole))[1:]))
    if kind == "changed":
        return msgspec.json.encode(put(whole, path, draw(JSON)))
    changed = copy.deepcopy(whole)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return msgspec.json.encode(changed)
