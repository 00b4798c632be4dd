"""What a dialect does with each field of a published request, found out by asking the dialect itself.

Which fields there are is read from two sides: the structs that a dialect decodes into, and the types of requests in
the official packages, which are made from the published schemas. What becomes of a field is not written down anywhere:
it is put into a specimen of a request, and the specimen is parsed. A field that a specimen holds already is supported,
because a specimen is accepted whole. Any other is refused, if the dialect raises, or else ignored. Notes are the
dialect's own sentences about values that are wrong. So a table cannot say anything that the code does not do.
"""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, Union, get_args, get_origin

import msgspec
from msgspec import Struct
from pydantic import BaseModel
from typing_extensions import (
    get_type_hints,
    is_typeddict,
)

from standpipe.chat.errors import Failure

SUPPORTED, REFUSED, IGNORED = "supported", "refused", "ignored"

Parse = Callable[[bytes], tuple[str, ...]]
"""Reads a body, gives back the names that were dropped and are told to the client. Raises Failure."""

_LISTS = (list, Sequence, Iterable)
_TAGS = ("type", "role")
_MANY = 5000
_PLAIN: dict[Any, Any] = {str: "x", int: 1, float: 1.0, bool: True}
_DECODER = re.compile(r"must be .*, not |is missing")  # a complaint about types: the value was not of this kind


class Row(NamedTuple):
    """One line of a table. `field` is a path, with `[]` for the elements of a list; `kinds` are the kinds of objects in
    that place that the line is about, when it is not about all."""

    field: str
    status: str
    note: str = ""
    kinds: str = ""


class _Place(NamedTuple):
    """A value inside one of the specimens: the specimen, and the way to the value."""

    body: Any
    way: tuple[str | int, ...]

    @property
    def value(self) -> Any:
        value = self.body
        for step in self.way:
            value = value[step]
        return value

    def child(self, *steps: str | int) -> _Place:
        return _Place(self.body, (*self.way, *steps))

    def with_value(self, value: Any) -> bytes:
        """The specimen with another value in this place."""
        *way, last = self.way
        body = copy.deepcopy(self.body)
        _Place(body, tuple(way)).value[last] = value
        return msgspec.json.encode(body)

    def objects(self) -> Iterator[_Place]:
        """The object that stands here, or those in the list that does."""
        if isinstance(self.value, dict):
            yield self
        elif isinstance(self.value, list):
            for i, value in enumerate(self.value):
                if isinstance(value, dict):
                    yield self.child(i)


