"""What an ask costs, and the bound that follows from it.

Service is counted in *weighted tokens*: tokens of the prompt and of the answer, each with its weight. One unit is what
one uncached prompt token costs an engine. Knows no queue; the theory of the bound is in `docs/fairness.md`.
"""

from __future__ import annotations

from msgspec import Struct


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
        """Weighted tokens for reading a prompt, of which `cached_tokens` were not read anew. Nothing costs nothing."""
        if prompt_tokens <= 0:
            return 0.0
        cached = min(cached_tokens, prompt_tokens)
        return max(self.least, self.prompt * (prompt_tokens - cached) + self.cached * cached)


class Reach(Struct, frozen=True):
    """The largest ask that is served, in tokens: what U is made of.

    `late` is the share of a prompt that may come as a late charge, because its estimate was too low: 0 where prompts
    are counted exactly, 1 where they are not known at all.
    """

    prompt_tokens: int = 8192
    output_tokens: int = 2048
    late: float = 0.5

    def bound(self, weights: Weights, running: int) -> float:
        """U: how far the counter of one who may have `running` asks in flight can rise above the line's floor."""
        prompt = weights.prompt * self.prompt_tokens
        return (
            max(weights.least, prompt)
            + running * weights.output * self.output_tokens
            + (running - 1) * self.late * prompt
        )
