"""The front: what happens to every request before any handler, and to every error after all of them.

It gives the request its id, checks the host, answers preflights, finds the route and its method in the table, and is
the outermost wall: whatever escapes a handler becomes a failure in the path's own shape, or, once an answer has begun,
an unclean end. Must not know what any handler does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache

from msgspec import Struct

from standpipe.chat.errors import (
    Failure,
    Forbidden,
    InvalidAsk,
    LineFull,
    MethodNotAllowed,
    NotFound,
    PaceExceeded,
    TooLarge,
    TooSlow,
)
from standpipe.dialects.dialect import Dialect
from standpipe.dialects.openai.faults import failure_body
from standpipe.edge.seam import Refusal, Reply, Request
from standpipe.serve.exchange import COMMON, JSON, Exchange, Header, bug, failure_headers

_REFUSALS: dict[int, type[Failure]] = {408: TooSlow, 413: TooLarge, 429: PaceExceeded, 500: Failure, 503: LineFull}
"""What a shell's refusal is in the house's own words. Any other is the request's fault: 4xx, 501 and 505."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+){0,63}")

Handler = Callable[[Exchange], Awaitable[None]]


class Route(Struct, frozen=True):
    """What stands at one path.

    `dialect` is whose shape its failures have, `id_header` a second name under which its clients look for the
    request's id.
    """

    methods: Mapping[str, Handler]
    dialect: Dialect | None = None
    id_header: bytes | None = None

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that work here, for `Allow` and for preflights."""
        heads = ("HEAD",) if "GET" in self.methods else ()
        return (*self.methods, *heads, "OPTIONS")

    def handler(self, method: str) -> Handler:
        """The handler of a method. Raises MethodNotAllowed."""
        found = self.methods.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed(
                f"This path takes {', '.join(sorted(self.methods))}, not {method[:16]}.", allowed=self.allowed
            )
        return found


class Routes:
    """The table. A path that ends in `/*` takes everything below it."""

    def __init__(self, table: Mapping[str, Route]) -> None:
        self._exact = {path: route for path, route in table.items() if not path.endswith("/*")}
        self._below = [(path[:-1], route) for path, route in table.items() if path.endswith("/*")]

    def find(self, path: str) -> Route:
        """The route of a path. A trailing slash is forgiven. Raises NotFound."""
        route = self._exact.get(path)
        if route is not None:
            return route
        if len(path) > 1 and path.endswith("/") and (route := self._exact.get(path.rstrip("/"))) is not None:
            return route
        for prefix, below in self._below:
            if path.startswith(prefix) and len(path) > len(prefix):
                return below
        raise NotFound("Not found. See GET / for the available endpoints.")

    def paths(self) -> tuple[str, ...]:
        """All paths, for the documentation."""
        return (*self._exact, *(prefix + "*" for prefix, _ in self._below))


class Front:
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
            exchange.id_header = route.id_header
            if request.method == "OPTIONS":
                _preflight(exchange, route)
            else:
                await route.handler(request.method)(exchange)
        except Failure as failure:
            exchange.fail(failure, route.dialect if route else None)
        except Exception as error:  # noqa: BLE001 - the outermost wall: every bug is logged once, here
            self._on_bug(exchange.id, error)
            exchange.fail(bug(exchange.id), route.dialect if route else None)

    def _check_host(self, request: Request) -> None:
        if not self._serves_host(request.headers.get(b"host") or ""):
            raise Forbidden("This host name is not served here. The operator can allow it with the setting `hosts`.")

    def refuse(self, status: int, reason: str) -> Refusal:
        """The answer to somebody whom the shell turns away before there is a request."""
        failure = _REFUSALS.get(status, InvalidAsk)(reason)
        request_id = self._new_id()
        headers: list[Header] = [
            (b"content-type", JSON),
            *failure_headers(failure),
            (b"x-request-id", request_id.encode()),
            *COMMON,
        ]
        return Refusal(status, tuple(headers), failure_body(failure, request_id))


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