class Table:
    """The table of one dialect.

    Args:
        parse: the dialect.
        struct: what it decodes a request into.
        published: the official package's types of a request; a field of any of them is one of the format.
        specimens: requests that are accepted, which together hold everything that is supported.
        more: fields beyond the published ones that clients are known to send.
    """

    def __init__(
        self,
        parse: Parse,
        struct: type[Struct],
        published: Sequence[Any],
        specimens: Sequence[dict[str, Any]],
        more: Collection[str] = (),
    ) -> None:
        self._parse = parse
        self._struct = struct
        self._published = (*published, dict.fromkeys(more, dict[str, str]))
        self._places = [_Place(specimen, ()) for specimen in specimens]

    def rows(self) -> list[Row]:
        """Raises Failure for a specimen that is refused, ValueError where they lack what is supported."""
        for place in self._places:
            self._parse(msgspec.json.encode(place.body))
        return list(self._rows("", self._struct, self._published, self._places, ()))

    def _rows(
        self, path: str, struct: type[Struct], records: Sequence[Any], places: list[_Place], around: tuple[Any, ...]
    ) -> Iterator[Row]:
        """The rows of one kind of object. `around` are the structs that it stands in."""
        ours = get_type_hints(struct)
        others = sorted({name for record in records for name in _hints(record)} - ours.keys())
        absent: list[Row] = []
        for name in (*ours, *others):
            held = [place.child(name) for place in places if place.value.get(name) is not None]
            if not held:
                absent += self._absent(path, name, ours, records, places)
                continue
            if name not in ours:
                absent.append(Row(f"{path}{name}", IGNORED))
                continue
            hints = [hint for record in records if (hint := _hints(record).get(name)) is not None]
            yield from self._held(f"{path}{name}", ours[name], hints, held, (*around, struct))
        yield from (row for row in absent if row.status == REFUSED)
        yield from sorted((row for row in absent if row.status == IGNORED), key=lambda row: row.note)

    def _held(
        self, field: str, ours: Any, hints: Sequence[Any], held: list[_Place], around: tuple[Any, ...]
    ) -> Iterator[Row]:
        """A field that specimens hold, and what is inside it."""
        inner = next((one for one in _leaves(ours) if isinstance(one, type) and issubclass(one, Struct)), None)
        records = [one for hint in hints for one in _leaves(hint) if _is_record(one)]
        tag = next((tag for tag in _TAGS if records and all(_kinds(record, tag) for record in records)), None)
        objects = [one for place in held for one in place.objects()]
        if field.rpartition(".")[2] in _TAGS:
            yield Row(field, SUPPORTED, _listed(dict.fromkeys(place.value for place in held)))
            return
        yield Row(field, SUPPORTED, "; ".join(self._complaints(field, ours, held)))
        if inner is None or inner in around:
            return
        here = f"{field}[]" if any(isinstance(place.value, list) for place in held) else field
        if tag is not None:
            known = {one.value.get(tag) for one in objects}
            yield from self._other_kinds(here, tag, [one for one in records if not _kinds(one, tag) & known], objects)
            records = [one for one in records if _kinds(one, tag) & known]
        yield from self._rows(f"{here}.", inner, records, objects, around)

    def _other_kinds(self, path: str, tag: str, records: Sequence[Any], places: list[_Place]) -> Iterator[Row]:
        """Kinds of objects of which no specimen holds one."""
        found: dict[tuple[str, str], list[str]] = {}
        for record in records:
            for kind in sorted(_kinds(record, tag)):
                value = {**_made_up(record), tag: kind}
                status, note, _ = self._tried([place.with_value(value) for place in places], path.partition("[")[0])
                found.setdefault((status, note.replace(f"`{kind}`", "…")), []).append(kind)
        unsaid = found.pop((REFUSED, ""), [])
        if unsaid:
            found.setdefault(next(iter(found), (REFUSED, "")), []).extend(unsaid)
        for (status, note), kinds in found.items():
            yield Row(path, status, note, f"of {tag} {_listed(sorted(set(kinds)))}")

    def _absent(
        self, path: str, name: str, ours: Mapping[str, Any], records: Sequence[Any], places: list[_Place]
    ) -> Iterator[Row]:
        """A field that no specimen holds: put in, wherever the format has it. One that the format does not have here,
        because a struct of ours stands for several kinds of objects, gets no row."""
        bodies = []
        for record in records:
            if (hint := _hints(record).get(name)) is not None:
                bodies += [
                    place.child(name).with_value(_made_up(hint)) for place in places if _fits(record, place.value)
                ]
        if not bodies:
            return
        field = f"{path}{name}"
        status, note, dropped = self._tried(bodies)
        if status == IGNORED and name in ours:
            raise ValueError(f"no specimen holds {field}, which is supported")
        yield Row(field, status, "named in `x-standpipe-dropped`" if field in dropped else note)

    def _tried(self, bodies: Sequence[bytes], field: str = "") -> tuple[str, str, tuple[str, ...]]:
        """Refused, if one of these is for that field, with what is said then; or ignored, with what was dropped."""
        dropped: tuple[str, ...] = ()
        for body in bodies:
            try:
                dropped += self._parse(body)
            except Failure as failure:
                if not (failure.param or "").startswith(field):
                    continue
                return REFUSED, "" if _DECODER.search(failure.message) else _sentence(failure.message), ()
        return IGNORED, "", dropped

    def _complaints(self, field: str, hint: Any, places: Sequence[_Place]) -> list[str]:
        """What the dialect says to values that are out of range, each sentence once."""
        found: dict[str, None] = {}
        for place in places:
            for value in _wrong(place.value, hint):
                try:
                    self._parse(place.with_value(value))
                except Failure as failure:
                    blamed = re.sub(r"\[\d+\]", "[]", failure.param or "")
                    if blamed in {field, f"{field}[]"} and not _DECODER.search(failure.message):
                        found[_shortened(_sentence(failure.message), field)] = None
        return list(found)


