"""The one table of settings: each has a name, a type with bounds, a default, a unit and a sentence of help.

From this table come the command line's flags (`--pace-interval`), the environment variables
(`STANDPIPE_PACE_INTERVAL`), the keys of the TOML file (`pace_interval`) and the page of the documentation;
`configuration` reads them. This module knows no component; components get plain values from `app`.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from standpipe.engine_tables import EngineTable


class SettingsError(Exception):
    """A setting is wrong. The message names it, its value, where it came from, and what is allowed."""


def _meta(help_text: str, unit: str = "", **bounds: Any) -> Meta:
    return Meta(description=help_text, extra={"unit": unit}, **bounds)


Seconds = float


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an operator can set. The order here is the order of `--help` and of the documentation."""

    host: Annotated[str, _meta("address to listen on; 0.0.0.0 or :: opens it to the network")] = "127.0.0.1"
    port: Annotated[
        int,
        _meta(
            "port of the public API; 0 lets the system choose; where it is not set, a platform's variable PORT is read",
            ge=0,
            le=65535,
        ),
    ] = 8080
    unix_socket: Annotated[str, _meta("path of a UNIX socket to listen on instead of host and port")] = ""
    admin_host: Annotated[str, _meta("address of the admin listener (/healthz /readyz /metrics)")] = "127.0.0.1"
    admin_port: Annotated[int, _meta("port of the admin listener; 0 switches it off", ge=0, le=65535)] = 8081
    admin_hosts: Annotated[
        tuple[str, ...],
        _meta(
            "host names of the admin listener, such as standpipe.monitoring.svc; addresses and localhost always work"
        ),
    ] = ()
    tls_cert: Annotated[str, _meta("path of a PEM certificate chain; with tls_key it serves HTTPS")] = ""
    tls_key: Annotated[str, _meta("path of the certificate's PEM key")] = ""
    reuse_port: Annotated[bool, _meta("share the port with another Standpipe (SO_REUSEPORT), for restarts")] = False
    workers: Annotated[
        str,
        _meta(
            "processes that serve: more than 1 use more cores behind one queue; auto means one per core, less one",
            pattern="^(auto|[1-9]|[1-5][0-9]|6[0-4])$",
            title="auto, or an integer from 1 to 64",
        ),
    ] = "1"

    engine: Annotated[
        tuple[str | EngineTable, ...],
        _meta(
            "the engines: embedded, embedded:NAME, embedded:/path/model.gguf, http://host:8000/v1, ollama://host "
            "or scripted:; may be "
            "given more than once; `#slots=N` behind one sets its slots; in the file also as [[engine]] tables, see "
            "below; empty means a local Ollama with a gpt-oss model, else the embedded starter",
            title="a list of strings",
        ),
    ] = ()
    model: Annotated[
        str,
        _meta("the default model, by the name an engine gives it; empty prefers a gpt-oss, else the first that chats"),
    ] = ""
    strict_models: Annotated[bool, _meta("answer 404 to unknown model names, instead of the default model")] = False
    fallback: Annotated[
        tuple[str, ...],
        _meta(
            "models that may answer in another's stead when no engine can take a request for that, each as MODEL=OTHER",
            title="a list of texts MODEL=OTHER",
        ),
    ] = ()
    api_key: Annotated[
        str,
        _meta(
            "key to send to the engine, where there is one over HTTP; several have keys of their own, in their tables"
        ),
    ] = ""
    slots: Annotated[
        str,
        _meta(
            "requests that an engine works on at a time, where it is not said of the engine itself; 0 means its own "
            "number, or 4 if it has none; auto finds out of each by trying, up to that number or 64",
            pattern="^(auto|[0-9]{1,3}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])$",
            title="auto, or an integer from 0 to 4096",
        ),
    ] = "0"
    affinity_slack: Annotated[
        float,
        _meta(
            "by how much more of its slots an engine may be busy than the least busy one, and still get the next "
            "request of a conversation that it answered last and need not read again; 0: conversations have no engine "
            "of their own",
            ge=0,
            le=1,
        ),
    ] = 0.25
    context: Annotated[
        int, _meta("embedded engine: context of one slot; 0 chooses by memory", "tokens", ge=0, le=1_048_576)
    ] = 0
    threads: Annotated[int, _meta("embedded engine: threads; 0 means one per core", ge=0, le=512)] = 0
    gpu_layers: Annotated[
        int, _meta("embedded engine: layers on a GPU; -1: as many as fit, if there is one", ge=-1, le=1000)
    ] = -1
    flash_attention: Annotated[
        Literal["auto", "on", "off"], _meta("embedded engine: flash attention; auto: where the hardware gains by it")
    ] = "auto"
    cache_type: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"],
        _meta("embedded engine: numbers in the KV cache; q8_0 takes half of f16's memory"),
    ] = "f16"
    cache_dir: Annotated[str, _meta("where downloaded models are kept; empty means the user's cache folder")] = ""
    system_prompt: Annotated[str, _meta("the operator's system prompt; treat it as public", max_length=32_768)] = ""
    system_prompt_mode: Annotated[
        Literal["prepend", "default", "off"],
        _meta("prepend: before the client's own; default: only if the client sends none; off: never"),
    ] = "prepend"

    pace_interval: Annotated[
        Seconds,
        _meta(
            "rate limit: shortest time between two requests of one client; faster ones are delayed; 0: no limit",
            "s",
            ge=0,
            le=3600,
        ),
    ] = 0.5
    pace_waiting: Annotated[int, _meta("delayed requests of one client; beyond that 429", ge=0, le=1000)] = 8
    queue_total: Annotated[
        int, _meta("requests that may wait in the queue, all clients together; beyond that 503", ge=1, le=1_000_000)
    ] = 2000
    queue_per_client: Annotated[
        int, _meta("requests that one client may have in the queue; beyond that 429", ge=1, le=1_000_000)
    ] = 8
    queue_per_block: Annotated[
        int, _meta("requests that one network block (/24, /48) may have in the queue", ge=1, le=1_000_000)
    ] = 64
    client_slots: Annotated[
        int, _meta("slots that one client may hold at a time; 0 chooses by the number of slots", ge=0, le=4096)
    ] = 0
    streams: Annotated[
        int,
        _meta(
            "requests that run at a time, however many slots the engines have; the others wait in the queue. One "
            "process streams some 30,000 tokens a second, and has no time left for new clients beyond that",
            ge=1,
            le=4096,
        ),
    ] = 1000
    wait_limit: Annotated[
        Seconds, _meta("longest estimated wait that is accepted; beyond it 503 at once", "s", gt=0, le=3600)
    ] = 60.0
    max_tokens: Annotated[
        int, _meta("most output tokens of one answer, reasoning included", "tokens", ge=1, le=1_048_576)
    ] = 2048
    body_limit: Annotated[int, _meta("largest request body", "B", ge=1024, le=67_108_864)] = 8_388_608
    body_memory: Annotated[
        int,
        _meta(
            "memory for request bodies above 64 KiB, all together, in equal parts for each worker; beyond that 503",
            "B",
            ge=65_536,
        ),
    ] = 134_217_728
    body_memory_per_client: Annotated[
        int,
        _meta("the same for one client; a network block may hold four times as much; beyond that 429", "B", ge=65_536),
    ] = 16_777_216

    keep_responses: Annotated[
        Seconds,
        _meta(
            "how long a stored response can be continued with previous_response_id; in memory, for its client's "
            "address alone; 0 stores nothing",
            "s",
            ge=0,
            le=2_592_000,
        ),
    ] = 0.0

    hold_answers: Annotated[
        Seconds,
        _meta(
            "how long after its last use an answer of Responses can be referred to by the ids of its items "
            "(item_reference), as clients do unless they set store to false; in memory, for its client's address "
            "alone; 0 holds none",
            "s",
            ge=0,
            le=86_400,
        ),
    ] = 1800.0

    first_token_timeout: Annotated[Seconds, _meta("longest wait for an engine's first token", "s", gt=0, le=86_400)] = (
        120.0
    )
    stall_timeout: Annotated[
        Seconds, _meta("longest silence of an engine in the middle of an answer", "s", gt=0, le=86_400)
    ] = 60.0
    continue_streams: Annotated[bool, _meta("have another engine go on with a stream whose engine died")] = True
    drain_delay: Annotated[
        Seconds,
        _meta(
            "how long it goes on as before after SIGTERM while /readyz says no, so that load balancers look elsewhere",
            "s",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    grace: Annotated[
        Seconds, _meta("how long running streams may finish after SIGTERM or Ctrl-C", "s", ge=0, le=86_400)
    ] = 30.0

    header_timeout: Annotated[
        Seconds, _meta("longest time for a request's headers to arrive", "s", gt=0, le=86_400)
    ] = 10.0
    body_timeout: Annotated[
        Seconds, _meta("longest time for a request's body to arrive, at 1 KiB/s or more", "s", gt=0, le=86_400)
    ] = 20.0
    idle_timeout: Annotated[
        Seconds, _meta("how long an idle keep-alive connection stays open", "s", gt=0, le=86_400)
    ] = 75.0
    write_timeout: Annotated[
        Seconds, _meta("close a connection whose client reads nothing for this long", "s", gt=0, le=86_400)
    ] = 30.0
    header_bytes: Annotated[int, _meta("largest size of a request's headers", "B", ge=1024, le=1_048_576)] = 16_384
    connections: Annotated[int, _meta("open connections, all together", ge=1, le=1_000_000)] = 10_000
    connections_per_client: Annotated[int, _meta("open connections of one client", ge=1, le=1_000_000)] = 32
    connections_per_block: Annotated[int, _meta("open connections of one network block", ge=1, le=1_000_000)] = 128

    trusted_proxies: Annotated[
        tuple[str, ...],
        _meta("addresses or networks of proxies whose forwarding headers count; `unix` trusts a UNIX socket's peer"),
    ] = ()
    client_header: Annotated[
        str,
        _meta("the one header in which trusted proxies name the client, such as CF-Connecting-IP; no other is read"),
    ] = "X-Forwarded-For"
    trusted_hops: Annotated[
        int,
        _meta(
            "instead of trusted_proxies, on platforms that do not publish their addresses: how many of their proxies "
            "stand in front and add to client_header; only where nobody else can connect; 0: off",
            ge=0,
            le=10,
        ),
    ] = 0
    tiers: Annotated[
        tuple[str, ...],
        _meta("addresses or networks of Standpipes in front of this one: they pace their clients and tell them apart"),
    ] = ()
    proxy_protocol: Annotated[bool, _meta("expect PROXY protocol v1 or v2 from trusted proxies")] = False
    hosts: Annotated[
        tuple[str, ...],
        _meta(
            "host names that are served; empty means any name, or, on a loopback address, only local names and web "
            "pages of this machine"
        ),
    ] = ()

    shares: Annotated[bool, _meta("offer POST /api/share, so people behind one router get fair shares")] = False

    name: Annotated[str, _meta("name of this server, shown on its pages", max_length=80)] = "Standpipe"
    public_url: Annotated[
        str,
        _meta(
            "public address, shown on the pages; empty means the first of hosts, or where it listens",
            pattern=r"^(https?://[^\s/<>\"']+(/[^\s<>\"'?#]*)?)?$",
            title="an address such as https://chat.example.org",
        ),
    ] = ""
    welcome: Annotated[str, _meta("question on the empty chat page", max_length=200)] = "What would you like to know?"
    links: Annotated[tuple[str, ...], _meta("links in the footer of the pages, each as Label=https://...")] = ()
    accent: Annotated[
        str,
        _meta(
            "accent colour of the pages; made lighter or darker where text would be unreadable",
            pattern="^#[0-9a-fA-F]{6}$",
            title="a colour such as #0b7494",
        ),
    ] = "#0b7494"
    frame_ancestors: Annotated[
        tuple[str, ...],
        _meta("sites that may show the pages in a frame: none, self, * or https://..., as in CSP's frame-ancestors"),
    ] = ("none",)
    contact: Annotated[str, _meta("contact for privacy questions: address, link or sentence", max_length=300)] = ""
    privacy: Annotated[str, _meta("the operator's text on the privacy page, in Markdown", max_length=10_000)] = ""
    log_format: Annotated[
        Literal["auto", "human", "json"], _meta("auto: human-readable on a terminal, JSON lines otherwise")
    ] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _meta("lowest level that is logged")] = "info"

    def values(self, kind: type[Struct]) -> dict[str, Any]:
        """The settings that have the same names as fields of `kind`: to make one without copying each by hand."""
        return {name: getattr(self, name) for name in kind.__struct_fields__ if name in self.__struct_fields__}


_GROUPS = {
    "host": "Where it listens",
    "engine": "Engines",
    "pace_interval": "Rate limit, queue and sizes",
    "keep_responses": "Stored responses",
    "first_token_timeout": "Engine timeouts and shutdown",
    "header_timeout": "Connections",
    "trusted_proxies": "Clients",
    "name": "Pages and log",
}
"""The settings that begin a group, and what it is about."""


STARTS = frozenset({
    "host", "port", "unix_socket", "admin_host", "admin_port", "tls_cert", "tls_key", "reuse_port", "workers",
    "model", "api_key", "slots", "affinity_slack", "context", "threads", "cache_dir",
    "gpu_layers", "flash_attention", "cache_type", "keep_responses", "hold_answers", "first_token_timeout",
    "stall_timeout", "continue_streams", "proxy_protocol", "shares", "log_format",
})  # fmt: skip
"""Settings that count at a start. All others may change while we run (SIGHUP)."""


class Field(Struct, frozen=True):
    """One row of the table, as flags, pages and tests read it."""

    group: str
    name: str
    type: Any
    default: Any
    unit: str
    help: str
    meta: Meta

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "STANDPIPE_" + self.name.upper()

    @property
    def many(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.type) is tuple

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        base, meta = self.type, self.meta
        if meta.title is not None:
            return meta.title
        if get_origin(base) is Literal:
            return "one of " + ", ".join(str(choice) for choice in get_args(base))
        if self.many:
            return "a list of strings"
        word = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}[base]
        low = meta.ge if meta.ge is not None else meta.gt
        if low is not None and meta.le is not None:
            return f"{word} {'above' if meta.gt is not None else 'from'} {low} to {meta.le}"
        if low is not None:
            return f"{word} {'above' if meta.gt is not None else 'of at least'} {low}"
        return word if meta.max_length is None else f"{word} of at most {meta.max_length} characters"


@cache
def hints(kind: type[Struct]) -> dict[str, Any]:
    """Each setting's annotation, its Meta included."""
    return get_type_hints(kind, include_extras=True)


@cache
def fields(kind: type[Struct] = Settings) -> tuple[Field, ...]:
    """The table, in order; or the rows of another, `EngineTable`."""
    structs = {field.name: field for field in msgspec.structs.fields(kind)}
    rows = []
    group = ""
    for name, hint in hints(kind).items():
        base, meta = get_args(hint)
        group = _GROUPS.get(name, group) if kind is Settings else ""
        default = structs[name].default
        if structs[name].default_factory is not msgspec.NODEFAULT:
            default = structs[name].default_factory()
        unit = (meta.extra or {})["unit"]
        rows.append(Field(group, name, base, default, unit, meta.description or "", meta))
    return tuple(rows)
