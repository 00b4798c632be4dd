"""What a model's name means: itself, the default where nobody knows it, and those that may answer in its stead.

Pure. The default is chosen once, because everybody's answers change with it: by the operator; else a gpt-oss; else the
first that can chat. It changes when it is gone, and for nothing less than the one that the operator named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_NO_CHAT = re.compile(
    r"embed|rerank|(^|[/:_-])(bge|gte|e5|minilm|whisper|clip|colbert)([:_.-]|$)|all-mini|text-similarity|moderation|"
    r"(^|[/:_-])(tts|dall-e|stable-diffusion|flux)([:_.-]|$)",
    re.IGNORECASE,
)
"""Names of models that make vectors, pictures or speech, where no engine tells what they do."""
_GPT_OSS = re.compile(r"(^|[/:])gpt[-_]oss", re.IGNORECASE)


def chats(name: str, told: bool | None) -> bool:
    """Whether a model of this name can chat: as its engine told, else as its name sounds."""
    return not _NO_CHAT.search(name) if told is None else told


def default_of(listed: Mapping[str, bool], wanted: str | None, former: str | None) -> str | None:
    """The model that any unknown name stands for; None while nothing is listed.

    `listed` are all models in their engines' order, and whether each can chat; `wanted` is the operator's, `former`
    the one until now.
    """
    if wanted in listed:
        return wanted
    if former in listed:
        return former
    able = [name for name, can in listed.items() if can] or list(listed)
    return min(able, key=lambda name: not _GPT_OSS.search(name), default=None)


def read_fallbacks(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`MODEL=OTHER` each, in the order in which they are tried. Raises ValueError."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        model, equals, other = (part.strip() for part in text.partition("="))
        if not (model and equals and other) or model == other:
            raise ValueError("it must be MODEL=OTHER, two models")
        found[model] = (*found.get(model, ()), other)
    return found


def chain(model: str, fallbacks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A model and those that may answer in its stead, in order. A fallback's own fallbacks are none of it."""
    return (model, *fallbacks.get(model, ()))
