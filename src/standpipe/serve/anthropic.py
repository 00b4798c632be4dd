"""What Anthropic's paths have beside the dialect: the header with the request's id, and the counting of tokens.

No engine is asked for a count, because few have a way to: it is estimated from the text, by rates that the engines'
own counts have taught. The answer says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import msgspec

from standpipe.chat.ask import Ask
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.policy.estimate import Prompts, Sizes, texts
from standpipe.policy.prompt import join
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange
from standpipe.serve.routes import Handler, Route
from standpipe.serve.walk import House, Walk


def routes(house: House, prompts: Prompts) -> dict[str, Route]:
    """Anthropic's paths. `prompts` guesses tokens, and learns meanwhile."""
    prepare = partial(join, prompt=house.system_prompt, mode=house.system_prompt_mode)
    count = TokenCount(prompts, prepare, house.body_limit)
    return {
        "/v1/messages": Route({"POST": _with_request_id(Walk(MESSAGES, house))}, MESSAGES),
        "/v1/messages/count_tokens": Route({"POST": _with_request_id(count)}, MESSAGES),
    }


def _with_request_id(handler: Handler) -> Handler:
    """The same handler, telling the request's id under the name that Anthropic's clients look for."""

    async def handle(exchange: Exchange) -> None:
        exchange.extra.append((b"request-id", exchange.id.encode()))
        await handler(exchange)

    return handle


class TokenCount:
    """The handler of POST /v1/messages/count_tokens.

    Args:
        prompts: guesses tokens, and learns meanwhile.
        prepare: an ask as it would reach an engine, with the operator's system prompt.
        body_limit: in bytes.
    """

    def __init__(self, prompts: Prompts, prepare: Callable[[Ask], Ask], body_limit: int) -> None:
        self._prompts = prompts
        self._prepare = prepare
        self._body_limit = body_limit

    async def __call__(self, exchange: Exchange) -> None:
        ask = self._prepare(MESSAGES.parse_count(await read(exchange, self._body_limit)))
        tokens = math.ceil(self._prompts.guess(Sizes.of(texts(ask))))
        exchange.send(200, msgspec.json.encode({"input_tokens": tokens, "estimated": True}))
