"""Conversations: kept responses, by which `previous_response_id` works, and GET and DELETE /v1/responses/{id}.

An id is random, and what is kept under it is given back to the address that it was made for and to nobody else: for
anybody else it does not exist. What a kept response is, and how it joins the next ask, is the dialect's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from standpipe.chat.errors import NotFound, Unsupported
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses import kept as pure
from standpipe.policy.identity import ClientKey, Identity
from standpipe.serve.exchange import Exchange
from standpipe.store.blobs import Blobs

_PATH = "/v1/responses/"


class Conversations:
    """Goes on from kept responses, keeps new ones, and has the handlers."""

    def __init__(self, kept: Blobs, identify: Callable[[Exchange], Identity], new_token: Callable[[], str]) -> None:
        """`new_token` gives at least 128 bits of fresh randomness, as letters and digits."""
        self._kept = kept
        self._identify = identify
        self._new_token = new_token

    def recall(self, parsed: Parsed, client: ClientKey) -> Parsed:
        """The ask with what came before it; its dialect hands over what shall be kept of the answer once that is whole.

        Raises PreviousNotFound when what came before is not there for this client.
        """
        earlier: pure.Turn | None = None
        wanted = pure.previous(parsed)
        if wanted is not None:
            packed = self._kept.get(wanted, client, _now())
            if packed is None:
                raise pure.not_found(wanted)
            earlier = pure.unpack(packed)

        def keep(name: str, turn: pure.Turn) -> None:
            self._kept.put(name, client, pure.pack(turn), _now())

        return pure.joined(parsed, earlier, self._new_token(), keep)

    async def get(self, exchange: Exchange) -> None:
        """The response as it was given."""
        if "stream=true" in exchange.request.query.split("&"):
            raise Unsupported("Stored responses cannot be streamed: `stream` must be false.", param="stream")
        wanted = exchange.request.path.removeprefix(_PATH)
        packed = self._kept.get(wanted, self._identify(exchange).key, _now())
        if packed is None:
            raise _none(wanted)
        exchange.send(200, pure.unpack(packed).response, headers=((b"cache-control", b"no-store"),))

    async def delete(self, exchange: Exchange) -> None:
        """Forget it."""
        wanted = exchange.request.path.removeprefix(_PATH)
        if not self._kept.delete(wanted, self._identify(exchange).key, _now()):
            raise _none(wanted)
        exchange.send(200, msgspec.json.encode({"id": wanted, "object": "response", "deleted": True}))


def _none(wanted: str) -> NotFound:
    return NotFound(f"Response{pure.shown(wanted)} not found.")


def _now() -> float:
    return asyncio.get_running_loop().time()
