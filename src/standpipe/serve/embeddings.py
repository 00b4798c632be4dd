"""Embeddings: the walk of an ask for vectors. It waits its turn like any other, and is charged for what it is read.

There is nothing to stream, so the walk is shorter than `reply`'s: read, identify, admit, embed, answer, record.
"""

from __future__ import annotations

import asyncio

from standpipe.chat.ask import Ask, EmbedAsk, Message, Role, Sampling, Text, Vectors
from standpipe.chat.errors import EngineFailed, Failure, Internal
from standpipe.chat.events import Usage
from standpipe.dialects.openai import embeddings as dialect
from standpipe.engines.pool import Report
from standpipe.observe.hooks import Record
from standpipe.policy.identity import ClientKey
from standpipe.serve.admission import Entry, Wish
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange
from standpipe.serve.walk import CLIENT_LEFT, House

NAME = "openai_embeddings"


class _Account:
    """What has been learnt of one ask so far."""

    __slots__ = ("arrived", "client", "granted_at", "report", "status")

    def __init__(self, now: float) -> None:
        self.arrived = now
        self.granted_at: float | None = None
        self.client: ClientKey | None = None
        self.report = Report()
        self.status = 200


class Embeddings:
    """The handler of POST /v1/embeddings."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def __call__(self, exchange: Exchange) -> None:
        account = _Account(asyncio.get_running_loop().time())
        failure: Failure | None = None
        vectors: Vectors | None = None
        try:
            vectors = await self._answer(exchange, account)
        except Failure as refused:
            failure = dialect.in_our_words(refused)
            raise failure from None
        except asyncio.CancelledError:
            account.status = CLIENT_LEFT
            raise
        except BaseException:
            failure = Internal("")
            raise
        finally:
            self._tell(exchange, account, failure, vectors)

    async def _answer(self, exchange: Exchange, account: _Account) -> Vectors:
        house = self._house
        body = await read(exchange, house.body_limit)
        account.client = client = house.identify(exchange).key
        parsed = dialect.parse(body)
        exchange.tell_dropped(parsed.dropped)
        wish = Wish.read(exchange.request.headers)
        exchange.request.forget()
        async with house.admission.entry(client, wish, body, _weighed(parsed.ask)) as entry:
            await entry.join()
            if entry.pace is not None:
                exchange.extra += house.limit_headers(entry.pace, entry.reserved_at)
            await entry.granted()
            account.granted_at = asyncio.get_running_loop().time()
            vectors = await self._embed(parsed.ask, account, entry)
            model = vectors.model or account.report.model or house.pool.resolve(parsed.ask.model)
            exchange.send(200, dialect.answer(parsed, vectors, model))
        return vectors

    async def _embed(self, ask: EmbedAsk, account: _Account, entry: Entry) -> Vectors:
        """Charged by input: the engine's own count, or else the estimate of it; nothing when the engine failed."""
        vectors: Vectors | None = None
        failed = False
        try:
            vectors = await self._house.pool.embed(ask, account.report)
        except EngineFailed:
            failed = True
            raise
        finally:
            counted = None if vectors is None or vectors.prompt_tokens is None else Usage(vectors.prompt_tokens, 0)
            entry.settle(counted, 0, failed=failed)
        return vectors

    def _tell(self, exchange: Exchange, account: _Account, failure: Failure | None, vectors: Vectors | None) -> None:
        now = asyncio.get_running_loop().time()
        report, granted_at = account.report, account.granted_at
        record = Record(
            id=exchange.id,
            dialect=NAME,
            client=self._house.hash_client(account.client.address) if account.client else "-",
            status=failure.status if failure and account.status == 200 else account.status,
            stream=False,
            model=(vectors.model if vectors else None) or report.model,
            engine=report.engine,
            failure=failure.kind if failure else None,
            waited=(now if granted_at is None else granted_at) - account.arrived,
            first_token=None,
            duration=now - account.arrived,
            prompt_tokens=vectors.prompt_tokens if vectors else None,
            completion_tokens=None,
            attempts=report.attempts,
        )
        for hook in self._house.hooks:
            hook(record)


def _weighed(ask: EmbedAsk) -> Ask:
    """What the line has to know of it: so much to read, next to nothing to write."""
    texts = tuple(Text(text) for text in ask.texts)
    return Ask((Message(Role.USER, texts),), ask.model, Sampling(max_tokens=1))
