"""The bodies of OpenAI's model routes. Which names there are is not known here."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.json import encode


class _Model(Struct, frozen=True):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "standpipe"


class _Models(Struct, frozen=True):
    data: tuple[_Model, ...]
    object: str = "list"


def models_list(names: Sequence[str], created: int) -> bytes:
    """The body of GET /v1/models. `created` is in Unix seconds."""
    return encode(_Models(tuple(_Model(name, created) for name in names)))


def model(name: str, created: int) -> bytes:
    """The body of GET /v1/models/{name}."""
    return encode(_Model(name, created))
