"""Embeddings: texts to vectors, the one thing besides an answer that some engines give. Values only."""

from __future__ import annotations

from msgspec import Struct


class EmbedAsk(Struct, frozen=True):
    """Texts to embed, in order. `model` and `dimensions` None mean: the engine's own."""

    texts: tuple[str, ...]
    model: str | None = None
    dimensions: int | None = None


class Vectors(Struct, frozen=True):
    """One vector for each text, in the same order. None means that the engine did not say."""

    vectors: tuple[tuple[float, ...], ...]
    model: str | None = None
    prompt_tokens: int | None = None
