"""Conversations: what is kept of responses, by which later asks refer to them, and what stands below /v1/responses/.

Two things are kept, each for a while, in memory, for the address that it was made for and for nobody else: for anybody
else it does not exist. The items of every answer are held at any time, unless the client says `store: false`, because
clients refer to them by `item_reference` as if they were stored; each use of one holds it longer. Whole responses with
all that led to them are kept where the operator wants that: for `previous_response_id`, and to be had again.

What a kept response is, and how it joins the next ask, is the dialect's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

import msgspec

from standpipe.chat.ask import Part
from standpipe.chat.errors import InvalidAsk, NotFound, Unsupported
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses import kept as pure
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.request import OpenAIResponses
from standpipe.policy.identity import ClientKey, Identity
from standpipe.serve.exchange import Exchange, Header
from standpipe.store.blobs import Blobs

_PATH = "/v1/responses/"
_PRIVATE: tuple[Header, ...] = ((b"cache-control", b"no-store"),)
_PAGE = range(1, 101)
"""How many items may be listed at a time."""


class Conversations:
    """Reads asks that refer to earlier answers, keeps new ones, and has the handlers.

    Args:
        dialect: of Responses.
        held: where items of answers are held; None where the operator wants none.
        kept: where whole responses are kept; the same.
        identify: whose request it is.
        new_token: gives at least 128 bits of fresh randomness, as letters and digits.
    """

    def __init__(
        self,
        dialect: OpenAIResponses,
        held: Blobs | None,
        kept: Blobs | None,
        identify: Callable[[Exchange], Identity],
        new_token: Callable[[], str],
    ) -> None:
        self._dialect = dialect
        self._held = held
        self._kept = kept
        self._identify = identify
        self._new_token = new_token

    def parse(self, body: bytes, client: ClientKey) -> Parsed:
        """The ask with what came before it; its dialect hands over what shall be kept of the answer once that is whole.

        Raises PreviousNotFound when what came before is not there for this client, or what the dialect raises.
        """
        parsed = self._dialect.read(body, partial(self._item, client))
        wanted = pure.previous(parsed)
        if wanted is not None:
            packed = self._kept and self._kept.get(wanted, client, _now())
            if not packed:
                raise pure.not_found(wanted)
            parsed = pure.joined(parsed, pure.unpack(packed))
        if not parsed.echo.keep or self._held is self._kept is None:
            return parsed
        mark, asked = self._new_token(), pure.asked_now(parsed)

        def keep(answered: pure.Answered) -> None:
            if self._held is not None:
                self._held.put(mark, client, pure.pack_items(answered), _now())
            if self._kept is not None:
                self._kept.put(f"resp_{mark}", client, pure.pack(pure.Turn.of(asked, answered)), _now())

        return pure.marked(parsed, mark, keep, stored=self._kept is not None)

    def _item(self, client: ClientKey, item: str) -> tuple[Part, ...] | None:
        """What an item of an earlier answer says; None when it is not there for this client."""
        place = pure.place_of(item)
        if place is None or self._held is None:
            return None
        packed = self._held.renew(place[0], client, _now())
        return None if packed is None else pure.unpack_item(packed, place[1])

    async def get(self, exchange: Exchange) -> None:
        """The response as it was given."""
        if "stream=true" in exchange.request.query.split("&"):
            raise Unsupported("Stored responses cannot be streamed: `stream` must be false.", param="stream")
        exchange.send(200, self._turn(exchange).response, headers=_PRIVATE)

    async def delete(self, exchange: Exchange) -> None:
        """Forget it."""
        wanted, client = _wanted(exchange), self._identify(exchange).key
        if self._kept is None or not self._kept.delete(wanted, client, _now()):
            raise _none(wanted)
        if self._held is not None:
            self._held.delete(wanted.removeprefix("resp_"), client, _now())
        exchange.send(200, msgspec.json.encode({"id": wanted, "object": "response", "deleted": True}))

    async def input_items(self, exchange: Exchange) -> None:
        """What led to it, the latest first, by pages."""
        query = {name: values[-1] for name, values in parse_qs(exchange.request.query).items()}
        order, limit = query.get("order", "desc"), query.get("limit", "20")
        if order not in {"asc", "desc"}:
            raise InvalidAsk("`order` must be one of `asc`, `desc`.", param="order")
        if not limit.isdecimal() or int(limit) not in _PAGE:
            raise InvalidAsk(f"`limit` must be between {_PAGE[0]} and {_PAGE[-1]}.", param="limit")
        items = pure.input_items(self._turn(exchange), _wanted(exchange).removeprefix("resp_"))
        page = wire.page(items if order == "asc" else items[::-1], query.get("after"), int(limit))
        exchange.send(200, msgspec.json.encode(page), headers=_PRIVATE)

    async def cancel(self, exchange: Exchange) -> None:
        """There is nothing to cancel: who leaves a response has cancelled it."""
        self._turn(exchange)
        raise Unsupported("Only background responses can be cancelled, and this server has none: close the connection.")

    def _turn(self, exchange: Exchange) -> pure.Turn:
        wanted = _wanted(exchange)
        packed = self._kept and self._kept.get(wanted, self._identify(exchange).key, _now())
        if not packed:
            raise _none(wanted)
        return pure.unpack(packed)


async def compact(_: Exchange) -> None:
    """The handler of POST /v1/responses/compact. Raises Unsupported."""
    raise Unsupported("Conversations are not compacted here: ask for a summary, and go on from that.")


def _wanted(exchange: Exchange) -> str:
    """The id in the path, of a response or of what belongs to it."""
    path = exchange.request.path.removeprefix(_PATH)
    return path.removesuffix("/input_items").removesuffix("/cancel").rstrip("/")


def _none(wanted: str) -> NotFound:
    return NotFound(f"Response{pure.shown(wanted)} not found.")


def _now() -> float:
    return asyncio.get_running_loop().time()
