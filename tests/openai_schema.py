"""OpenAI's published schemas, as the types that are generated from them and come with the official package.

The types let an answer pass that lacks a field which may be null. But the generator lists what a schema requires first,
and each part of the list in alphabetical order (an `id` before all): so the required fields are those before the order
begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import msgspec
from openai.types.responses import FunctionTool, Response
from pydantic import BaseModel, TypeAdapter

_NULLABLE = (Response, FunctionTool)
"""Types of which this is held: those with required fields that may be null."""


def hold(kind: Any, data: bytes) -> Any:
    """Hold JSON against a type, strictly, and give back the value."""
    value = _adapter(kind).validate_json(data, strict=True)
    for model in _models(value):
        if isinstance(model, _NULLABLE):
            missing = required(type(model)) - model.model_fields_set
            assert not missing, f"{type(model).__name__} without {missing}"
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Making one takes much longer than using it."""
    return TypeAdapter(kind)


def required(kind: type[BaseModel]) -> set[str]:
    """The fields that the schema of a type in `_NULLABLE` requires."""
    names = list(kind.model_fields)
    listed = names[1:] if names[0] == "id" else names
    end = next((place for place, (a, b) in enumerate(pairwise(listed), 1) if b < a), len(listed))
    return {*names[: len(names) - len(listed)], *listed[:end]}


def fields_sent(kind: Any) -> set[str]:
    """All fields of a request, from the TypedDict or the union of them that describes it."""
    return {name for one in get_args(kind) or (kind,) for name in one.__annotations__}


def _models(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        for name in value.model_fields_set:
            yield from _models(getattr(value, name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _models(one)


def events(stream: bytes) -> list[tuple[str, bytes]]:
    """The named events of a stream of server-sent events, each with its data."""
    found = []
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), data.removeprefix("data: ").encode()))
    return found


def decoded(stream: bytes) -> list[Any]:
    """The data of those events, decoded."""
    return [msgspec.json.decode(data) for _, data in events(stream)]
