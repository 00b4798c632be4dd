"""Bodies: how a request's body gets in. A small one just does; a large one needs room and credit before it is read.

The async shell around `policy.body_budget`. What a large body may cost, and what it costs:

* memory: its room is taken before it is read and kept until its request is over. Where there is none, it waits for a
  moment. Whoever holds more than the newcomer would, and whose body is still on its way, makes room (max-min fairness):
  so nobody keeps others out by claiming much and sending little.
* the loop's time: reading a megabyte takes some ten milliseconds in which nobody else is served. Large bodies are read
  one after another, each after a rest of twice as long as the former took, and each megabyte counts as one more request
  of its client's rate limit.

Must not know any format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from standpipe.chat.errors import MemoryFull, PaceExceeded, TooLarge
from standpipe.policy.body_budget import BodyBudget, Scarce
from standpipe.policy.identity import ClientKey
from standpipe.serve.exchange import Exchange
from standpipe.serve.ticket import Admits

SMALL = 65_536
"""Bytes of a body that cost nothing: what a connection may keep of it anyway."""
PATIENCE = 5.0
"""Seconds that a large body waits for room."""
REST = 2.0
"""For how many times as long as a large body was read for, no other one is."""
_USUAL = 5.0
"""Seconds for which a body is held, before any was."""
_GAIN = 0.1

T = TypeVar("T")


class Bodies:
    """All large bodies of one server."""

    def __init__(self, budget: BodyBudget, limit: int, admission: Admits, clock: Callable[[], float]) -> None:
        """`limit` is the largest body, in bytes; `clock` gives seconds, finer than a loop's time, which stands still
        while something is read."""
        self.budget = budget
        self.limit = limit
        self._admission = admission
        self._clock = clock
        self._waiting: dict[BodyHold, asyncio.Future[None]] = {}
        self._arriving: dict[BodyHold, asyncio.Timeout] = {}
        self._usual = _USUAL
        self._turn = asyncio.Lock()
        self._rests_until = 0.0
        self.displaced = 0
        """Bodies given up since the start to make room for those of clients who held less."""

    def hold(self, exchange: Exchange, client: ClientKey) -> BodyHold:
        """What holds the body of one request."""
        return BodyHold(self, exchange, client)

    async def knock(self, client: ClientKey) -> None:
        """Turn away who asks too fast, before anything of what they ask is read. Raises PaceExceeded."""
        now = asyncio.get_running_loop().time()
        if self._admission.too_fast(client, now):
            await self._admission.turn_away(client, now)

    async def read(self, hold: BodyHold, reading: Callable[[], T]) -> T:
        """What this makes of a body; of a large one when its turn has come."""
        if not hold.size:
            return reading()
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(self._rests_until - loop.time())
            begun = self._clock()
            try:
                return reading()
            finally:
                self._rests_until = loop.time() + (1 + REST) * (self._clock() - begun)

    async def take(self, hold: BodyHold, size: int) -> None:
        """Take room. Raises MemoryFull, or PaceExceeded where the client or its network has its part already."""
        if self._make_room(hold.client, size):
            self.charge(hold, size)
            return
        self._waiting[hold] = room = asyncio.get_running_loop().create_future()
        hold.wants = size
        try:
            async with asyncio.timeout(PATIENCE):
                await room
        except TimeoutError:
            raise self._refusal(hold.client, size) from None
        finally:
            del self._waiting[hold]

    def charge(self, hold: BodyHold, size: int) -> None:
        """Hold so many bytes more, or fewer."""
        self.budget.charge(hold.client, size)
        hold.size += size
        if size < 0:
            self._serve()

    def _serve(self) -> None:
        """Give room to those that wait for it, in order."""
        for hold, room in list(self._waiting.items()):
            if not room.done() and self.budget.scarce(hold.client, hold.wants) is None:
                self.charge(hold, hold.wants)
                room.set_result(None)

    def _make_room(self, client: ClientKey, size: int) -> bool:
        """Whether there is room, perhaps now that others have given it up."""
        budget = self.budget
        while (scarce := budget.scarce(client, size)) is not None:
            if scarce is Scarce.CLIENT:
                return False
            rivals = [
                hold for hold in self._arriving
                if hold.size and (scarce is Scarce.TOTAL or hold.client.block == client.block)
            ]  # fmt: skip
            heaviest = max(rivals, key=lambda hold: budget.of(hold.client), default=None)  # of equals the oldest
            if heaviest is None or budget.of(heaviest.client) <= budget.of(client) + size:
                return False
            self._arriving[heaviest].reschedule(0.0)
            self.displaced += 1
            budget.charge(heaviest.client, -heaviest.size)
            heaviest.size = 0
        return True

    def _refusal(self, client: ClientKey, size: int) -> PaceExceeded | MemoryFull:
        scarce = self.budget.scarce(client, size) or Scarce.TOTAL
        # A budget turns over once in the time for which a body is held.
        seconds = self._usual * min(1.0, size / self.budget.most(scarce))
        if scarce is Scarce.TOTAL:
            return MemoryFull(
                "There is no memory for a request of this size right now. Please try again.", retry_after=seconds
            )
        whose = "your address" if scarce is Scarce.CLIENT else "your network"
        return PaceExceeded(
            f"Requests from {whose} hold as much memory as they may. Retry once one of them is over.",
            retry_after=seconds,
        )

    def settle(self, seconds: float) -> None:
        """A body was held for so long."""
        self._usual += _GAIN * (seconds - self._usual)

    async def arrive(self, hold: BodyHold, exchange: Exchange) -> bytes:
        """Read a body for which there is room. Raises MemoryFull when it must be given up."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as given_up:
                    self._arriving[hold] = given_up
                    body = await exchange.body(self.limit)
                if hold.size:
                    return body
        finally:
            del self._arriving[hold]
        raise MemoryFull(
            "This request was given up while it arrived, because its memory was needed. Please try again.",
            retry_after=self._usual,
        )

    def __repr__(self) -> str:
        return f"<Bodies {self.budget}, {len(self._waiting)} wait>"


