"""Facts: what the pages tell about this server, as values and as the sentences that stand on them. Pure.

A page is made again when its facts change, and only then: so everything that a page says comes from here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from standpipe import __version__
from standpipe.engine_tables import EngineTable, url_of
from standpipe.policy.retry import ATTEMPTS
from standpipe.settings import Settings

_LINK = re.compile(r"([^=<>\x00-\x1f]{1,60})=((?:https?://|mailto:|/(?!/))[^\s<>\"'`]{1,500})")
_PLAIN_MODEL = re.compile(r"[\w.:/@+ -]{1,120}")


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
    """The settings, and what they do not hold: the address at which people reach us (no slash at its end), the model
    that answers now, and the operator's links."""

    settings: Settings
    address: str
    model: str
    links: tuple[Link, ...] = ()

    @property
    def name(self) -> str:
        return self.settings.name


def leaves_machine(engines: Sequence[str | EngineTable]) -> bool:
    """Whether any of these engines, by the setting, is on another machine."""
    return any(url.startswith(("http://", "https://", "ollama://")) and not _here(url) for url in map(url_of, engines))


def _here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def summary(facts: Facts) -> str:
    """One sentence for search engines and link previews."""
    return f"A free chat API without a key: {facts.name} serves {facts.model} to everyone, through a fair queue."


def words(facts: Facts) -> dict[str, str]:
    """The values that stand in the pages' Markdown."""
    settings = facts.settings
    return {
        "name": facts.name,
        "address": facts.address,
        "model": facts.model if _PLAIN_MODEL.fullmatch(facts.model) else "default",
        "version": __version__,
        "pace": _rate_limit(settings),
        "client_line": str(settings.queue_per_client),
        "wait_limit": f"{settings.wait_limit:g}",
        "max_tokens": f"{settings.max_tokens:,}",
        "body_limit": _size(settings.body_limit),
        "attempts": str(ATTEMPTS),
        "share": _share(settings),
        "system_prompt": _system_prompt(settings),
        "privacy_line": f"{_kept(settings)} {_elsewhere(settings)} [More about privacy](/privacy).",
        "kept": _kept(settings),
        "logged": _logged(settings),
        "elsewhere": _elsewhere(settings),
        "operator": _operator(settings),
        "links": "\n".join(f"- [{link.label}]({link.url})" for link in facts.links),
    }


def _rate_limit(settings: Settings) -> str:
    if not settings.pace_interval:
        return "There is no rate limit: send as many requests as you like. They wait in the queue."
    return (
        f"One request every {settings.pace_interval:g} s for each client. Faster requests are delayed, not refused; up "
        f"to {settings.pace_waiting} may be waiting."
    )


def _size(size: int) -> str:
    if size % 1_048_576 == 0:
        return f"{size >> 20} MiB"
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size:,} bytes"


def _share(settings: Settings) -> str:
    if not settings.shares:
        return "People behind one router count as one client. The operator can change that."
    return (
        "People behind one router count as one client. To be counted separately, call `POST /api/share` once and send "
        "the token that it returns in the header `x-standpipe-share`."
    )


def _system_prompt(settings: Settings) -> str:
    if settings.system_prompt and settings.system_prompt_mode != "off":
        return "The operator has set a system prompt for every conversation; yours is added to it."
    return "There is no system prompt unless you send one."


def _kept(settings: Settings) -> str:
    kept, held = settings.keep_responses, max(settings.hold_answers, settings.keep_responses)
    if not held:
        return "Prompts and answers are neither stored nor logged."
    told = (
        "Prompts and answers are not logged, and nothing is written to a disk. Answers through `/v1/responses` stay in "
        f"memory for {_time(held)} after they were last used, for your address alone, because programs refer to them "
        "by id. Send `store: false`, and they do not."
    )
    if kept:
        told += f" The prompts that led to them stay in memory with them, for {_time(kept)} at most."
    return f"{told} No other prompts and answers are stored."


def _time(seconds: float) -> str:
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{round(seconds / 3600)} hours"


def _logged(settings: Settings) -> str:
    if settings.log_level not in {"debug", "info"}:
        return "Requests are not logged; only errors of the server itself are."
    return (
        "One line is logged for each request: its id, API format, model, engine, status, times, numbers of tokens and "
        "attempts, and a code in place of your address. The code is made with a secret key that exists only in memory "
        "and changes every day, so that one day's lines cannot be linked to another's."
    )


def _elsewhere(settings: Settings) -> str:
    if leaves_machine(settings.engine):
        return "To be answered, a prompt is passed on to an engine on another machine, chosen by the operator."
    return "Prompts are answered on this machine."


def _operator(settings: Settings) -> str:
    parts = [settings.privacy] if settings.privacy else []
    if settings.contact:
        parts.append(f"Questions go to {_contact(settings.contact)}.")
    return "\n\n".join(parts) or "The operator has added nothing here."


def _contact(contact: str) -> str:
    if re.fullmatch(r"[\w.+-]+@[\w.-]+", contact):
        return f"[{contact}](mailto:{contact})"
    return f"[{contact}]({contact})" if contact.startswith(("https://", "http://")) else contact
