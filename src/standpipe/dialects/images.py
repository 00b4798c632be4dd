"""Images in requests: from what a client wrote to an `Image`, and which of them an engine is shown.

An image comes in the request itself, as base64; an address is never followed. What is no PNG, JPEG, GIF or WebP, or is
larger than an engine should have to unfold, is refused. As everywhere, only the new is judged: what can't be shown of
the past becomes the words that there was something. Knows no format, and no engine.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from standpipe.chat.ask import Ask, Image, Message, Part, Role, Text, ToolResult, now
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects.bounds import IMAGE_PIXELS, IMAGE_SIDE, IMAGES, IMAGES_PIXELS
from standpipe.dialects.image_header import header_of

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
LOOKS: Final = 8192
"""Pieces of headers that are read of all images of one request: some twenty milliseconds."""
_DATA_URL: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def words_for(medium: str) -> str:
    """What stands in the place of something that a model cannot be given."""
    return f"[{medium} that cannot be shown here]"


class Album:
    """Reads the images of one request, for as long as there is time to look at them: whoever makes a header long, or
    sends thousands, would keep everybody waiting."""

    __slots__ = ("_looks",)

    def __init__(self, looks: int = LOOKS) -> None:
        """`looks` is how many pieces of headers may be read; an image takes about ten."""
        self._looks = looks

    def from_url(self, url: str | None, path: str) -> Image:
        """The image in a data URL that stands in `path`. Raises as `from_base64`, and Unsupported for any other."""
        found = _DATA_URL.match(url or "")
        if url is None or found is None:
            raise Unsupported(
                f"`{path}` refers to an image elsewhere, and none is fetched: send the image itself, in base64.",
                param=path,
            )
        return self.from_base64(url[found.end() :], path)

    def from_base64(self, text: str | None, path: str) -> Image:
        """The image of this base64, which stands in `path`. What a client calls its type does not matter.

        Raises InvalidAsk for what is no base64 or no image, TooLarge for too many pixels or images.
        """
        if self._looks <= 0:
            raise TooLarge(f"`{path}` is an image too many for one request.", param=path)
        size = _decoded_size(text or "")
        if text is None or size is None:
            raise InvalidAsk(f"`{path}` is an image whose base64 is not valid.", param=path)

        def read(at: int, most: int) -> bytes:
            self._looks -= 1
            if self._looks < 0:
                return b""
            skipped = at % 3
            start = (at - skipped) // 3 * 4
            return a2b_base64(text[start : start + (skipped + most + 2) // 3 * 4])[skipped : skipped + most]

        header = header_of(read)
        if header is None:
            raise InvalidAsk(f"`{path}` is not a readable image: it must be a PNG, JPEG, GIF or WebP.", param=path)
        if max(header.width, header.height) > IMAGE_SIDE or header.width * header.height > IMAGE_PIXELS:
            raise TooLarge(
                f"`{path}` is an image of {header.width} x {header.height} pixels. The limits are {IMAGE_SIDE} in "
                f"either direction and {IMAGE_PIXELS} in all.",
                param=path,
            )
        return Image(header.media_type, text, header.width, header.height, path)


def _decoded_size(text: str) -> int | None:
    """How many bytes this base64 stands for; None where it is none."""
    if not text.isascii() or not text or len(text) % 4:
        return None
    padding = text.encode().translate(None, _ALPHABET)
    if padding not in {b"", b"=", b"=="} or not text.endswith(padding.decode()):
        return None
    return len(text) // 4 * 3 - len(padding)


def shown(ask: Ask, *, sees: bool, past: bool = True, others: Sequence[str] = ()) -> Ask:
    """The ask with those images that its engine is shown; where others were, in the past, are words.

    `sees` is whether its model sees any, `past` whether it is to see those of the past, `others` are models that do.
    The newest are shown where there are too many. Raises Unsupported for a new image that no engine sees, TooLarge for
    more of them than one ask may have.
    """
    end_of_past = now([message.role is Role.ASSISTANT for message in ask.messages])
    room = _Room(others, new=sees, past=sees and past)
    messages = list(ask.messages)
    for i in reversed(range(len(messages))):
        if messages[i].images:
            messages[i] = _with_words(messages[i], room, past=i < end_of_past)
    return replace(ask, messages=tuple(messages))


class _Room:
    """How many images still go into one ask."""

    def __init__(self, others: Sequence[str], *, new: bool, past: bool) -> None:
        self._others = others
        self._new = new
        self._past = past
        self._images = IMAGES
        self._pixels = IMAGES_PIXELS

    def takes(self, image: Image, *, past: bool) -> bool:
        """Whether it is shown. Raises for one that is not and is new."""
        self._images -= 1
        self._pixels -= image.width * image.height
        fits = self._images >= 0 and self._pixels >= 0
        if past or (fits and self._new):
            return fits and (self._past if past else self._new)
        if self._new:
            raise TooLarge(
                f"`{image.field}` is too much: a request may have {IMAGES} images, of {IMAGES_PIXELS} pixels in all.",
                param=image.field,
            )
        told = f" These models do: {', '.join(f'`{name}`' for name in self._others)}." if self._others else ""
        raise Unsupported(
            f"`{image.field}` is an image, and this model does not see images: only text is supported.{told}",
            param=image.field,
        )


def _with_words(message: Message, room: _Room, *, past: bool) -> Message:
    parts: list[Part] = []
    for part in reversed(message.parts):
        if isinstance(part, Image):
            parts.append(part if room.takes(part, past=past) else Text(words_for("image")))
        elif isinstance(part, ToolResult):
            parts.append(_result_with_words(part, room))
        else:
            parts.append(part)
    return replace(message, parts=tuple(reversed(parts)))


def _result_with_words(result: ToolResult, room: _Room) -> ToolResult:
    """What a tool shows is the past, however new: whoever asks has not chosen it."""
    images = [image for image in reversed(result.images) if room.takes(image, past=True)]
    words = [words_for("image")] * (len(result.images) - len(images))
    text = "\n".join([*([result.text] if result.text else []), *words])
    return replace(result, text=text, images=tuple(reversed(images)))
