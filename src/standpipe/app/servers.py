"""The servers in front of the handlers, and what they go by, from the settings."""

from __future__ import annotations

from pathlib import Path

from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import Tls
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust
from standpipe.serve.front import Front
from standpipe.settings import Settings, SettingsError


def limits(settings: Settings) -> EdgeConfig:
    """Deadlines and sizes of connections."""
    return EdgeConfig(**settings.values(EdgeConfig))


def trust(settings: Settings) -> Trust:
    """Who speaks for others. Raises SettingsError."""
    try:
        return Trust.parse(settings.trusted_proxies, settings.client_header, settings.tiers, settings.trusted_hops)
    except ValueError as error:
        raise SettingsError(f"trusted_proxies or tiers: {error}") from error


def certificate(settings: Settings) -> Tls | None:
    """Where there is one. Nothing is read yet."""
    return Tls(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None


def public_server(settings: Settings, guard: Front) -> Server:
    """For everybody."""
    return Server(guard, guard.refuse, limits(settings), trust(settings), proxied=settings.proxy_protocol)


def admin_server(admin: Front) -> Server:
    """For the operator."""
    return Server(admin, admin.refuse, EdgeConfig(), Trust())
