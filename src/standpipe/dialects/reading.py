"""Reading a request's body: JSON text into typed values, and every fault into a sentence that names the field.

Every dialect decodes into structs that declare the fields it knows, so what is not declared never gets in. This module
stands between the decoder and the client: it bounds the nesting before anything recurses, and turns the decoder's
terse messages into ours. It knows no format.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder

from standpipe.chat.errors import InvalidAsk

DEPTH = 16
"""Deepest nesting of arrays and objects in a body, the outermost counted."""
NODES = 10_000
"""Most arrays and objects in a body."""
DROPPED = 16
"""Most unknown names that are reported."""

T = TypeVar("T")

_BRACKETS = re.compile(rb"[\[{]+|[\]}]+")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_FIELDS: Decoder[dict[str, Raw]] = Decoder(dict[str, Raw])

_MALFORMED = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<at>\d+)\)")
_PLACE = re.compile(r" - at (?:`key` in )?`\$(?P<path>.*)`$")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPES = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}


def fields(body: bytes) -> dict[str, Raw]:
    """The fields of the outermost object, undecoded. Call it first: it holds the nesting against `DEPTH`.

    Raises InvalidAsk when this is not JSON, not an object or nested too deep.
    """
    if not body or body.isspace():
        raise InvalidAsk("The body is empty; it must be a JSON object.")
    _check_depth(body)
    return decode(body, _FIELDS)


def decode(body: bytes, decoder: Decoder[T]) -> T:
    """Decode a body whose `fields` were read. Raises InvalidAsk that names the field at fault."""
    try:
        return decoder.decode(body)
    except ValidationError as error:
        raise _wrong_value(str(error)) from None
    except DecodeError as error:
        raise _malformed(str(error), len(body)) from None
    except UnicodeDecodeError:
        raise _not_utf8(body) from None


def unknown(names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Those names that are not known, for a response header: at most `DROPPED`, and only plain ones."""
    strange = [name for name in names if name not in known]
    return tuple([name for name in strange if _NAME.fullmatch(name)][:DROPPED]) if strange else ()


def object_text(value: Raw, param: str) -> str:
    """The JSON text of an undecoded field that must be an object, as the client wrote it. Raises InvalidAsk."""
    text = bytes(value).strip()
    if not text.startswith(b"{"):
        raise InvalidAsk(f"`{param}` must be an object.", param=param)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidAsk(f"`{param}` is not UTF-8.", param=param) from None


def is_null(value: Raw | None) -> bool:
    """Whether an undecoded field is absent or null: both mean that it was not set."""
    return value is None or bytes(value).strip() == b"null"


def _check_depth(body: bytes) -> None:
    """Raise InvalidAsk for nesting beyond DEPTH or more than NODES, in linear time, whatever the bytes."""
    if _openings(body) <= DEPTH:
        return  # as in nearly every body
    # Without escaped backslashes and quotes, every quote begins or ends a string.
    bare = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    if _openings(bare) > NODES:
        raise InvalidAsk(f"The body has more than {NODES} arrays and objects.")
    depth = 0
    for brackets in _BRACKETS.findall(bare):
        if brackets[0] in b"[{":
            depth += len(brackets)
            if depth > DEPTH:
                raise InvalidAsk(f"The body is nested more than {DEPTH} levels deep.")
        else:
            depth -= len(brackets)


def _openings(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _malformed(message: str, size: int) -> InvalidAsk:
    if found := _MALFORMED.fullmatch(message):
        return InvalidAsk(f"The body is not JSON: {found['what']} at byte {found['at']}.")
    return InvalidAsk(f"The body is not whole JSON: it breaks off at byte {size}.")


def _not_utf8(body: bytes) -> InvalidAsk:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return InvalidAsk(f"The body is not UTF-8 at byte {error.start}.")
    raise AssertionError("a decoder found a fault in valid UTF-8")  # pragma: no cover


def _wrong_value(message: str) -> InvalidAsk:
    place = _PLACE.search(message)
    path = "" if place is None else place["path"].partition("[...]")[0].removeprefix(".")
    if missing := _MISSING.match(message):
        param = f"{path}.{missing['name']}" if path else missing["name"]
        return InvalidAsk(f"`{param}` is missing.", param=param)
    name = f"`{path}`" if path else "The body"
    if wrong := _WRONG_TYPE.match(message):
        return InvalidAsk(
            f"{name} must be {_spelled(wrong['wanted'])}, not {_spelled(wrong['got'])}.", param=path or None
        )
    if "out of range" in message:
        return InvalidAsk(f"{name} has a number that is out of range.", param=path or None)
    return InvalidAsk(f"{name} has a value that is not allowed.", param=path or None)


def _spelled(types: str) -> str:
    *others, last = (_TYPES.get(name, name) for name in types.split(" | "))
    return f"{', '.join(others)} or {last}" if others else last
