"""Facts: what the pages tell about this tap. Plain values, so that a page is made anew when one of them
changes, and only then.

The composition root gives them; nothing here knows settings or engines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

_LINK = re.compile(r"([^=<>\x00-\x1f]{1,60})=((?:https?://|mailto:|/(?!/))[^\s<>\"'`]{1,500})")


class Link(Struct, frozen=True):
    """One of the operator's links."""

    label: str
    url: str


def links(texts: Sequence[str]) -> tuple[Link, ...]:
    """From `Label=https://...`. Raises ValueError that names the wrong one."""
    found = []
    for text in texts:
        match = _LINK.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not of the form Label=https://... (or mailto:... or /path)")
        found.append(Link(match[1].strip(), match[2]))
    return tuple(found)


class Facts(Struct, frozen=True):
    """What the pages tell. Times are seconds, sizes bytes. `address` has no slash at its end."""

    name: str
    address: str
    version: str
    model: str
    pace_interval: float
    """0 where there is no pace."""
    pace_waiting: int
    client_line: int
    """Asks that one client may have in line."""
    wait_limit: float
    max_tokens: int
    body_limit: int
    attempts: int
    system_prompt: bool
    """Whether the operator adds a system prompt."""
    elsewhere: bool
    """Whether prompts leave this machine for an engine on another one."""
    logged: bool
    """Whether a line per ask is logged."""
    rate_limit_headers: bool
    shares: bool
    kept_responses: float
    """Seconds for which a response is kept that asks for it; 0 where none is."""
    welcome: str = "What would you like to know?"
    links: tuple[Link, ...] = ()
    contact: str = ""
    privacy: str = ""
    accent: str = "#0b7494"
