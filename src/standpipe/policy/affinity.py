"""Prefix affinity: a conversation goes on where it was answered last, because that engine need not read it again.

Engines keep what they have read of a prompt (a "prefix cache"), and a conversation's next request begins with all of
its last one. So each request that is answered leaves a digest of its messages; one that goes on from them finds it by a
chain of digests, one for each beginning, made in one pass over the text. Requests that are equal, or have only an
operator's prompt in common, don't attract each other: they would crowd at one engine for what is soon read everywhere.

A preference and no right: `standing.choose` follows it among engines that are equally good, as long as the one is not
much busier than the least busy. Fairness is untouched, because whose turn it is has been decided when the engine is
chosen: a request neither waits for its engine nor overtakes another for its sake. Pure: keys and time are arguments.
No text is kept, and digests cannot be traced to any without the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from standpipe.chat.ask import Ask
from standpipe.policy.estimate import texts

MEMORY = 3600.0
"""Seconds for which it is remembered where a conversation was answered."""
MOST = 16_384
"""Conversations that are remembered at a time, some 4 MiB."""
_DIGEST = 16

Home = TypeVar("Home")


def prefixes(ask: Ask, key: bytes) -> tuple[bytes, ...]:
    """A digest of each beginning of the conversation, the shortest first. `key`: at most 64 bytes, secret."""
    found = []
    for message, text in zip(ask.messages, texts(ask), strict=False):
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, key=key)
        for image in message.images:
            digest.update(image.data.encode())
        key = digest.digest()
        found.append(key)
    return tuple(found)


class Affinity(Generic[Home]):
    """Where conversations were answered last. Times are seconds of one clock."""

    __slots__ = ("_homes",)

    def __init__(self) -> None:
        self._homes: dict[bytes, tuple[Home, float]] = {}  # the oldest first: each lives equally long

    def home(self, prefixes: Sequence[bytes], now: float) -> Home | None:
        """Where the conversation was answered that this one goes on from; None when that is not known."""
        for prefix in prefixes[-2::-1]:
            found = self._homes.get(prefix)
            if found is not None and now < found[1]:
                return found[0]
        return None

    def answered(self, prefixes: Sequence[bytes], home: Home, now: float) -> None:
        """Remember that a conversation is answered here."""
        if not prefixes:
            return
        homes = self._homes
        homes.pop(prefixes[-1], None)
        homes[prefixes[-1]] = home, now + MEMORY
        while len(homes) > MOST or next(iter(homes.values()))[1] <= now:
            del homes[next(iter(homes))]

    def __len__(self) -> int:
        return len(self._homes)
