"""The walk of one ask, from bytes to bytes; it reads like the list in docs/design.md.

Everything that happens on the way is noted in an `Account`, and one `Record` of it goes to the hooks on every path: an
answer, a failure, a client who left in any phase, and a bug of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineFailed, Failure, Internal
from standpipe.chat.events import Waiting
from standpipe.chat.fold import Fold
from standpipe.dialects.base import Dialect, Parsed, Stamp
from standpipe.engines.pool import Pool, Report
from standpipe.observe.hooks import Hook, Record
from standpipe.policy.caps import Caps, clamp
from standpipe.policy.identity import ClientKey, Identity
from standpipe.policy.pace import Peek
from standpipe.policy.prompt import Mode, join
from standpipe.serve.admission import Admission, Entry, Wish
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange, Header
from standpipe.serve.meter import Meter
from standpipe.serve.stream import CapReached, Delivery, Patience, Streamed, Whole

CLIENT_LEFT = 499
"""What nginx logs for a client that closed the connection before its answer."""


class House(Struct, frozen=True):
    """What a walk needs of the rest of the house."""

    pool: Pool
    admission: Admission
    identify: Callable[[Exchange], Identity]
    limit_headers: Callable[[Peek, int], list[Header]]
    """What is left of a client's pace, and the instant in its clock, to headers."""
    hash_client: Callable[[str], str]
    caps: Caps
    system_prompt: str
    system_prompt_mode: Mode
    body_limit: int
    patience: Patience
    hooks: Sequence[Hook]
    wall_clock: Callable[[], float]
    """Unix seconds, for `created` and nothing else: every duration is the loop's."""


class Memory(Protocol):
    """What a conversation is kept in between asks, for a dialect that goes on from earlier ones."""

    async def recall(self, parsed: Parsed, client: ClientKey) -> Parsed:
        """The ask with what came before it. Raises InvalidAsk when that is not there for this client."""
        ...

    async def remember(self, parsed: Parsed, client: ClientKey) -> None:
        """The answer has been given whole: keep what the dialect left to be kept, if anything."""
        ...


class Account:
    """What has been learnt of one ask so far."""

    __slots__ = ("arrived", "client", "granted_at", "meter", "parsed", "report", "status")

    def __init__(self, now: float) -> None:
        self.arrived = now
        self.granted_at: float | None = None
        self.client: ClientKey | None = None
        self.parsed: Parsed | None = None
        self.meter: Meter | None = None
        self.report = Report()
        self.status = 200


class Walk:
    """The handler of one dialect's path. `memory` is None where every ask stands alone."""

    def __init__(self, dialect: Dialect, house: House, memory: Memory | None = None) -> None:
        self._dialect = dialect
        self._house = house
        self._memory = memory

    async def __call__(self, exchange: Exchange) -> None:
        account = Account(asyncio.get_running_loop().time())
        failure: Failure | None = None
        try:
            failure = await self._answer(exchange, account)
        except Failure as refused:
            failure = refused
            raise
        except asyncio.CancelledError:
            account.status = CLIENT_LEFT
            raise
        except BaseException:
            failure = Internal("")
            raise
        finally:
            self._tell(exchange, account, failure)

    async def _answer(self, exchange: Exchange, account: Account) -> Failure | None:
        """Walk the walk. Returns the failure of a stream that had begun; raises any other."""
        house = self._house
        body = await read(exchange, house.body_limit)
        account.client = client = house.identify(exchange).key
        parsed = account.parsed = self._dialect.parse(body)
        if self._memory is not None:
            parsed = account.parsed = await self._memory.recall(parsed, client)
        if parsed.dropped:
            exchange.extra.append((b"x-standpipe-dropped", ", ".join(parsed.dropped).encode("ascii", "replace")))
        ask = join(clamp(parsed.ask, house.caps), house.system_prompt, house.system_prompt_mode)
        wish = Wish.read(exchange.request.headers)
        async with house.admission.entry(client, wish, body, ask) as entry:
            await entry.join()
            if entry.pace is not None:
                exchange.extra += house.limit_headers(entry.pace, entry.reserved_at)
            account.meter = Meter(ask.sampling.max_tokens or house.caps.max_tokens, entry.charge)
            delivery = self._delivery(exchange, account, ask, account.meter, entry.waiting)
            try:
                await entry.granted()
                account.granted_at = asyncio.get_running_loop().time()
                await self._engine(ask, delivery, account, entry)
                delivery.finish()
            except Failure as failure:
                delivery.fail(failure)
                return failure
            finally:
                delivery.close()
        if self._memory is not None:
            await self._memory.remember(parsed, client)
        return None

    async def _engine(self, ask: Ask, delivery: Delivery, account: Account, entry: Entry) -> None:
        meter = account.meter
        assert meter is not None
        failed = False
        try:
            await self._house.pool.answer(ask, delivery, account.report)
        except CapReached:
            pass  # the answer is whole, and the engine has stopped
        except EngineFailed:
            failed = True
            raise
        finally:
            entry.settle(meter.usage, meter.tokens, failed=failed or account.report.attempts > 1)

    def _delivery(
        self, exchange: Exchange, account: Account, ask: Ask, meter: Meter, waiting: Callable[[], Waiting]
    ) -> Delivery:
        parsed = account.parsed
        assert parsed is not None

        def stamp() -> Stamp:
            self._mark(exchange, account)
            model = meter.model or self._house.pool.resolve(ask.model)
            return Stamp(exchange.id, int(self._house.wall_clock()), model)

        if parsed.stream:
            return Streamed(
                exchange,
                self._dialect,
                lambda: self._dialect.encoder(parsed, stamp()),
                meter,
                waiting,
                self._house.patience,
            )

        def whole(fold: Fold) -> bytes:
            answer = fold.answer
            if answer is None:
                raise EngineFailed("The engine ended its answer without finishing it.")
            return self._dialect.answer(parsed, stamp(), answer)

        return Whole(exchange, whole, meter)

    def _mark(self, exchange: Exchange, account: Account) -> None:
        """The answer's headers tell how long it waited and how often it was tried."""
        waited = self._waited(account, asyncio.get_running_loop().time())
        exchange.extra.append((b"x-standpipe-waited", f"{waited:.3f}".encode()))
        exchange.extra.append((b"x-standpipe-attempts", str(max(1, account.report.attempts)).encode()))

    @staticmethod
    def _waited(account: Account, now: float) -> float:
        return (now if account.granted_at is None else account.granted_at) - account.arrived

    def _tell(self, exchange: Exchange, account: Account, failure: Failure | None) -> None:
        now = asyncio.get_running_loop().time()
        meter, report = account.meter, account.report
        usage = meter.usage if meter else None
        first = meter.first_token_at if meter else None
        record = Record(
            id=exchange.id,
            dialect=self._dialect.name,
            client=self._house.hash_client(account.client.address) if account.client else "-",
            status=failure.status if failure and account.status == 200 else account.status,
            stream=bool(account.parsed and account.parsed.stream),
            model=(meter.model if meter else None) or report.model,
            engine=report.engine,
            failure=failure.kind if failure else None,
            waited=self._waited(account, now),
            first_token=None if first is None else first - account.arrived,
            duration=now - account.arrived,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else (meter.tokens if meter else None),
            attempts=report.attempts,
        )
        for hook in self._house.hooks:
            hook(record)
