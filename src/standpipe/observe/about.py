"""What a Standpipe says of itself: the one shape of `GET /api`, `GET /api/status` and the operator's `GET /top`.

These structs are encoded by `site.status`, described by `site.openapi` and decoded by `terminal.top`. The rows that
people read, on the status page, in its Markdown and in the terminal, have their labels and their order here, once.
Knows no HTTP, and nothing of where the numbers come from.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict

from standpipe.observe.history import Hour
from standpipe.policy.alarm import ProxyWarning

WARNINGS = {
    ProxyWarning.ONE_ADDRESS: "most requests come from one address: if a proxy stands in front, set trusted_proxies",
    ProxyWarning.UNTRUSTED_PROXY: "requests carry forwarding headers from an untrusted proxy: set trusted_proxies",
    ProxyWarning.SILENT_PROXY: "the proxy does not name its clients: see client_header, trusted_proxies, trusted_hops",
}
"""The mistake that broke other public services, in words: all clients share the proxy's place in the queue."""


class EngineState(Struct, frozen=True):
    """One engine. `control_tokens` is what it does with those in clients' text, None where that is not known;
    `reason` why it is down. A draining one gets nothing new. `image_models` are those that see images."""

    name: str
    up: bool
    slots: int
    busy: int
    models: tuple[str, ...]
    control_tokens: str | None = None
    context_tokens: int | None = None
    reason: str | None = None
    draining: bool = False
    image_models: tuple[str, ...] = ()


class EngineCounts(Struct, frozen=True):
    """What was counted of one engine since the start: attempts, and by how they ended. `first_token` is the usual
    seconds to one, `held_off` the seconds for which it is still left alone, `left_alone` those in all."""

    name: str
    attempts: int
    outcomes: dict[str, int]
    first_token: float | None
    held_off: float
    left_alone: float = 0.0


class RateLimit(Struct, frozen=True):
    """One request per interval of each client; `waiting` more may wait for theirs. 0 seconds is no limit."""

    interval_seconds: float
    waiting: int


class Queue(Struct, frozen=True):
    """Requests that wait for a slot, and those that have one."""

    waiting: int
    running: int
    slots: int


class RequestLimits(Struct, frozen=True, omit_defaults=True):
    """Of one answer, and of one request. `context_tokens` is what a conversation and its answer may have together, the
    least of all engines that say so. `images` is how many the default model may be shown; None where it sees none."""

    max_tokens: int
    body_limit: int
    context_tokens: int | None = None
    images: int | None = None


class About(Struct, frozen=True, omit_defaults=True):
    """What this server is and how it is right now. `reason` says why it is down; `warnings` are for its operator."""

    status: Literal["ok", "down"]
    name: str
    version: str
    model: str
    engines: tuple[EngineState, ...]
    rate_limit: RateLimit
    queue: Queue
    limits: RequestLimits
    reason: str | None = None
    warnings: tuple[str, ...] = ()


class Status(About, frozen=True, omit_defaults=True, kw_only=True):
    """The same, and the last hour."""

    uptime_seconds: int
    hour: Hour


class ClientLoad(Struct, frozen=True):
    """One client, by the daily hash of the log: its requests now, and the tokens it was sent in the last minutes."""

    client: str
    waiting: int
    running: int
    tokens: int


class OperatorStatus(Status, frozen=True, omit_defaults=True, kw_only=True):
    """The same, and the busiest of `clients_known` clients. For the operator alone."""

    clients: tuple[ClientLoad, ...]
    clients_known: int


class Row(Struct, frozen=True):
    """One number of a status: the field that holds it, its label, how it is written, and the field with its minutes."""

    key: str
    label: str
    form: Literal["count", "decimal", "seconds"] = "count"
    minutes: str = ""


ROWS = (
    Row("requests", "Requests in the last hour"),
    Row("answered", "Answered"),
    Row("requests_per_minute", "Requests per minute", "decimal", "minute_requests"),
    Row("tokens_per_second", "Tokens per second", "decimal", "minute_tokens"),
    Row("waiting", "Queued", minutes="minute_queue"),
    Row("running", "Running"),
    Row("wait_median", "Median wait", "seconds"),
    Row("wait_p95", "95th percentile wait", "seconds", "minute_wait"),
    Row("rejected_rate_limit", "Rejected: rate limit (429)"),
    Row("rejected_capacity", "Rejected: at capacity (503)"),
    Row("failed", "Failed"),
    Row("disconnected", "Canceled by the client"),
    Row("fairness", "Fairness index (1 is even)", "decimal"),
)


def texts(status: Status) -> dict[str, str]:
    """Each row's number as text, by its key; `-` where there is none."""
    values = asdict(status.hour) | asdict(status.queue)
    return {row.key: _text(values[row.key], row.form) for row in ROWS}


def _text(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    if form == "seconds":
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    return f"{value:,}" if form == "count" else f"{value:g}"
