"""The link: a worker's end of its connection to the keeper. It comes back after every loss, and tells what is open.

Whoever waits for an answer is an `Entry`: it hears what is told of its number, and knows how to tell a new keeper where
it stands. So nothing that waits is lost with a keeper, and nobody notices but by the time. What was said while there is
no keeper is dropped, because it follows from what is told again; only records and kept responses wait for the next.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, cast

from standpipe.chat import errors
from standpipe.chat.errors import Failure, NoEngine
from standpipe.keeper import frames, messages
from standpipe.observe.log import Logger
from standpipe.policy.line import waiting
from standpipe.policy.pace import MICROSECONDS
from standpipe.store.paces import Paces

_REDIAL = 0.05
"""Seconds between two attempts to reach a keeper."""
_FLUSH = 0.1
"""Seconds for which tokens and records are gathered. What a worker that is killed delivers in them is not charged."""
_MOST = 4096
"""Records, and places that were left, that are remembered at a time."""
_HOLD = 10.0
"""Seconds for which a place that was left may matter to its retry."""


class Entry(Protocol):
    """Whoever waits for an answer."""

    def hear(self, message: Any) -> None:
        """What the keeper says of it."""
        ...

    def again(self, now: float) -> list[Any]:
        """What a new keeper has to be told of it."""
        ...


class Charged(Protocol):
    """An ask whose tokens are charged from time to time."""

    id: int
    held: int
    """Tokens that were not charged yet."""


class Link:
    """See the module; use it as an async context manager."""

    def __init__(self, path: Path, log: Logger, name: int | None = None) -> None:
        """`name` tells this worker from others: by default its process's id."""
        self.path = path
        self.name = os.getpid() if name is None else name
        self.entries: dict[int, Entry] = {}
        self.paces = Paces()
        """The paces of clients that came here, as last told."""
        self.left: deque[tuple[float, messages.LeftPlace]] = deque(maxlen=_MOST)
        """Who left the line a moment ago, and when."""
        self.secrets: messages.Secrets | None = None
        self.epoch = 0
        self.draining = False
        self.warnings: tuple[str, ...] = ()
        """What the operator should look into."""
        self.status: messages.Status | None = None
        """What was last told; not None after `welcome`."""
        self.on_status: Callable[[messages.Status], None] = lambda _: None
        self.on_kept: Callable[[messages.Stored], None] = lambda _: None
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._welcomed = asyncio.Event()
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._reader = frames.Reader(messages.Down)
        self._out: list[Any] = []
        self._later: deque[Any] = deque(maxlen=_MOST)
        """What waits for a keeper."""
        self._records: list[Any] = []
        self._dirty: dict[Charged, None] = {}
        self._gathering = False
        self._numbers = 0
        self._dialling: asyncio.Task[None] | None = None
        self._secrets_at = 0.0

    async def __aenter__(self) -> Self:
        self._dialling = self._loop.create_task(self._dial())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._dialling is not None
        self._dialling.cancel()
        await asyncio.wait((self._dialling,))
        self._gather()
        self._flush()
        if self._transport is not None:
            self._transport.close()
            await self._lost.wait()

    async def welcome(self) -> messages.Secrets:
        """What this tap goes by, as soon as there is a keeper."""
        await self._welcomed.wait()
        assert self.secrets is not None
        return self.secrets

    @property
    def connected(self) -> bool:
        """Whether there is a keeper right now."""
        return self._transport is not None

    def number(self, entry: Entry) -> int:
        """A number for whoever waits for an answer. It is to be taken out of `entries` when that has come."""
        self._numbers += 1
        self.entries[self._numbers] = entry
        return self._numbers

    async def ask(self, make: Callable[[int], Any]) -> Any:
        """Ask a question that stands alone. Gives the answer; raises what the keeper refuses it with."""
        question = _Question(self._loop)
        number = self.number(question)
        question.message = make(number)
        self.send(question.message)
        try:
            return await question.answer
        finally:
            del self.entries[number]

    def send(self, message: Any) -> None:
        """Tell the keeper, with all else that this turn of the loop has to say; nothing while there is none."""
        if self._transport is None:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message)

    def send_once(self, message: Any) -> None:
        """Tell this keeper or the next."""
        if self._transport is None:
            self._later.append(message)
        else:
            self.send(message)

    def charge(self, ask: Charged) -> None:
        """Charge what it holds, soon."""
        self._dirty[ask] = None
        self._arm()

    def settled(self, ask: Charged) -> None:
        """What it held has been told."""
        self._dirty.pop(ask, None)

    def record(self, fields: Any) -> None:
        """Hand over what became of an ask."""
        if len(self._records) < _MOST:
            self._records.append(fields)
        self._arm()

    def _arm(self) -> None:
        if not self._gathering:
            self._gathering = True
            self._loop.call_later(_FLUSH, self._gather)

    def _gather(self) -> None:
        self._gathering = False
        if self._transport is None:  # tokens are charged when their asks are told again
            return
        if self._dirty:
            tokens = [(ask.id, ask.held) for ask in self._dirty]
            for ask in self._dirty:
                ask.held = 0
            self._dirty.clear()
            self.send(messages.Charge(tokens))
        if self._records:
            records, self._records = self._records, []
            self.send(messages.Records(records))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(frames.pack(out))

    # The connection

    async def _dial(self) -> None:
        while True:
            self._lost.clear()
            try:
                await self._loop.create_unix_connection(lambda: _End(self), str(self.path))
            except OSError:
                await asyncio.sleep(_REDIAL)
                continue
            await self._lost.wait()

    def opened(self, transport: asyncio.Transport) -> None:
        """There is a keeper: tell it everything."""
        self._transport = transport
        self._reader = frames.Reader(messages.Down)
        now = self._loop.time()
        instant = int(now * MICROSECONDS)
        hello = messages.Hello(messages.VERSION, self.name, self._own_secrets(now), self.paces.under_way(instant))
        hello.left = self._left(now)
        told: list[Any] = [hello]
        for entry in list(self.entries.values()):
            told += entry.again(now)
        told.append(messages.Ready())
        told += self._later
        self._later.clear()
        transport.write(frames.pack(told))
        self._arm()

    def _own_secrets(self, now: float) -> messages.Secrets | None:
        own = self.secrets
        if own is None:
            return None
        left = max(0.0, own.clients_left - (now - self._secrets_at))
        return messages.Secrets(tap=own.tap, clients=own.clients, clients_left=left)

    def _left(self, now: float) -> list[messages.LeftPlace]:
        """Who left a moment ago. Ages are as they are now."""
        places = []
        for at, place in self.left:
            gone = now - at
            if gone < _HOLD:
                age, eligible_in = place.age + gone, place.eligible_in - gone
                places.append(
                    messages.LeftPlace(
                        place.client, place.fingerprint, place.wish, place.number, age, eligible_in, gone
                    )
                )
        return places

    def closed(self) -> None:
        """The keeper is gone."""
        self._transport = None
        self._out.clear()
        self._lost.set()

    def received(self, data: bytes) -> None:
        """The keeper says something."""
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except frames.Broken as broken:
            self._log.warning("the keeper cannot be understood", reason=str(broken))
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, message: Any) -> None:
        kind = type(message)
        if kind in _OF_NUMBERS:
            entry = self.entries.get(message.id)
            if entry is not None:
                entry.hear(message)
            elif kind is messages.Granted:
                self.send(messages.End(message.id))
        elif kind is messages.Told:
            for number, standings in message.standings:
                if (entry := self.entries.get(number)) is not None:
                    entry.hear(messages.Told([(number, standings)]))
        elif kind is messages.Status:
            if self.secrets is not None:
                self.secrets.clients, self.secrets.clients_left = message.clients, message.clients_left
                self._secrets_at = self._loop.time()
            self.draining, self.status = message.draining, message
            self.on_status(message)
            self.send(messages.Beat(self.warnings))
        elif kind is messages.Paced:
            self.learn(message.paces)
        elif kind is messages.Welcome:
            self.epoch, self.secrets, self._secrets_at = message.epoch, message.secrets, self._loop.time()
            self._welcomed.set()
        elif isinstance(message, messages.Stored):
            self.on_kept(message)
        elif kind is messages.Drain:
            self.draining = True
        elif kind is messages.Again:
            self._abort()

    def learn(self, paces: Any) -> None:
        """Clients and how many microseconds their next free instant is away."""
        now = int(self._loop.time() * MICROSECONDS)
        for address, tat_in in paces:
            if tat_in > 0:
                self.paces.learn(address, now + tat_in, now)

    def __repr__(self) -> str:
        return f"<Link to {self.path}, {'up' if self.connected else 'down'}, {len(self.entries)} open>"


