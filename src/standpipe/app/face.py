"""The face: pages, status and descriptions of this tap, connected to the house that they tell of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from standpipe import __version__
from standpipe.engines.pool import Pool
from standpipe.serve.admission import Admission
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Route
from standpipe.settings import Settings, SettingsError
from standpipe.site.facts import Facts, links
from standpipe.site.pages import Site
from standpipe.site.status import StatusBoard

_TOP = 50
"""Clients that an operator is shown at a time."""


class Face:
    """What people and programs see beside the API itself."""

    def __init__(
        self,
        settings: Settings,
        address: str,
        pool: Pool,
        admission: Admission,
        about: Callable[[], dict[str, Any]],
        hash_client: Callable[[str], str],
    ) -> None:
        """`address` is where people reach this tap. Raises SettingsError."""
        self._settings = settings
        self._line = admission.line
        self._hash_client = hash_client
        self._address = (settings.public_url or address).rstrip("/")
        self._pool = pool
        try:
            self._links = links(settings.links)
        except ValueError as error:
            raise SettingsError(f"links: {error}") from error
        self.board = StatusBoard(about, admission.statistics, lambda: admission.draining)
        self.paths: tuple[str, ...] = ()
        """All that is served, once the house knows it."""
        self._site = Site(self.facts, self.board.now, lambda: self.paths)

    def routes(self) -> dict[str, Route]:
        """Everything that is there to be looked at."""
        return {
            **self._site.routes(),
            "/api/status": Route({"GET": self.board.whole}),
            "/api/status/events": Route({"GET": self.board.events}),
        }

    async def top(self, exchange: Exchange) -> None:
        """The handler of GET /top on the admin listener: the status, and who is in the line, by daily hashes."""
        clients = {client: [0, 0, tokens] for client, tokens in self.board.clients().items()}
        for address, waiting, running in self._line.clients():
            row = clients.setdefault(self._hash_client(address), [0, 0, 0.0])
            row[0] += waiting
            row[1] += running
        busiest = sorted(clients.items(), key=lambda item: item[1], reverse=True)[:_TOP]
        rows = [
            {"client": client, "waiting": waiting, "running": running, "tokens": round(tokens)}
            for client, (waiting, running, tokens) in busiest
        ]
        body = msgspec.json.encode({**self.board.now(), "clients": rows, "clients_known": len(clients)})
        exchange.send(200, body, headers=((b"cache-control", b"no-store"),))

    def facts(self) -> Facts:
        """What the pages tell, as it is now."""
        settings = self._settings
        return Facts(
            name=settings.name,
            address=self._address,
            version=__version__,
            model=self._pool.resolve(None),
            pace_interval=settings.pace_interval,
            pace_waiting=settings.pace_waiting,
            client_line=settings.line_per_client,
            wait_limit=settings.wait_limit,
            max_tokens=settings.max_tokens,
            body_limit=settings.body_limit,
            attempts=settings.attempts,
            system_prompt=bool(settings.system_prompt) and settings.system_prompt_mode != "off",
            elsewhere=leaves_machine(settings.engine),
            logged=settings.log_level in {"debug", "info"},
            rate_limit_headers=settings.rate_limit_headers,
            shares=settings.shares == "on",
            kept_responses=settings.keep_responses,
            welcome=settings.welcome,
            links=self._links,
            contact=settings.contact,
            privacy=settings.privacy,
            accent=settings.accent,
        )


def leaves_machine(engines: Sequence[str]) -> bool:
    """Whether any of these engines, by their texts, is on another machine."""
    return any(engine.startswith(("http://", "https://")) and not _here(engine) for engine in engines)


def _here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
