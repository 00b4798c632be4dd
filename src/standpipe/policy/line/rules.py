"""What the operator decides about the line: what asks cost, how much may wait, how many may run; and the bound U.

Service is counted in *weighted tokens*: tokens of the prompt and of the answer, each with its weight. One unit is what
one uncached prompt token costs an engine. Knows no queue; the theory of the bound is in `group`.
"""

from __future__ import annotations

from msgspec import Struct

from standpipe.policy.overload import ShedTarget


class Weights(Struct, frozen=True):
    """Weighted tokens per token, and the least that one ask is charged.

    An output token costs an engine about twice a prompt token (measure it: seconds per output token, slots busy,
    divided by seconds per prompt token); a prompt token found in the prefix cache about a tenth. `least` keeps a flood
    of one-token asks from being free.
    """

    prompt: float = 1.0
    output: float = 2.0
    cached: float = 0.1
    least: float = 64.0

    def input(self, prompt_tokens: int, cached_tokens: int = 0) -> float:
        """Weighted tokens for reading a prompt, `cached_tokens` of it from the cache. Nothing costs nothing."""
        if prompt_tokens <= 0:
            return 0.0
        cached = min(cached_tokens, prompt_tokens)
        return max(self.least, self.prompt * (prompt_tokens - cached) + self.cached * cached)


class LargestAsk(Struct, frozen=True):
    """The largest ask that is served, in tokens: what U is made of.

    `late` is the share of a prompt that may come as a late charge, because its estimate was too low: 0 where prompts
    are counted exactly, 1 where they are not known at all.
    """

    prompt_tokens: int = 8192
    output_tokens: int = 2048
    late: float = 0.5

    def bound(self, weights: Weights, running: int) -> float:
        """U: how far the counter of a client with at most `running` asks in flight can rise above the virtual time."""
        prompt = weights.prompt * self.prompt_tokens
        return (
            max(weights.least, prompt)
            + running * weights.output * self.output_tokens
            + (running - 1) * self.late * prompt
        )


class QueueLimits(Struct, frozen=True):
    """How many asks may wait, of one client, of one block and in all. `bytes` counts the requests' bodies."""

    client: int = 8
    block: int = 64
    line: int = 2000
    bytes: int = 64 * 1024 * 1024


class SlotCaps(Struct, frozen=True):
    """How many asks may run: `slots` in all, `client` of one client, `block` of one network block.

    `headroom` slots are granted only to a client that comes with nothing waiting and no more than its share used.
    """

    slots: int
    client: int
    block: int
    headroom: int = 0


class Rules(Struct, frozen=True):
    """Everything the line goes by.

    `client_slots` is m, the most slots that one client may hold; 0 means 4, or fewer where there are few slots.
    `headroom` slots are out of reach for any one client or block, however idle the rest is, and are granted only to
    those that come fresh, however many others wait; None chooses by the number of slots. `hold` is for how many seconds
    the place of a client that left is kept for its retry.
    """

    client_slots: int = 0
    headroom: int | None = None
    weights: Weights = Weights()
    largest: LargestAsk = LargestAsk()
    limits: QueueLimits = QueueLimits()
    shed: ShedTarget = ShedTarget()
    hold: float = 10.0

    def caps(self, slots: int) -> SlotCaps:
        """The caps that follow where there are this many slots.

        By default an eighth of them is headroom, at least one; but fewer than four are too few to keep one for
        strangers who may not come.
        """
        if self.headroom is None:
            kept = max(1, slots // 8)
            headroom = kept if slots >= 4 else 0
        else:
            kept = headroom = min(self.headroom, slots - 1)
        most = max(1, slots - kept)
        return SlotCaps(slots, min(self.client_slots or 4, most), most, headroom)
