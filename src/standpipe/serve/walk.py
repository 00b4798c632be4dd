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
from standpipe.chat.errors import EngineFailed, Failure
from standpipe.dialects.dialect import Dialect, Parsed
from standpipe.engines.pool import Pool, Report
from standpipe.observe.hooks import Hook
from standpipe.policy.caps import Caps, clamp
from standpipe.policy.identity import ClientKey, Identity
from standpipe.policy.pace import Peek
from standpipe.policy.prompt import Mode, join
from standpipe.serve.admission import Admission, Entry, Wish
from standpipe.serve.body import read
from standpipe.serve.exchange import Exchange, Header
from standpipe.serve.faults import bug
from standpipe.serve.meter import Meter
from standpipe.serve.stream import CapReached, Delivery, Patience, Streamed, Whole
from standpipe.serve.trace import Account

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
        """The ask with what came before it; its dialect hands over what shall be kept of the answer once that is whole.

        Raises InvalidAsk when what came before is not there for this client.
        """
        ...


class Walk:
    """The handler of one dialect's path. `memory` is None where every ask stands alone."""

    def __init__(self, dialect: Dialect, house: House, memory: Memory | None = None) -> None:
        self._dialect = dialect
        self._house = house
        self._memory = memory

    async def __call__(self, exchange: Exchange) -> None:
        house = self._house
        clock = asyncio.get_running_loop().time
        account = Account(exchange, self._dialect, house.pool, clock, house.wall_clock)
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
            failure = bug(exchange.id)
            raise
        finally:
            record = account.record(failure, house.hash_client)
            for hook in house.hooks:
                hook(record)

    async def _answer(self, exchange: Exchange, account: Account) -> Failure | None:
        """Walk the walk. Returns the failure of a stream that had begun; raises any other."""
        house = self._house
        body = await read(exchange, house.body_limit)
        account.client = client = house.identify(exchange).key
        parsed = account.parsed = self._dialect.parse(body)
        if self._memory is not None:
            parsed = account.parsed = await self._memory.recall(parsed, client)
        exchange.tell_dropped(parsed.dropped)
        if not parsed.ask.messages:
            exchange.send(200, account.nothing())
            return None
        ask = join(clamp(parsed.ask, house.caps), house.system_prompt, house.system_prompt_mode)
        wish = Wish.read(exchange.request.headers)
        exchange.request.forget()
        async with house.admission.entry(client, wish, body, ask) as entry:
            del body  # a stream may last for minutes, and a body be large
            await entry.join()
            if entry.pace is not None:
                exchange.extra += house.limit_headers(entry.pace, entry.reserved_at)
            meter = account.meter = Meter(ask.sampling.max_tokens or house.caps.max_tokens, entry.charge)
            delivery: Delivery
            if parsed.stream:
                delivery = Streamed(exchange, self._dialect, account.encoder, meter, entry.waiting, house.patience)
            else:
                delivery = Whole(exchange, account.whole, meter)
            try:
                await entry.granted()
                account.granted()
                await self._engine(ask, delivery, account.report, meter, entry)
                delivery.finish()
            except Failure as failure:
                delivery.fail(failure)
                return failure
            except Exception:
                if exchange.reply.started:  # a bug must not look like the end of an answer either
                    delivery.fail(bug(exchange.id))
                raise
            finally:
                delivery.close()
        return None

    async def _engine(self, ask: Ask, delivery: Delivery, report: Report, meter: Meter, entry: Entry) -> None:
        failed = False
        try:
            await self._house.pool.answer(ask, delivery, report, delivery.forget)
        except CapReached:
            pass  # the answer is whole, and the engine has stopped
        except EngineFailed:
            failed = True
            raise
        finally:
            entry.settle(meter.usage, meter.tokens, failed=failed or report.attempts > 1)