def _wrong(value: Any, hint: Any) -> Iterator[Any]:
    """Values of the same type that may be out of range."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (10**12, -(10**12), 2**63)
        case str():
            yield from ("", "?", "?" * _MANY)
        case list():
            yield from ([], [1], ["?"], [""], value[:1] * _MANY)
        case dict() if any(get_origin(one) is dict and Any not in get_args(one) for one in _leaves(hint)):
            key, inner = next(iter(value.items()))
            yield {f"{i}": inner for i in range(_MANY)}
            yield {"?" * _MANY: inner}
            yield from ({key: wrong} for wrong in _wrong(inner, None))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _sentence(message: str) -> str:
    return re.sub(r"\[\d+\]", "[]", message).removesuffix(".")


def _shortened(sentence: str, field: str) -> str:
    """Without the name of the field, where the sentence says what it must be."""
    named = re.match(re.escape(f"`{field}") + r"(?:\[\])?` (?=must|may)", sentence)
    return sentence[named.end() :].removeprefix("must be ") if named else sentence


# Published types ----------------------------------------------------------------------------------------------------


def _hints(record: Any) -> dict[str, Any]:
    """The fields of a published type, or of what is spelled like the fields of one."""
    if isinstance(record, dict):
        return record
    if is_typeddict(record):
        return get_type_hints(record)
    return {name: field.annotation for name, field in record.model_fields.items()}


def _is_record(one: Any) -> bool:
    return is_typeddict(one) or (isinstance(one, type) and issubclass(one, BaseModel))


def _leaves(hint: Any) -> Iterator[Any]:
    """The types that a hint is made of, without unions, lists and marks."""
    origin = get_origin(hint)
    if origin in {Annotated, Required, NotRequired}:
        yield from _leaves(get_args(hint)[0])
    elif origin in {Union, types.UnionType} or origin in _LISTS:
        for one in get_args(hint):
            yield from _leaves(one)
    else:
        yield hint


def _kinds(record: Any, tag: str) -> set[str]:
    """The words that this tag of a record may be."""
    words: set[str] = set()
    for one in _leaves(_hints(record).get(tag)):
        if get_origin(one) is Literal:
            words |= {word for word in get_args(one) if isinstance(word, str)}
    return words


def _fits(record: Any, value: Mapping[str, Any]) -> bool:
    """Whether an object is one of these, as far as its tags tell."""
    return all(not (kinds := _kinds(record, tag)) or value.get(tag) in {*kinds, None} for tag in _TAGS)


def _required(record: Any) -> Iterator[str]:
    """The fields of a published type without which it is none."""
    if not is_typeddict(record):
        yield from (name for name, field in record.model_fields.items() if field.is_required())
        return
    for name, hint in get_type_hints(record, include_extras=True).items():
        origin: Any = get_origin(hint)
        if origin is Required:
            yield name


def _made_up(hint: Any) -> Any:
    """Some value of a published type, or of one of ours, that says something."""
    origin: Any = get_origin(hint)
    if origin in {Annotated, Required, NotRequired}:
        return _made_up(get_args(hint)[0])
    if origin in {Union, types.UnionType}:
        return _made_up(next(one for one in get_args(hint) if one is not type(None)))
    if origin in _LISTS:
        return [_made_up(get_args(hint)[0])]
    if origin is Literal:
        return get_args(hint)[0]
    if _is_record(hint):
        return {name: _made_up(_hints(hint)[name]) for name in _required(hint)}
    return _PLAIN.get(hint, {"x": "x"})
