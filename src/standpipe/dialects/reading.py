"""Reading a request's body: JSON text into typed values, and every fault into a sentence that names the field.

Every dialect decodes into structs that declare the fields it knows, with their ranges, so what is not declared never
gets in. This module stands between the decoder and the client: it bounds the nesting before anything recurses, and
turns the decoder's terse messages into ours. It knows no format.

Half a character (a lone surrogate, as programs leave it that cut text by 16-bit units) becomes U+FFFD wherever it
stands: it comes from real conversations, and a client that sends one sends it for ever.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from msgspec import DecodeError, Raw, Struct, ValidationError, inspect
from msgspec.json import Decoder

from standpipe.chat.errors import InvalidAsk, Unsupported

DEPTH: Final = 64
"""Deepest nesting of arrays and objects in a body, the outermost counted."""
NODES: Final = 100_000
"""Most arrays and objects in a body."""
STRINGS: Final = 100_000
"""Most strings in a body, names of fields included: each costs the loop as much as a page of text."""
HALVES: Final = 200_000
"""Most escaped halves of characters in a body."""
DROPPED: Final = 16
"""Most unknown names that are reported."""

T = TypeVar("T", bound=Struct)
V = TypeVar("V")

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE: Final = re.compile(
    # One beginning for both halves: it is what a search in megabytes of other text is fast by.
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!%b)|(?<!%b\\u[dD])[c-fC-F][0-9a-fA-F]{2})" % (_LOW, _HIGH)
)

_FIELDS: Final[Decoder[dict[str, Raw]]] = Decoder(dict[str, Raw])

_MALFORMED: Final = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<at>\d+)\)")
_PATH: Final = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>.*)`$")
_STEPS: Final = re.compile(r"\w+|\.\.\.")
_WRONG_TYPE: Final = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPES: Final = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}


class Reader(Generic[T]):
    """Reads the requests of one path.

    Args:
        kind: what they are decoded into.
        ignored: the fields that say nothing to us, and change no answer; dots lead into objects.
        refused: the fields that would change an answer in a way that we cannot, with what to say.
    """

    def __init__(
        self, kind: type[T], *, ignored: Collection[str] = (), refused: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.kind = kind
        self.ignored = frozenset(ignored)
        self.refused = refused
        self.taken = frozenset(kind.__struct_fields__)
        """The fields that are read."""
        self._decoder = Decoder(kind)
        self._known = frozenset(_known(inspect.type_info(kind))) | self.ignored | refused.keys()
        self._flat = frozenset(name for name in self._known if f"{name}." not in self._known)

    def read(self, body: bytes) -> tuple[T, tuple[str, ...]]:
        """The request, and the names of fields that nobody knows: at most `DROPPED`, and only plain ones.

        Raises InvalidAsk or Unsupported.
        """
        text = body.removeprefix(_BYTE_ORDER_MARK)
        _check_counts(text)
        text = whole(text)
        sent = _fields(text)
        for name, message in self.refused.items():
            if name in sent and not is_null(sent[name]):
                raise Unsupported(message, param=name)
        request = _decode(text, self._decoder)
        if sent.keys() <= self._flat:
            return request, ()  # as in nearly every body
        try:
            return request, tuple(islice(self._unknown(sent, ""), DROPPED))
        except UnicodeDecodeError:  # in the name of a field inside an object
            raise _not_utf8(text) from None

    def _unknown(self, sent: Mapping[str, Raw], path: str) -> Iterator[str]:
        for name, value in sent.items():
            if f"{path}{name}" not in self._known:
                if _NAME.fullmatch(name):
                    yield f"{path}{name}"
            elif f"{path}{name}." in self._known and bytes(value)[:1] == b"{":
                yield from self._unknown(_FIELDS.decode(value), f"{path}{name}.")

    def __repr__(self) -> str:
        return f"<Reader of {self.kind.__module__}.{self.kind.__name__}>"


def whole(text: bytes) -> bytes:
    r"""JSON text in which every escaped half of a character is U+FFFD, in linear time. Raw bytes are the decoder's."""
    if b"\\" not in text or (rb"\ud" not in text and rb"\uD" not in text) or b"\0" in text:
        return text
    return _LONE.sub(rb"\\ufffd", text.replace(rb"\\", b"\0\0")).replace(b"\0\0", rb"\\")


def is_null(value: Raw | None) -> bool:
    """Whether an undecoded field is absent or null: both mean that it was not set."""
    return value is None or bytes(value).strip() == b"null"


def _fields(body: bytes) -> dict[str, Raw]:
    """The fields of the outermost object, undecoded, of a body that is not nested too deep."""
    if not body or body.isspace():
        raise InvalidAsk("The body is empty; it must be a JSON object.")
    _check_depth(body)
    return _decode(body, _FIELDS)


def _decode(body: bytes, decoder: Decoder[V]) -> V:
    try:
        return decoder.decode(body)
    except ValidationError as error:
        raise _wrong_value(str(error), decoder.type) from None
    except DecodeError as error:
        raise _malformed(str(error), len(body)) from None
    except UnicodeDecodeError:
        raise _not_utf8(body) from None


def _known(info: inspect.Type, path: str = "") -> Iterator[str]:
    """The paths of all fields of a type, with a dot at the end for each object within which others are unknown."""
    for one in _members(info):
        if isinstance(one, inspect.StructType):
            if path:
                yield path
            for field in one.fields:
                yield f"{path}{field.encode_name}"
                yield from _known(field.type, f"{path}{field.encode_name}.")