class _End(asyncio.Protocol):
    """One connection of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.opened(cast("asyncio.Transport", transport))  # uvloop's are none by name

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._link.closed()

    def data_received(self, data: bytes) -> None:
        self._link.received(data)


class _Question:
    """A question that stands alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Any] = loop.create_future()
        self.message: Any = None

    def hear(self, message: Any) -> None:
        if self.answer.done():
            return
        if isinstance(message, messages.Refused):
            self.answer.set_exception(failure_of(message))
        else:
            self.answer.set_result(message)

    def again(self, now: float) -> list[Any]:  # noqa: ARG002
        return [self.message]


_OF_NUMBERS = frozenset(
    {
        messages.Waits, messages.Granted, messages.Refused, messages.Decided, messages.Seated, messages.Place,
        messages.Passed, messages.Own,
    }
)  # fmt: skip
_FAILURES: dict[str, type[Failure]] = {
    kind.__name__: kind
    for module in (errors, waiting)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Failure)
}


def failure_of(refused: messages.Refused) -> Failure:
    """The failure that the keeper means. One that is not known here is taken for want of capacity."""
    kind = _FAILURES.get(refused.kind, NoEngine)
    failure = kind.__new__(kind)
    Failure.__init__(failure, refused.message, retry_after=refused.retry_after)
    return failure
