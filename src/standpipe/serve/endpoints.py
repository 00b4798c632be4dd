"""What Ollama's paths have beside the dialect: the models, the version, and what is never done here."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from standpipe import __version__
from standpipe.chat.errors import Forbidden, UnknownModel
from standpipe.dialects.ollama import wire as ollama_wire
from standpipe.dialects.ollama.request import CHAT, GENERATE
from standpipe.dialects.reading import decode, fields
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange
from standpipe.serve.routes import Route
from standpipe.serve.walk import House, Walk

_SMALL = 4096
"""Bytes that the name of a model may take."""
_MANAGEMENT = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/*")


class _Name(Struct):
    """`name` is the older spelling."""

    model: str | None = None
    name: str | None = None


_NAME = msgspec.json.Decoder(_Name)


def routes(house: House, since: int) -> dict[str, Route]:
    """Ollama's paths. `since` is when this tap began to serve, in Unix seconds."""
    models = Models(house, since)
    return {
        "/api/chat": Route({"POST": Walk(CHAT, house)}, CHAT),
        "/api/generate": Route({"POST": Walk(GENERATE, house)}, GENERATE),
        "/api/tags": Route({"GET": models.tags}, CHAT),
        "/api/ps": Route({"GET": models.running}, CHAT),
        "/api/show": Route({"POST": models.show}, CHAT),
        "/api/version": Route({"GET": version}, CHAT),
        **{path: Route(dict.fromkeys(("GET", "POST", "PUT", "DELETE"), forbidden), CHAT) for path in _MANAGEMENT},
    }


class Models:
    """Handlers of GET /api/tags, GET /api/ps and POST /api/show."""

    def __init__(self, house: House, since: int) -> None:
        self._pool = house.pool
        self._since = since

    async def tags(self, exchange: Exchange) -> None:
        exchange.send(200, ollama_wire.tags(self._pool.models(), self._since))

    async def running(self, exchange: Exchange) -> None:
        exchange.send(200, ollama_wire.running(self._pool.models()))

    async def show(self, exchange: Exchange) -> None:
        """A name without a tag means the tag `latest`, as with Ollama. Raises UnknownModel."""
        body = await read(exchange, _SMALL)
        fields(body)
        asked = decode(body, _NAME)
        name = asked.model or asked.name or ""
        found = next((known for known in (name, f"{name}:latest") if known in self._pool.models()), None)
        if found is None:
            raise UnknownModel("No engine here lists a model of that name; GET /api/tags lists them.", param="model")
        exchange.send(200, ollama_wire.show(found, self._since))


async def version(exchange: Exchange) -> None:
    exchange.send(200, ollama_wire.version(__version__))


async def forbidden(_: Exchange) -> None:
    """Everything that would change which models there are. Raises Forbidden."""
    raise Forbidden(
        "The models here are the operator's: none is pulled, pushed, created, copied or deleted from outside."
    )
