"""The small endpoints beside asks: lists of models, counts of tokens, and what is never done here.

No engine works for any of them. Must not know how an ask is admitted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from msgspec import Struct

from standpipe import __version__
from standpipe.chat.ask import Ask
from standpipe.chat.errors import Forbidden, UnknownModel
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Dialect
from standpipe.dialects.ollama import wire as ollama_wire
from standpipe.dialects.ollama.request import CHAT, GENERATE
from standpipe.dialects.openai import wire as openai_wire
from standpipe.dialects.openai.responses.request import OpenAIResponses
from standpipe.dialects.reading import Reader
from standpipe.engines.fleet import Fleet
from standpipe.policy.estimate import Prompts, Sizes, texts
from standpipe.policy.identity import ClientKey
from standpipe.policy.terms import join
from standpipe.serve.conversations import Conversations, compact
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Route
from standpipe.serve.trace import extra_instants
from standpipe.serve.walk import AskHandler, Services

_MODEL_PATH = "/v1/models/"
_SMALL = 4096
"""Bytes that the name of a model may take."""
_MANAGEMENT = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/*")
SHAPES: Mapping[str, Dialect] = {"/api/": CHAT, "/v1/messages/": MESSAGES}
"""Whose shape failures have below these, where nothing stands."""


class ModelHandlers:
    """Handlers of GET /v1/models[/{id}]."""

    def __init__(self, fleet: Fleet, created: int) -> None:
        """`created` is when this server began to serve, in Unix seconds."""
        self._fleet = fleet
        self._created = created

    async def all(self, exchange: Exchange) -> None:
        fleet = self._fleet
        exchange.send(200, openai_wire.models_list(map(self._model, fleet.models())))

    async def one(self, exchange: Exchange) -> None:
        """The model that an ask for this name would get. Raises UnknownModel."""
        name = self._fleet.resolve(exchange.request.path[len(_MODEL_PATH) :])
        exchange.send(200, msgspec.json.encode(self._model(name)))

    def _model(self, name: str) -> openai_wire.Model:
        card = self._fleet.card(name)
        return openai_wire.model(name, self._created, card.window, sees=bool(card.sees))


# Counts of tokens ---------------------------------------------------------------------------------------------------


class CountTokens:
    """The handler of a path that counts an ask's tokens.

    Few engines have a way to count, so it is estimated from the text, as the operator's system prompt makes it, by
    rates that the engines' own counts have taught. `about` is what else the answer says.
    """

    def __init__(
        self, services: Services, parse: Callable[[bytes, ClientKey], Ask], about: Mapping[str, object]
    ) -> None:
        self._prompts: Prompts = services.admission.prompts
        self._prepare = partial(join, prompt=services.system_prompt, mode=services.system_prompt_mode)
        self._services = services
        self._parse = parse
        self._about = about

    async def __call__(self, exchange: Exchange) -> None:
        """Free, but for large bodies: those count as requests, by the megabyte."""
        bodies, admission = self._services.bodies, self._services.admission
        client = self._services.identify(exchange).key
        with bodies.hold(exchange, client) as hold:
            body = await hold.body()
            admission.charge(client, asyncio.get_running_loop().time(), extra_instants(len(body)))
            tokens = await bodies.read(hold, partial(self._count, body, client))
        exchange.send(200, msgspec.json.encode({**self._about, "input_tokens": tokens}))

    def _count(self, body: bytes, client: ClientKey) -> int:
        ask = self._prepare(self._parse(body, client))
        return math.ceil(self._prompts.guess(Sizes.of(texts(ask), ask.images)))


# OpenAI's Responses -------------------------------------------------------------------------------------------------


def responses_routes(services: Services, dialect: OpenAIResponses, conversations: Conversations) -> dict[str, Route]:
    """Responses, and what belongs to each."""
    count = CountTokens(
        services, lambda body, client: conversations.parse(body, client).ask, {"object": "response.input_tokens"}
    )
    one = "/v1/responses/*"
    return {
        "/v1/responses": Route({"POST": AskHandler(dialect, services, conversations)}, dialect),
        "/v1/responses/input_tokens": Route({"POST": count}, dialect),
        "/v1/responses/compact": Route({"POST": compact}, dialect),
        one: Route({"GET": conversations.get, "DELETE": conversations.delete}, dialect),
        f"{one}/input_items": Route({"GET": conversations.input_items}, dialect),
        f"{one}/cancel": Route({"POST": conversations.cancel}, dialect),
    }


# Anthropic's --------------------------------------------------------------------------------------------------------


def anthropic_routes(services: Services) -> dict[str, Route]:
    """Messages, and the counting of their tokens. Anthropic's clients look for the request's id in `request-id`."""
    count = CountTokens(services, lambda body, _: MESSAGES.parse_count(body), {"estimated": True})
    return {
        "/v1/messages": Route({"POST": AskHandler(MESSAGES, services)}, MESSAGES, id_header=b"request-id"),
        "/v1/messages/count_tokens": Route({"POST": count}, MESSAGES, id_header=b"request-id"),
    }


# Ollama's -----------------------------------------------------------------------------------------------------------


def ollama_routes(services: Services, since: int) -> dict[str, Route]:
    """Ollama's paths. `since` is when this server began to serve, in Unix seconds."""
    models = OllamaModels(services.pool.fleet, since)
    return {
        "/api/chat": Route({"POST": AskHandler(CHAT, services)}, CHAT),
        "/api/generate": Route({"POST": AskHandler(GENERATE, services)}, GENERATE),
        "/api/tags": Route({"GET": models.tags}, CHAT),
        "/api/ps": Route({"GET": models.running}, CHAT),
        "/api/show": Route({"POST": models.show}, CHAT),
        "/api/version": Route({"GET": version}, CHAT),
        **{path: Route(dict.fromkeys(("GET", "POST", "PUT", "DELETE"), forbidden), CHAT) for path in _MANAGEMENT},
    }


class _Name(Struct):
    """`name` is the older spelling."""

    model: str | None = None
    name: str | None = None


_NAME = Reader(_Name)


class OllamaModels:
    """Handlers of GET /api/tags, GET /api/ps and POST /api/show."""

    def __init__(self, fleet: Fleet, since: int) -> None:
        self._fleet = fleet
        self._since = since

    async def tags(self, exchange: Exchange) -> None:
        exchange.send(200, ollama_wire.tags(self._fleet.models(), self._since))

    async def running(self, exchange: Exchange) -> None:
        exchange.send(200, ollama_wire.running(self._fleet.models()))

    async def show(self, exchange: Exchange) -> None:
        """A name without a tag means the tag `latest`, as with Ollama. Raises UnknownModel."""
        body = await exchange.body(_SMALL)
        asked = _NAME.read(body)[0]
        name = asked.model or asked.name or ""
        found = next((known for known in (name, f"{name}:latest") if known in self._fleet.models()), None)
        if found is None:
            raise UnknownModel("No such model here. See GET /api/tags for the list.", param="model")
        card = self._fleet.card(found)
        exchange.send(200, ollama_wire.show(found, self._since, window=card.window, sees=bool(card.sees)))


async def version(exchange: Exchange) -> None:
    """The handler of GET /api/version."""
    exchange.send(200, ollama_wire.version(__version__))


async def forbidden(_: Exchange) -> None:
    """Everything that would change which models there are. Raises Forbidden."""
    raise Forbidden("Models are managed by the operator: pull, push, create, copy and delete are disabled.")
