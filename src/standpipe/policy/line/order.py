"""An order: who is next among the asks that may start now. The one interface behind which fair, round-robin and fifo
are interchangeable.

An order knows places, flows and caps. It knows no time: the line tells it when an ask has become eligible.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from standpipe.policy.line.place import Place


class Caps(Struct, frozen=True):
    """How many asks may run: `slots` in all, `client` of one client, `block` of one network block.

    `reserve` slots are granted only to a client that comes with nothing waiting and no more than its share used.
    """

    slots: int
    client: int
    block: int
    reserve: int = 0


class Ahead(Struct, frozen=True):
    """What will be served before a place, if nobody else joins: asks, and of how many of them the own client's and the
    own block's."""

    asks: int
    block: int
    client: int


class Order(Protocol):
    """Who is next."""

    def enter(self, place: Place) -> None:
        """An ask may start from now on."""

    def withdraw(self, place: Place) -> None:
        """An ask that had entered leaves without having run."""

    def take(self, free: int) -> Place | None:
        """Choose who gets one of `free` slots and charge its prompt; None if nobody may have it."""

    def charge(self, place: Place, weight: float) -> None:
        """Count service that was delivered to a running ask. A negative weight gives back what was charged too much."""

    def release(self, place: Place) -> None:
        """A running ask has freed its slot."""

    def resize(self, caps: Caps) -> None:
        """The number of slots, or what follows from it, has changed."""

    def ahead(self, place: Place) -> Ahead:
        """What will be served before this place, which may have entered or not yet."""

    def heaviest(self) -> Place | None:
        """The newest entered ask of whoever was served most."""
