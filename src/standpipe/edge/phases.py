"""The phases of a connection, and which may follow which. The table `NEXT` is the whole machine.

    NEW --> HEAD --> ANSWERING --> IDLE --> HEAD ...     keep-alive
    any --> LINGERING --> CLOSING --> LOST               refused, or an answer that ends the connection

How long a connection may stay in each is in `config`; what makes it move is `connection`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """What a connection is doing."""

    NEW = "new"
    HEAD = "head"
    """A request's head is coming."""
    ANSWERING = "answering"
    """A request is being answered; its body may still be coming."""
    IDLE = "idle"
    """Between two requests."""
    LINGERING = "lingering"
    """What still comes is thrown away, so that an answer can be read."""
    CLOSING = "closing"
    """What was written is flushed, and no more."""
    LOST = "lost"
    """The socket is gone; a handler may still be tidying up."""


_PARTING = {Phase.LINGERING, Phase.CLOSING, Phase.LOST}
NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.HEAD, Phase.ANSWERING, *_PARTING}),
    Phase.HEAD: frozenset({Phase.ANSWERING, *_PARTING}),
    Phase.ANSWERING: frozenset({Phase.IDLE, *_PARTING}),
    Phase.IDLE: frozenset({Phase.HEAD, Phase.ANSWERING, *_PARTING}),
    Phase.LINGERING: frozenset({Phase.CLOSING, Phase.LOST}),
    Phase.CLOSING: frozenset({Phase.LOST}),
    Phase.LOST: frozenset(),
}
"""Which phases may follow each."""
REQUESTLESS = frozenset({Phase.NEW, Phase.HEAD, Phase.IDLE, Phase.LINGERING})
"""Phases in which nobody waits for an answer, but perhaps reads one."""
