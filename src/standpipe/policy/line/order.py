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


class Level(Struct, frozen=True):
    """One of the wholes that a place is a part of: its client, its block, everybody.

    `asks` of it will be served before the place; `running` of it run now, and `cap` may.
    """

    asks: int
    running: int
    cap: int


class OrderStatistics(Struct, frozen=True):
    """A snapshot. `known` counts the clients remembered; `bound` is U between blocks; `clipped` counts charges that
    could be given back only in part."""

    known: int
    floor: float = 0.0
    clock: float = 0.0
    bound: float = 0.0
    clipped: int = 0


class Order(Protocol):
    """Who is next."""

    def enter(self, place: Place) -> None:
        """An ask may start from now on."""

    def withdraw(self, place: Place) -> None:
        """An ask that had entered leaves without having run."""

    def take(self) -> Place | None:
        """Choose who gets a free slot and charge its prompt; None if nobody may have it."""

    def charge(self, place: Place, weight: float) -> None:
        """Count service that was delivered to a running ask. A negative weight gives back what was charged too much."""

    def release(self, place: Place) -> None:
        """A running ask has freed its slot."""

    def resize(self, caps: Caps) -> None:
        """The number of slots, or what follows from it, has changed."""

    def ahead(self, place: Place) -> tuple[Level, ...]:
        """What will be served before this place, which may have entered or not yet, if nobody else joins. The last
        level is everybody."""

    def heaviest(self) -> Place | None:
        """The newest entered ask of whoever was served most."""

    def statistics(self) -> OrderStatistics: ...
