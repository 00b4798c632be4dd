"""Kept things: bytes that a client may have back for a while, by a key that only it knows.

A thing is its owner's alone: whoever asks from another address is told that there is none. Nothing is kept for longer
than the time limit, and what is looked up is not kept any longer for it. When room runs out, the oldest thing of the
network block that holds most goes first, so that nobody pushes others out by keeping much, or by having many
addresses. What the bytes mean is not known here. A store must be able to lose everything without anything becoming
unsafe.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from standpipe.policy.identity import ClientKey


class Bounds(Struct, frozen=True):
    """How long things are kept, in seconds, and how much: bytes of one thing, things of one client, bytes of all."""

    seconds: float = 3600.0
    thing_bytes: int = 1_048_576
    per_client: int = 32
    total_bytes: int = 67_108_864


class Kept(Protocol):
    """Where things are kept. `now` is in seconds, on any clock that does not go back."""

    async def put(self, key: str, owner: ClientKey, value: bytes, now: float) -> bool:
        """Keep a thing under a new key. False: it is too large, and is not kept."""
        ...

    async def get(self, key: str, owner: ClientKey, now: float) -> bytes | None:
        """The owner's thing, None when there is none."""
        ...

    async def delete(self, key: str, owner: ClientKey, now: float) -> bool:
        """Forget the owner's thing. False: there was none."""
        ...


class Statistics(Struct, frozen=True):
    """How much is kept, and how many things had to go before their time."""

    things: int
    bytes: int
    clients: int
    displaced: int


class _Thing(Struct, frozen=True, gc=False):
    address: str
    block: str
    value: bytes
    until: float


class MemoryKept:
    """Implements `Kept` in this process."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._things: dict[str, _Thing] = {}  # in order of their end, because all have the same time
        self._of_client: dict[str, dict[str, None]] = {}  # keys, the oldest first
        self._of_block: dict[str, dict[str, None]] = {}
        self._block_bytes: dict[str, int] = {}
        self._bytes = 0
        self._displaced = 0

    async def put(self, key: str, owner: ClientKey, value: bytes, now: float) -> bool:
        self.forget(now)
        if len(value) > min(self._bounds.thing_bytes, self._bounds.total_bytes):
            return False
        self._add(key, _Thing(owner.address, owner.block, value, now + self._bounds.seconds))
        of_client = self._of_client[owner.address]
        while len(of_client) > self._bounds.per_client:
            self._displace(next(iter(of_client)))
        while self._bytes > self._bounds.total_bytes:
            # Looks at every block: only when room is short, and only once for a whole answer.
            heaviest = max(self._block_bytes, key=self._block_bytes.__getitem__)
            self._displace(next(iter(self._of_block[heaviest])))
        return key in self._things

    async def get(self, key: str, owner: ClientKey, now: float) -> bytes | None:
        self.forget(now)
        thing = self._things.get(key)
        return thing.value if thing is not None and thing.address == owner.address else None

    async def delete(self, key: str, owner: ClientKey, now: float) -> bool:
        if await self.get(key, owner, now) is None:
            return False
        self._drop(key)
        return True

    def forget(self, now: float) -> None:
        """Let go of everything whose time has passed. Every other call does so too; a silent house calls this."""
        while self._things:
            key, thing = next(iter(self._things.items()))
            if thing.until > now:
                return
            self._drop(key)

    def statistics(self) -> Statistics:
        return Statistics(len(self._things), self._bytes, len(self._of_client), self._displaced)

    def _add(self, key: str, thing: _Thing) -> None:
        self._things[key] = thing
        self._of_client.setdefault(thing.address, {})[key] = None
        self._of_block.setdefault(thing.block, {})[key] = None
        self._block_bytes[thing.block] = self._block_bytes.get(thing.block, 0) + len(thing.value)
        self._bytes += len(thing.value)

    def _displace(self, key: str) -> None:
        self._drop(key)
        self._displaced += 1

    def _drop(self, key: str) -> None:
        thing = self._things.pop(key)
        self._bytes -= len(thing.value)
        for name, groups in ((thing.address, self._of_client), (thing.block, self._of_block)):
            del groups[name][key]
            if not groups[name]:
                del groups[name]
        self._block_bytes[thing.block] -= len(thing.value)
        if thing.block not in self._of_block:
            del self._block_bytes[thing.block]

    def __repr__(self) -> str:
        return f"<MemoryKept {len(self._things)} things, {self._bytes} bytes>"
