"""Work: the small proof of work that may buy a share, by `altcha` (extra `work`). A speed bump, not a wall.

Challenges are made so that checking one is a single keyed hash; a solution counts for ten minutes. Nothing is stored.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import altcha
import msgspec

_COST = 1000
"""Rounds of PBKDF2 for one try: about half a millisecond."""
_TRIES = 2000
"""Between this many tries and twice as many find the solution."""
_LIFETIME = 600
"""Seconds for which a challenge counts."""


class Work:
    """Makes challenges and checks solutions."""

    def __init__(self, secret: str, clock: Callable[[], float], below: Callable[[int], int]) -> None:
        """`secret` signs challenges, `clock` is Unix seconds, `below` draws a random number below its argument."""
        self._secret = secret
        self._clock = clock
        self._below = below

    def challenge(self) -> bytes:
        """A challenge as altcha's clients read it (JSON)."""
        challenge = altcha.create_challenge(
            algorithm="PBKDF2/SHA-256",
            cost=_COST,
            counter=_TRIES + self._below(_TRIES),
            expires_at=datetime.fromtimestamp(self._clock() + _LIFETIME, UTC),
            hmac_secret=self._secret,
            hmac_key_secret=self._secret,
        )
        return msgspec.json.encode(challenge.to_dict())

    def solved(self, payload: bytes) -> bool:
        """Whether this is the solution of a challenge of ours (altcha's payload: JSON, or that in base64)."""
        text = payload.strip()
        if text.startswith(b"{"):
            text = base64.b64encode(text)
        try:
            result = altcha.verify_solution(text.decode("ascii"), self._secret, hmac_key_secret=self._secret)
        except (ValueError, TypeError, KeyError):
            return False
        return bool(result.verified)
