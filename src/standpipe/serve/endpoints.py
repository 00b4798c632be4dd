"""What Ollama's paths have beside the dialect: the models, the version, and what is never done here.

Ollama's clients load a model before they use it, by a request that asks nothing. No engine is asked then: the models
are there.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from standpipe import __version__
from standpipe.chat.errors import Forbidden, UnknownModel
from standpipe.dialects.dialect import Dialect
from standpipe.dialects.ollama import models as ollama_models
from standpipe.dialects.ollama.native import CHAT, GENERATE
from standpipe.dialects.reading import decode, fields
from standpipe.edge.seam import Request
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange
from standpipe.serve.routes import Route
from standpipe.serve.walk import House, Walk

_SMALL = 4096
"""Bytes. A larger body asks something."""
_MANAGEMENT = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/*")


class _Name(Struct):
    """`name` is the older spelling."""

    model: str | None = None
    name: str | None = None


class _Question(Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[Raw] | None = None


_NAME = msgspec.json.Decoder(_Name)
_QUESTION = msgspec.json.Decoder(_Question)


def routes(house: House, since: int) -> dict[str, Route]:
    """Ollama's paths. `since` is when this tap began to serve, in Unix seconds."""
    models = Models(house, since)
    return {
        "/api/chat": Route({"POST": Asking(CHAT, house)}, CHAT),
        "/api/generate": Route({"POST": Asking(GENERATE, house)}, GENERATE),
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
        exchange.send(200, ollama_models.tags(self._pool.models(), self._since))

    async def running(self, exchange: Exchange) -> None:
        exchange.send(200, ollama_models.running(self._pool.models()))

    async def show(self, exchange: Exchange) -> None:
        """A name without a tag means the tag `latest`, as with Ollama. Raises UnknownModel."""
        body = await read(exchange, _SMALL)
        fields(body)
        asked = decode(body, _NAME)
        name = asked.model or asked.name or ""
        found = next((known for known in (name, f"{name}:latest") if known in self._pool.models()), None)
        if found is None:
            raise UnknownModel("No engine here lists a model of that name; GET /api/tags lists them.", param="model")
        exchange.send(200, ollama_models.show(found, self._since))


async def version(exchange: Exchange) -> None:
    exchange.send(200, ollama_models.version(__version__))


async def forbidden(_: Exchange) -> None:
    """Everything that would change which models there are. Raises Forbidden."""
    raise Forbidden(
        "The models here are the operator's: none is pulled, pushed, created, copied or deleted from outside."
    )


class Asking:
    """The handler of a path that asks: the walk, unless the request asks nothing."""

    def __init__(self, dialect: Dialect, house: House) -> None:
        self._walk = Walk(dialect, house)
        self._house = house
        self._is_chat = dialect is CHAT

    async def __call__(self, exchange: Exchange) -> None:
        size = exchange.request.headers.get(b"content-length") or ""
        if size.isdecimal() and int(size) <= _SMALL:
            body = await read(exchange, self._house.body_limit)
            question = _question(body)
            if question is not None and not (question.messages if self._is_chat else question.prompt):
                model = self._house.pool.resolve(question.model)
                now = int(self._house.wall_clock())
                exchange.send(200, ollama_models.loaded(model, now, chat=self._is_chat))
                return
            exchange.request = _Read(exchange.request, body)
        await self._walk(exchange)


def _question(body: bytes) -> _Question | None:
    """None for what the walk will find a fault in."""
    try:
        return _QUESTION.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Read:
    """A request whose body was read already."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.peer = request.peer
        self._request = request
        self._body = body

    async def body(self, limit: int) -> bytes:  # noqa: ARG002 -- it was held against the limit when it was read
        return self._body

    def forget(self) -> None:
        self._request.forget()
        self.headers, self._body = self._request.headers, b""