def _check_counts(body: bytes) -> None:
    """Raise InvalidAsk for more than STRINGS or HALVES, in linear time, whatever the bytes."""
    if len(body) <= 2 * STRINGS:
        return  # as nearly every body
    # An escaped quote is none. Behind an escaped backslash stands a real one, but never one that begins a string.
    if body.count(b'"') - body.count(rb"\"") > 2 * STRINGS:
        raise InvalidAsk(f"The body has more than {STRINGS} strings.")
    if body.count(rb"\ud") + body.count(rb"\uD") > HALVES:
        raise InvalidAsk(
            f"The body has more than {HALVES} escaped surrogates. Send such characters as UTF-8, without escapes."
        )


def _check_depth(body: bytes) -> None:
    """Raise InvalidAsk for nesting beyond DEPTH or more than NODES, in linear time, whatever the bytes."""
    if _openings(body) <= DEPTH:
        return  # as in nearly every body
    # Without escaped backslashes and quotes, every quote begins or ends a string.
    bare = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    if _openings(bare) > NODES:
        raise InvalidAsk(f"The body has more than {NODES} arrays and objects.")
    # Level by level from the inside: what closes at once goes, and what was around it closes at once then.
    brackets = bare.translate(_SQUARE, _NO_BRACKETS)
    for _ in range(DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > DEPTH:
        raise InvalidAsk(f"The body is nested more than {DEPTH} levels deep.")


def _openings(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


# Faults in words ----------------------------------------------------------------------------------------------------


def _malformed(message: str, size: int) -> InvalidAsk:
    if found := _MALFORMED.fullmatch(message):
        return InvalidAsk(f"The body is not JSON: {found['what']} at byte {found['at']}.")
    return InvalidAsk(f"The body is incomplete JSON: it ends at byte {size}.")


def _not_utf8(body: bytes) -> InvalidAsk:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return InvalidAsk(f"The body is not UTF-8 at byte {error.start}.")
    raise AssertionError("a decoder found a fault in valid UTF-8")  # pragma: no cover


def _wrong_value(message: str, kind: Any) -> InvalidAsk:
    found = _PATH.search(message)
    path = "" if found is None else found["path"]
    param = path.partition("[...]")[0].removeprefix(".")
    if missing := _MISSING.match(message):
        param = f"{param}.{missing['name']}" if param else missing["name"]
        return InvalidAsk(f"`{param}` is missing.", param=param)
    name = f"`{param}`" if param else "The body"
    in_key = found is not None and found["key"] is not None
    if in_key or path.endswith("[...]"):
        name = f"Each {'key' if in_key else 'value'} of {name}"
    if wrong := _WRONG_TYPE.match(message):
        said = f"must be {_spelled(wrong['wanted'])}, not {_spelled(wrong['got'])}"
    else:
        said = next(_said(_at(kind, path, in_key=in_key), message), "has a value that is not allowed")
    return InvalidAsk(f"{name} {said}.", param=param or None)


def _at(kind: Any, path: str, *, in_key: bool) -> list[inspect.Type]:
    """What a type allows in one place."""
    found = list(_members(inspect.type_info(kind)))
    for step in _STEPS.findall(path):
        found = [inner for one in found for inner in _step(one, step)]
    if in_key:
        return [key for one in found if isinstance(one, inspect.DictType) for key in _members(one.key_type)]
    return found


def _step(info: inspect.Type, step: str) -> Iterator[inspect.Type]:
    match info:
        case inspect.StructType():
            for field in info.fields:
                if field.encode_name == step:
                    yield from _members(field.type)
        case inspect.DictType() if step == "...":
            yield from _members(info.value_type)
        case inspect.CollectionType() if step.isdecimal():
            yield from _members(info.item_type)


def _members(info: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, or this one alone."""
    yield from info.types if isinstance(info, inspect.UnionType) else (info,)


def _said(allowed: list[inspect.Type], message: str) -> Iterator[str]:
    """What such a value must be, of the types that the decoder's message is about."""
    if "out of range" in message:
        yield "has a number that is out of range"
    switch = "true, false or " if any(isinstance(one, inspect.BoolType) for one in allowed) else ""
    for one in allowed:
        match one:
            case inspect.Metadata(extra_json_schema={"description": description}):
                yield f"must be {description}"
            case inspect.IntType(ge=low, le=high) | inspect.FloatType(ge=low, le=high) if "of length" not in message:
                yield f"must be at least {low}" if high is None else f"must be between {low} and {high}"
            case inspect.StrType(min_length=low, max_length=int(high)) if "`str` of length" in message:
                yield f"must have {low} to {high} characters" if low else f"may have at most {high} characters"
            case inspect.CollectionType(max_length=high) | inspect.DictType(max_length=high) if "of length" in message:
                yield "must not be empty" if ">=" in message else f"may have at most {high} entries"
            case inspect.LiteralType(values=words) if "enum" in message:
                yield f"must be {switch}one of {', '.join(f'`{word}`' for word in words)}"
            case inspect.EnumType(cls=words) if "enum" in message:
                yield f"must be one of {', '.join(f'`{word.value}`' for word in words)}"


def _spelled(types: str) -> str:
    *others, last = (_TYPES.get(name, name) for name in types.split(" | "))
    return f"{', '.join(others)} or {last}" if others else last
