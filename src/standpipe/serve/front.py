"""The front: what happens to every request before any handler, and to every error after all of them.

It gives the request its id, asks the door, answers preflights, finds the route and its method in the table, and is
the outermost wall: whatever escapes a handler becomes a failure in the path's own shape, or, once an answer has begun,
an unclean end. Must not know what any handler does.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from standpipe.chat.errors import (
    Failure,
    InvalidAsk,
    LineFull,
    MethodNotAllowed,
    NotFound,
    PaceExceeded,
    TooLarge,
    TooSlow,
    UpgradeRequired,
)
from standpipe.dialects.dialect import Dialect
from standpipe.dialects.openai.faults import failure_body
from standpipe.edge.seam import Refusal, Reply, Request
from standpipe.serve.door import CLOSED, Door, Origins
from standpipe.serve.exchange import JSON, Exchange, Header, bug, failure_headers

_REFUSALS: dict[int, type[Failure]] = {408: TooSlow, 413: TooLarge, 429: PaceExceeded, 500: Failure, 503: LineFull}
"""What the edge's refusal is in our own words. Any other is the request's fault: 4xx, 501 and 505."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+){0,63}")

_API = re.compile(r"/(v1|api)(/|$)")
_SLASHES = re.compile(r"//+")
_HEALTH = frozenset({"/health", "/healthz", "/livez", "/readyz", "/ping"})

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
                f"This path supports {', '.join(sorted(self.methods))}, not {method[:16]}.", allowed=self.allowed
            )
        return found


class Routes:
    """The table. A path that ends in `/*` takes everything below it, one with a `*` within whatever stands there.

    Clients build addresses from a base that people type, so a path of the API is forgiven where it can mean only one:
    double slashes, a slash at the end, `/v1` left out or there twice. Any other is told what it resembles.
    """

    def __init__(self, table: Mapping[str, Route], shapes: Mapping[str, Dialect] | None = None) -> None:
        """`shapes` tells the dialect in which failures are told below a path where nothing stands."""
        self._exact = {path: route for path, route in table.items() if "*" not in path}
        below = [(*path.partition("*")[::2], route) for path, route in table.items() if "*" in path]
        self._below: list[tuple[str, str, Route]] = sorted(
            below, key=lambda one: -len(one[1])
        )  # an end is more than none
        self._shapes = tuple((shapes or {}).items())
        self._endings: dict[str, str] = {}
        """Each ending of an API path, and the shortest path that ends so."""
        for path in sorted(filter(_API.match, self._exact), key=len):
            parts = path.split("/")
            for start in range(2, len(parts)):
                self._endings.setdefault("/".join(parts[start:]), path)

    def find(self, path: str) -> tuple[str, Route]:
        """The route of a path, and the path that is meant. Raises NotFound, which tells where it may be."""
        route = self._exact.get(path)
        if route is not None:
            return path, route
        if (found := self._find_below(path)) is not None:
            return path, found
        tidy = _SLASHES.sub("/", path).rstrip("/")
        for meant in (tidy, "/v1" + tidy, tidy.removeprefix("/v1")):
            if _API.match(meant):
                route = self._exact.get(meant) or self._find_below(meant)
                if route is not None:
                    return meant, route
        if tidy == path.rstrip("/") and (route := self._exact.get(tidy)) is not None:  # a page sees to its own address
            return path, route
        raise NotFound(f"Not found.{self._hint(tidy)} See GET / for the available endpoints.")

    def shape(self, path: str) -> Dialect | None:
        """The dialect of whoever asks for this path, where nothing stands."""
        return next((dialect for prefix, dialect in self._shapes if path.startswith(prefix)), None)

    def _find_below(self, path: str) -> Route | None:
        for start, end, route in self._below:
            if path.startswith(start) and path.endswith(end) and len(path) > len(start) + len(end):
                return route
        return None

    def _hint(self, path: str) -> str:
        if path in _HEALTH:
            return " Health checks are on the admin listener, under /healthz and /readyz; GET /api/status is for all."
        parts = path.split("/", 9)[1:9]
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        meant = next((self._endings[ending] for ending in endings if ending in self._endings), None)
        return "" if meant is None else f" Did you mean {meant}?"

    def paths(self) -> tuple[str, ...]:
        """All paths, for the documentation."""
        return (*self._exact, *(f"{start}*{end}" for start, end, _ in self._below))


class Front:
    """The handler that the edge runs."""

    def __init__(
        self,
        routes: Routes,
        *,
        door: Door,
        new_id: Callable[[], str],
        on_bug: Callable[[str, BaseException], None],
        page: Callable[[Failure, Exchange], None] | None = None,
    ) -> None:
        """`on_bug` gets a request id and the exception that nobody expected, `page` answers a browser's failure with a
        page. `routes`, `door` and `page` may be replaced."""
        self.routes = routes
        self.door = door
        self._new_id = new_id
        self._on_bug = on_bug
        self.page = page

    async def __call__(self, request: Request, reply: Reply) -> None:
        exchange = Exchange(request, reply, self._new_id(), CLOSED)
        route: Route | None = None
        try:
            self.door.check(request)
            exchange.common = self.door.headers
            request.path, route = self.routes.find(request.path)
            exchange.id_header = route.id_header
            if request.method == "OPTIONS" and self.door.origins is not Origins.OWN:
                _preflight(exchange, route)
            else:
                await _handler(route, request)(exchange)
        except Failure as failure:
            self._fail(exchange, failure, route)
        except Exception as error:  # noqa: BLE001 - the outermost wall: every bug is logged once, here
            self._on_bug(exchange.id, error)
            self._fail(exchange, bug(exchange.id), route)

    def _fail(self, exchange: Exchange, failure: Failure, route: Route | None) -> None:
        """A page for somebody who looks at one in a browser, and JSON for programs."""
        request = exchange.request
        dialect = self.routes.shape(request.path) if route is None else route.dialect
        looks = (request.headers.get(b"accept") or "").startswith("text/html") and not _API.match(request.path)
        if self.page is None or dialect is not None or not looks or exchange.reply.started:
            exchange.fail(failure, dialect)
        else:
            self.page(failure, exchange)

    def refuse(self, status: int, reason: str) -> Refusal:
        """The answer to a client that the edge turns away before there is a request."""
        failure = _REFUSALS.get(status, InvalidAsk)(reason)
        request_id = self._new_id()
        headers: list[Header] = [
            (b"content-type", JSON),
            *failure_headers(failure),
            (b"x-request-id", request_id.encode()),
            *self.door.headers,
        ]
        return Refusal(status, tuple(headers), failure_body(failure, request_id))


def _handler(route: Route, request: Request) -> Handler:
    """Raises MethodNotAllowed, or UpgradeRequired for a WebSocket's opening: the edge answers it as the GET that it
    is, and some clients try a GET's 405 again and again."""
    if request.method == "GET" and "GET" not in route.methods and request.headers.get(b"sec-websocket-key"):
        raise UpgradeRequired("There is no WebSocket here. Send POST requests over plain HTTP.")
    return route.handler(request.method)


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
