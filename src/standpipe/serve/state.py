"""State: the small public answers about this tap itself: health, and the models it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from standpipe.chat.errors import UnknownModel
from standpipe.dialects.openai import wire as openai_wire
from standpipe.engines.pool import Pool
from standpipe.serve.exchange import Exchange

_MODEL_PATH = "/v1/models/"


class State:
    """Handlers of GET /api and GET /v1/models[/{id}]."""

    def __init__(self, pool: Pool, about: Callable[[], dict[str, Any]], created: int) -> None:
        """`about` gives what GET /api shows; `created` is when this tap began to serve, in Unix seconds."""
        self._pool = pool
        self._about = about
        self._created = created

    async def health(self, exchange: Exchange) -> None:
        """200 as long as this process answers at all: `status` says whether an engine does."""
        exchange.send(200, msgspec.json.encode(self._about()), headers=((b"cache-control", b"no-store"),))

    async def models(self, exchange: Exchange) -> None:
        exchange.send(200, openai_wire.models_list(self._pool.models(), self._created))

    async def model(self, exchange: Exchange) -> None:
        name = exchange.request.path[len(_MODEL_PATH) :]
        if name not in self._pool.models():
            raise UnknownModel(f"No engine here lists a model of that name; GET {_MODEL_PATH[:-1]} lists them.")
        exchange.send(200, openai_wire.model(name, self._created))
