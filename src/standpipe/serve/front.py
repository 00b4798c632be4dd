"""The guard: what happens to every request before any handler, and to every error after all of them.

It gives the request its id, checks the host, answers preflights, finds the route and its method, and is the
outermost wall: whatever escapes a handler becomes a failure in the path's own shape, or, once an answer has begun, an
unclean end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

from standpipe.chat.errors import (
    Failure,
    Forbidden,
    InvalidAsk,
    LineFull,
    PaceExceeded,
    TooLarge,
    TooSlow,
)
from standpipe.edge.seam import Refusal, Reply, Request
from standpipe.serve import faults
from standpipe.serve.exchange import COMMON, JSON, Exchange, Header
from standpipe.serve.routes import Route, Routes, handler

_REFUSALS: dict[int, type[Failure]] = {408: TooSlow, 413: TooLarge, 429: PaceExceeded, 500: Failure, 503: LineFull}
"""What a shell's refusal is in the house's own words. Any other is the request's fault: 4xx, 501 and 505."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+){0,63}")


class Guard:
    """The handler that a shell runs."""

    def __init__(
        self,
        routes: Routes,
        *,
        serves_host: Callable[[str], bool],
        new_id: Callable[[], str],
        on_bug: Callable[[str, BaseException], None],
    ) -> None:
        """`on_bug` gets a request id and the exception that nobody expected."""
        self._routes = routes
        self._serves_host = serves_host
        self._new_id = new_id
        self._on_bug = on_bug

    async def __call__(self, request: Request, reply: Reply) -> None:
        exchange = Exchange(request, reply, self._new_id())
        route: Route | None = None
        try:
            self._check_host(request)
            route = self._routes.find(request.path)
            if request.method == "OPTIONS":
                _preflight(exchange, route)
            else:
                await handler(route, request.method)(exchange)
        except Failure as failure:
            self._fail(exchange, failure, route)
        except Exception as error:  # noqa: BLE001 - the outermost wall: every bug is logged once, here
            self._on_bug(exchange.id, error)
            self._fail(exchange, faults.bug(exchange.id), route)

    def _check_host(self, request: Request) -> None:
        if not self._serves_host(request.headers.get(b"host") or ""):
            raise Forbidden("This host name is not served here. The operator can allow it with the setting `hosts`.")

    def _fail(self, exchange: Exchange, failure: Failure, route: Route | None) -> None:
        if exchange.reply.started:
            exchange.reply.abort()
        else:
            faults.send(exchange, failure, route.dialect if route else None)

    def refuse(self, status: int, reason: str) -> Refusal:
        """The answer to somebody whom the shell turns away before there is a request."""
        failure = _REFUSALS.get(status, InvalidAsk)(reason)
        headers: list[Header] = [(b"content-type", JSON), *faults.headers(failure), *COMMON]
        return Refusal(status, tuple(headers), faults.body(failure, self._new_id()))


def _preflight(exchange: Exchange, route: Route) -> None:
    """Free, and cached by browsers for a day. Names asked for are allowed by name: a wildcard does not cover
    Authorization."""
    asked = exchange.request.headers.get(b"access-control-request-headers") or ""
    allowed = asked if _HEADER_NAMES.fullmatch(asked) else "content-type, authorization"
    exchange.send_empty(
        204,
        (
            (b"access-control-allow-methods", ", ".join(route.allowed).encode()),
            (b"access-control-allow-headers", allowed.encode()),
            (b"access-control-max-age", b"86400"),
            (b"vary", b"access-control-request-headers"),
        ),
    )


def host_rule(hosts: tuple[str, ...], *, loopback_only: bool) -> Callable[[str], bool]:
    """Which values of the Host header are served.

    1. `hosts` given: those names, and addresses and `localhost` as well when listening on loopback.
    2. Else, listening on loopback only: addresses and local names. A web page that points a name of its own at
       127.0.0.1 (DNS rebinding) must not reach a tap that was meant for this machine.
    3. Else anything.
    """
    named = frozenset(host.lower() for host in hosts)

    @lru_cache(maxsize=256)
    def serves(host: str) -> bool:
        if not named and not loopback_only:
            return True
        name = _without_port(host).lower()
        return name in named or (loopback_only and _is_local(name))

    return serves


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_local(name: str) -> bool:
    if name in {"", "localhost"} or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
