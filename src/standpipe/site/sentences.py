"""Sentences: the facts of this tap in words, as its pages say them. Pure."""

from __future__ import annotations

import re

from standpipe.site.facts import Facts

_PLAIN_MODEL = re.compile(r"[\w.:/@+ -]{1,120}")


def summary(facts: Facts) -> str:
    """One sentence for search engines and link previews."""
    return f"A free chat API without a key: {facts.name} serves {facts.model} to everybody, with fair turns."


def words(facts: Facts) -> dict[str, str]:
    """The values that stand in the pages' Markdown."""
    return {
        "name": facts.name,
        "address": facts.address,
        "model": facts.model if _PLAIN_MODEL.fullmatch(facts.model) else "default",
        "version": facts.version,
        "pace": _pace(facts),
        "client_line": str(facts.client_line),
        "wait_limit": f"{facts.wait_limit:g}",
        "max_tokens": f"{facts.max_tokens:,}",
        "body_limit": _size(facts.body_limit),
        "attempts": str(facts.attempts),
        "draft_headers": (
            "The IETF draft's `RateLimit` and `RateLimit-Policy` are sent as well." if facts.rate_limit_headers else ""
        ),
        "share": _share(facts),
        "system_prompt": (
            "The operator has put a system prompt in front of every conversation; yours is added to it."
            if facts.system_prompt
            else "There is no system prompt but the one that you send."
        ),
        "privacy_line": _privacy_line(facts),
        "kept": _kept(facts),
        "logged": _logged(facts),
        "elsewhere": _elsewhere(facts),
        "operator": _operator(facts),
        "links": "\n".join(f"- [{link.label}]({link.url})" for link in facts.links),
    }


def _pace(facts: Facts) -> str:
    if not facts.pace_interval:
        return "There is no pace here: ask as often as you like, and take your turn in line."
    return (
        f"One ask every {facts.pace_interval:g} s for each client. Sooner ones are not refused: they wait for their "
        f"instant, {facts.pace_waiting} of them at a time."
    )


def _size(size: int) -> str:
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size:,} bytes"


def _share(facts: Facts) -> str:
    if not facts.shares:
        return "People behind one router share one place. The operator can change that."
    return (
        "People behind one router share one place. To be told apart, `POST /api/share` once and send the note that it "
        "gives in the header `x-standpipe-share`."
    )


def _privacy_line(facts: Facts) -> str:
    return f"{_kept(facts)} {_elsewhere(facts)} [More about privacy](/privacy)."


def _kept(facts: Facts) -> str:
    if facts.kept_responses:
        return (
            "Prompts and answers are not logged, and not kept, but for responses that are asked for with "
            f"`store: true` through `/v1/responses`: those stay in memory for {_hours(facts.kept_responses)} at most."
        )
    return "Prompts and answers are neither kept nor logged."


def _hours(seconds: float) -> str:
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{round(seconds / 3600)} hours"


def _logged(facts: Facts) -> str:
    if not facts.logged:
        return "No line is logged for an ask that went well or badly; only faults of this server itself are."
    return (
        "One line is logged for each ask: its id, the format that it came in, the model and the engine, the status, "
        "times, counts of tokens and attempts, and a code that stands for your address. The code is made with a secret "
        "key that lives in memory only and changes every day, so that yesterday's lines cannot be joined with today's."
    )


def _elsewhere(facts: Facts) -> str:
    if facts.elsewhere:
        return "To be answered, a prompt is passed on to an engine on another machine that the operator has chosen."
    return "Prompts are answered on this very machine."


def _operator(facts: Facts) -> str:
    parts = [facts.privacy] if facts.privacy else []
    if facts.contact:
        parts.append(f"Questions go to {_contact(facts.contact)}.")
    return "\n\n".join(parts) or "The operator of this tap has left no further words."


def _contact(contact: str) -> str:
    if re.fullmatch(r"[\w.+-]+@[\w.-]+", contact):
        return f"[{contact}](mailto:{contact})"
    return f"[{contact}]({contact})" if contact.startswith(("https://", "http://")) else contact
