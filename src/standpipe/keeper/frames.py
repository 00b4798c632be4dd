"""Frames: how messages become bytes, and bytes messages.

A frame is a length of 4 bytes and a msgpack list of messages, each an array that begins with its tag. All that one turn
of the loop has to say goes into one frame. Pure, and knows no message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec
from msgspec.msgpack import Decoder, Encoder

LARGEST = 16 * 1024 * 1024
"""Bytes of a frame. Whoever sends a longer one is not believed any more."""
_HEAD = 4


class Broken(Exception):
    """The other side does not speak this language."""


class Reader:
    """Cuts bytes into frames and frames into messages. Raises Broken."""

    __slots__ = ("_all", "_buffer", "_one", "_tags")

    def __init__(self, kinds: Any) -> None:
        """`kinds` is the `Up` or the `Down` of `messages`."""
        self._buffer = bytearray()
        self._all: Decoder[list[Any]] = Decoder(list[kinds])
        self._one: Decoder[Any] = Decoder(kinds)
        self._tags = frozenset(kind.__struct_config__.tag for kind in get_args(kinds))

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole with these bytes."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _HEAD:
                length = int.from_bytes(buffer[start : start + _HEAD], "big")
                if length > LARGEST:
                    raise Broken(f"a frame of {length} bytes")
                end = start + _HEAD + length
                if len(buffer) < end:
                    break
                body = bytes(buffer[start + _HEAD : end])
                start = end
                yield from self._messages(body)
        finally:
            del buffer[:start]

    def _messages(self, body: bytes) -> list[Any]:
        try:
            return self._all.decode(body)
        except msgspec.ValidationError:
            return self._known(body)
        except msgspec.DecodeError as error:
            raise Broken(str(error)) from error

    def _known(self, body: bytes) -> list[Any]:
        """A frame that holds something unknown: all of it that is known."""
        try:
            return [self._one.decode(raw) for raw in _RAWS.decode(body) if _TAG.decode(raw)[0] in self._tags]
        except (msgspec.DecodeError, IndexError) as error:
            raise Broken(str(error)) from error


_RAWS = Decoder(list[msgspec.Raw])
_TAG = Decoder(list[Any])

_encode = Encoder().encode


def pack(messages: Sequence[Any]) -> bytes:
    """One frame with these messages; more where it would be too long. Raises Broken for one that is too long alone."""
    body = _encode(messages)
    if len(body) <= LARGEST:
        return len(body).to_bytes(_HEAD, "big") + body
    if len(messages) == 1:
        raise Broken(f"a message of {len(body)} bytes")
    half = len(messages) // 2
    return pack(messages[:half]) + pack(messages[half:])