class BodyHold:
    """The room of one request's body, while it is used in a `with`."""

    __slots__ = ("_bodies", "_exchange", "_since", "client", "size", "wants")

    def __init__(self, bodies: Bodies, exchange: Exchange, client: ClientKey) -> None:
        self._bodies = bodies
        self._exchange = exchange
        self._since: float | None = None
        self.client = client
        self.size = 0
        """Bytes that are held."""
        self.wants = 0
        """Bytes that it waits for."""

    async def body(self) -> bytes:
        """The whole body.

        Raises what `Exchange.body` raises; and, before a large one is read, PaceExceeded and MemoryFull.
        """
        bodies, exchange = self._bodies, self._exchange
        declared = exchange.declared
        if declared is None and bodies.limit > SMALL:
            try:
                return await exchange.body(SMALL)
            except TooLarge:
                declared = bodies.limit  # it may become as large as any
        elif declared is None or declared <= SMALL or declared > bodies.limit:
            return await exchange.body(bodies.limit)
        await bodies.knock(self.client)
        self._since = asyncio.get_running_loop().time()
        await bodies.take(self, declared)
        body = await bodies.arrive(self, exchange)
        self.resize(len(body))
        return body

    def resize(self, size: int) -> None:
        """What is held takes so many bytes, as it turns out."""
        if self.size:
            self._bodies.charge(self, size - self.size)

    def release(self) -> None:
        """Hold nothing any more."""
        if self.size:
            self._bodies.charge(self, -self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._since is not None:
            if self.size:
                self._bodies.settle(asyncio.get_running_loop().time() - self._since)
            self.release()

    def __repr__(self) -> str:
        return f"<BodyHold {self.size} bytes>"
