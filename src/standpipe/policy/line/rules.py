"""What the operator decides about the line, and the caps that follow from it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.fair import Fair
from standpipe.policy.line.order import Caps, Order
from standpipe.policy.line.waiting import Room
from bench.fairness.turns import Fifo, RoundRobin
from standpipe.policy.overload import Patience


class Policy(StrEnum):
    """How waiting asks are ordered."""

    FAIR = "fair"
    ROUND_ROBIN = "round-robin"
    FIFO = "fifo"


class Rules(Struct, frozen=True):
    """Everything the line goes by.

    `client_slots` is m, the most slots that one client may hold; 0 means 4, or fewer where there are few slots.
    `headroom` slots are out of reach for any one client or block, however idle the rest is, and are granted only to
    those that come fresh, however many others wait; None chooses by the number of slots. `hold` is for how many seconds
    the place of a client that left is kept for its retry.
    """

    policy: Policy = Policy.FAIR
    client_slots: int = 0
    headroom: int | None = None
    weights: Weights = Weights()
    reach: Reach = Reach()
    room: Room = Room()
    patience: Patience = Patience()
    hold: float = 10.0

    def caps(self, slots: int) -> Caps:
        """The caps that follow where there are this many slots.

        By default an eighth of them is headroom, at least one; but fewer than four are too few to keep one for
        strangers who may not come.
        """
        if self.headroom is None:
            kept = max(1, slots // 8)
            reserve = kept if slots >= 4 else 0
        else:
            kept = reserve = min(self.headroom, slots - 1)
        most = max(1, slots - kept)
        return Caps(slots, min(self.client_slots or 4, most), most, reserve)

    def order(self, slots: int) -> Order:
        """An empty order of this policy."""
        match self.policy:
            case Policy.FAIR:
                return Fair(self.caps(slots), self.weights, self.reach)
            case Policy.ROUND_ROBIN:
                return RoundRobin(self.caps(slots))
            case Policy.FIFO:
                return Fifo(self.caps(slots))
