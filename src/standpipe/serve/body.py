"""Bodies: the whole body of a request, or the failure that it is."""

from __future__ import annotations

from standpipe.chat.errors import TooLarge, TooSlow
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow
from standpipe.serve.exchange import Exchange


async def read(exchange: Exchange, limit: int) -> bytes:
    """At most `limit` bytes. Raises TooLarge, TooSlow."""
    try:
        return await exchange.request.body(limit)
    except BodyTooLarge:
        raise TooLarge(f"The request body is larger than the {limit} bytes that are taken here.") from None
    except BodyTooSlow:
        raise TooSlow("The request body did not arrive in time.") from None
