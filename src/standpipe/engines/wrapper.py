"""What every engine that stands before another one shares: it looks like that one, and passes on all but the asking.

Knows nothing of what a wrapper does to an ask or to its answer.
"""

from __future__ import annotations

from standpipe.engines.engine import Embedder, Engine, Health


class Wrapper:
    """Stands before an engine. It embeds if the engine does, and only then has an `embed`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.slots = engine.slots
        if isinstance(engine, Embedder):
            self.embed = engine.embed

    async def models(self) -> tuple[str, ...]:
        return await self._engine.models()

    async def health(self) -> Health:
        return await self._engine.health()

    async def close(self) -> None:
        await self._engine.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine!r}>"
