"""The arguments of a tool call, for formats in which they are a JSON object and not a text.

A model writes text. Where a format has no place for one that is no object, the answer has failed: a call with other
arguments than the model's would be carried out.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from standpipe.chat.errors import EngineFailed

_OBJECT = msgspec.json.Decoder(dict[str, Raw])


def is_object(arguments: str) -> bool:
    """Whether this is a whole JSON object."""
    try:
        _OBJECT.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def as_object(arguments: str) -> Raw:
    """The object on one line, for an encoder. A model that has nothing to say to a tool may leave it empty.

    Raises EngineFailed.
    """
    text = arguments or "{}"
    if not is_object(text):
        raise no_object()
    return Raw(msgspec.json.format(text.encode(), indent=-1))


def no_object() -> EngineFailed:
    """What a call is that no client could read."""
    return EngineFailed("The model called a tool with arguments that are not a JSON object. Please try again.")
