"""GGUF headers: what a weights file says about itself, read and never written.

Knows the container only: key-value metadata at the head of the file, and how files are split into parts. Tensors are
not looked at; whether they are sound is the checksum's and the engine's business. Everything read is bounded, for a
file that an operator names may be anything.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

from msgspec import Struct

from standpipe.models.catalog import ModelUnavailable, Shape

_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9
_MAX_KEYS: Final = 1 << 16
_MAX_TEXT: Final = 1 << 24
_MAX_ITEMS: Final = 1 << 24
_KEPT_ITEMS: Final = 1024
"""Longer arrays are vocabularies: passed over, not kept."""
_NEEDED: Final = ("context_length", "block_count", "embedding_length", "attention.head_count")
_PART: Final = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


class Header(Struct, frozen=True):
    """What a file, or the first of several parts, says. `parts` are all its files, in order."""

    architecture: str
    shape: Shape
    parts: tuple[Path, ...]
    title: str | None = None


class _Malformed(Exception):
    """Not GGUF, or not a GGUF that can be read."""


def read(path: Path) -> Header:
    """Read the header of a model. Raises ModelUnavailable: no such file, parts missing, not GGUF."""
    try:
        parts = _parts(path)
        size = sum(part.stat().st_size for part in parts)
        with path.open("rb") as file:
            values = _metadata(file)
    except OSError as error:
        raise ModelUnavailable(f"The model file {path} cannot be read: {error.strerror or error}.") from error
    except (_Malformed, struct.error, UnicodeDecodeError) as error:
        raise ModelUnavailable(
            f"{path} is not a readable GGUF file ({error}). The embedded engine loads GGUF weights only; if this is "
            "one, it is damaged or its download is incomplete."
        ) from error
    architecture = str(values.get("general.architecture", "unknown"))
    title = values.get("general.name")
    return Header(
        architecture=architecture,
        shape=_shape(values, architecture, size),
        parts=parts,
        title=title if isinstance(title, str) else None,
    )


def _parts(path: Path) -> tuple[Path, ...]:
    """All files of the model whose first file this is."""
    split = _PART.match(path.name)
    if split is None:
        return (path,)
    if int(split["number"]) != 1:
        first = f"{split['stem']}-00001-of-{split['count']}.gguf"
        raise ModelUnavailable(f"{path.name} is a later part of a model. Name its first part, {first}, instead.")
    names = (f"{split['stem']}-{n:05}-of-{split['count']}.gguf" for n in range(1, int(split["count"]) + 1))
    parts = tuple(path.with_name(name) for name in names)
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise ModelUnavailable(f"The model {path} has {len(parts)} parts; missing beside it: {missing}.")
    return parts


def _metadata(file: BinaryIO) -> dict[str, Any]:
    """The metadata that matters here. Stops at the vocabulary once nothing more is needed: it is long."""
    if file.read(4) != b"GGUF":
        raise _Malformed("it does not start with GGUF")
    version, _, count = struct.unpack("<IQQ", file.read(20))
    if version not in {2, 3}:
        raise _Malformed(f"version {version} of the format is unknown")
    if count > _MAX_KEYS:
        raise _Malformed(f"{count} metadata keys")
    values: dict[str, Any] = {}
    for _ in range(count):
        key = _text(file)
        if key.startswith("tokenizer.") and _complete(values):
            break
        values[key] = _value(file, _number(file, "I"))
    return values


def _complete(values: dict[str, Any]) -> bool:
    architecture = values.get("general.architecture")
    return all(f"{architecture}.{key}" in values for key in _NEEDED)


def _number(file: BinaryIO, code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]


def _text(file: BinaryIO) -> str:
    length = _number(file, "Q")
    if length > _MAX_TEXT:
        raise _Malformed(f"a text of {length} bytes")
    return file.read(length).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    """One value; None for an array that is not kept."""
    if kind in _SCALARS:
        return _number(file, _SCALARS[kind])
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        raise _Malformed(f"a value of unknown kind {kind}")
    inner, count = _number(file, "I"), _number(file, "Q")
    if count > _MAX_ITEMS or inner == _ARRAY:
        raise _Malformed(f"an array of {count} items of kind {inner}")
    if count <= _KEPT_ITEMS:
        return [_value(file, inner) for _ in range(count)]
    if inner in _SCALARS:
        file.seek(struct.calcsize("<" + _SCALARS[inner]) * count, 1)
        return None
    for _ in range(count):
        _value(file, inner)
    return None


def _shape(values: dict[str, Any], architecture: str, size: int) -> Shape:
    """The memory facts. What the header does not say counts as nothing, so that odd models are not refused."""

    def fact(key: str) -> int:
        value = values.get(f"{architecture}.{key}")
        if isinstance(value, list):  # one number for each layer
            numbers = [item for item in value if isinstance(item, int)]
            return max(numbers, default=0)
        return value if isinstance(value, int) else 0

    heads = fact("attention.head_count")
    head = fact("embedding_length") // heads if heads else 0
    return Shape(
        bytes=size,
        context=fact("context_length"),
        layers=fact("block_count"),
        kv_heads=fact("attention.head_count_kv") or heads,
        key_length=fact("attention.key_length") or head,
        value_length=fact("attention.value_length") or head,
    )
