"""Doubts: settings that are allowed, each by itself, and together probably not what their operator meant.

`standpipe check` and the first lines of the log tell them. Pure: it looks at settings, not at files or sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from standpipe.app.engines import Kind, parse_engine
from standpipe.engine_tables import EngineTable, url_of
from standpipe.policy.identity import Trust
from standpipe.settings import Settings

_DEFAULTS = Settings()

Doubt = tuple[Callable[[Settings], bool], str]
"""Whether it applies, and what to say."""

DOUBTS: tuple[Doubt, ...] = (
    # Where it listens
    (
        lambda s: _opened(s) and not s.tls_cert and not s.trusted_proxies and not s.trusted_hops,
        "anyone on the network can connect, and without tls_cert prompts travel unencrypted",
    ),
    (
        lambda s: s.admin_port != 0 and not _loopback(s.admin_host),
        "admin_host opens /metrics and /top to the network: anyone who reaches that port can read them",
    ),
    (
        lambda s: s.port == 443 and not s.tls_cert and not s.unix_socket,
        "port 443 speaks plain HTTP, because tls_cert is not set",
    ),
    (
        lambda s: s.port == 80 and bool(s.tls_cert),
        "port 80 speaks HTTPS, because tls_cert is set: browsers expect it on 443",
    ),
    (
        lambda s: bool(s.unix_socket) and (s.host, s.port) != (_DEFAULTS.host, _DEFAULTS.port),
        "host and port are ignored, because unix_socket is set",
    ),
    (
        lambda s: s.reuse_port and s.port == 0,
        "reuse_port shares no port, because port = 0 takes a new one",
    ),
    (
        lambda s: s.drain_delay > 0 and s.workers != "1",
        "drain_delay is ignored with workers: they take nobody in from the signal on",
    ),
    # Engines
    (
        lambda s: any(_is_ours(url_of(engine), s) for engine in s.engine),
        "engine is this server's own address: its requests would go round in a circle",
    ),
    (
        lambda s: bool(s.api_key) and bool(s.engine) and not _has(s, Kind.HTTP, Kind.OLLAMA),
        "api_key is sent to nobody, because no engine is reached over HTTP",
    ),
    (
        lambda s: any(_leaks_key(url_of(engine)) for engine in s.engine if s.api_key or _has_key(engine)),
        "a key is sent unencrypted over the network: use https:// for the engine",
    ),
    (
        lambda s: bool(s.context or s.threads) and bool(s.engine) and not _has(s, Kind.EMBEDDED),
        "context and threads are ignored, because no engine is embedded",
    ),
    (
        lambda s: 0 < s.context <= s.max_tokens,
        "max_tokens fills the whole context: nothing is left for the prompt",
    ),
    (
        lambda s: bool(s.system_prompt) and s.system_prompt_mode == "off",
        "system_prompt is ignored, because system_prompt_mode is off",
    ),
    (
        lambda s: not s.system_prompt and s.system_prompt_mode != _DEFAULTS.system_prompt_mode,
        "system_prompt_mode changes nothing, because system_prompt is empty",
    ),
    (
        lambda s: s.first_token_timeout < 10,
        "first_token_timeout is short: an engine that loads its model, or reads a long prompt, will be given up",
    ),
    # Rate limit and queue
    (
        lambda s: s.pace_interval == 0 and s.pace_waiting != _DEFAULTS.pace_waiting,
        "pace_waiting changes nothing, because pace_interval = 0 switches the rate limit off",
    ),
    (
        lambda s: s.queue_per_client > s.queue_per_block,
        "queue_per_client is never reached, because queue_per_block is smaller",
    ),
    (
        lambda s: s.queue_per_block > s.queue_total,
        "queue_per_block is never reached, because queue_total is smaller: one network can fill the queue",
    ),
    (
        lambda s: s.slots.isdecimal() and 0 < int(s.slots) <= s.client_slots,
        "client_slots lets one client hold every slot of an engine",
    ),
    (
        lambda s: s.connections_per_client > s.connections_per_block,
        "connections_per_client is never reached, because connections_per_block is smaller",
    ),
    (
        lambda s: s.connections_per_block > s.connections,
        "connections_per_block is never reached, because connections is smaller: one network can take them all",
    ),
    (
        lambda s: s.connections < s.queue_total + s.streams,
        "connections is smaller than queue_total and streams together: the queue can never fill",
    ),
    # Clients
    (
        lambda s: Trust.parse(s.trusted_proxies, s.client_header, hops=s.trusted_hops).unread,
        "client_header is never read, because trusted_proxies is empty",
    ),
    (
        lambda s: any(name != "unix" and ip_network(name).prefixlen < 8 for name in (*s.trusted_proxies, *s.tiers)),
        "trusted_proxies or tiers holds a huge network: every client in it can claim to be any other",
    ),
    (
        lambda s: s.proxy_protocol and not s.trusted_proxies,
        "proxy_protocol expects a header that nobody is trusted to send: list the proxy in trusted_proxies",
    ),
    (
        lambda s: bool(s.trusted_proxies or s.trusted_hops) and not s.hosts and not _opened(s),
        "behind a proxy on a loopback address, visitors get 403 until hosts lists the names they use",
    ),
    (
        lambda s: any("/" in name or _with_port(name) for name in (*s.hosts, *s.admin_hosts)),
        "hosts and admin_hosts take bare names such as chat.example.org, without https:// and without a port",
    ),
    # Pages
    (
        lambda s: s.public_url.startswith("http://") and bool(s.tls_cert),
        "public_url says http://, but tls_cert makes this server speak HTTPS",
    ),
    (
        lambda s: bool(s.public_url and s.hosts) and (urlsplit(s.public_url).hostname or "") not in _lower(s.hosts),
        "public_url names a host that is not in hosts: visitors who follow it get 403",
    ),
)


def doubts(settings: Settings) -> list[str]:
    """What is doubtful, in sentences. The settings must be valid."""
    return [sentence for applies, sentence in DOUBTS if applies(settings)]


def _opened(settings: Settings) -> bool:
    """Whether others than this machine can connect."""
    return not settings.unix_socket and not _loopback(settings.host)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has(settings: Settings, *kinds: Kind) -> bool:
    return any(parse_engine(url_of(engine)).kind in kinds for engine in settings.engine)


def _is_ours(engine: str, settings: Settings) -> bool:
    """Whether an engine's address is where we listen, as far as the settings tell."""
    url = urlsplit(engine.partition("#")[0])
    ours = url.scheme in {"http", "https", "ollama"} and not settings.unix_socket and url.port == settings.port
    return ours and settings.port != 0 and _loopback(url.hostname or "")


def _has_key(engine: str | EngineTable) -> bool:
    return isinstance(engine, EngineTable) and bool(engine.key or engine.key_env or engine.key_file)


def _leaks_key(engine: str) -> bool:
    url = urlsplit(engine.partition("#")[0])
    return url.scheme in {"http", "ollama"} and not _loopback(url.hostname or "")


def _with_port(name: str) -> bool:
    """Whether a port follows a name. An IPv6 address has more than one colon."""
    return name.count(":") == 1


def _lower(names: tuple[str, ...]) -> set[str]:
    return {name.lower() for name in names}
