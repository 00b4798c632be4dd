"""Routes: path to handler, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from standpipe.chat.errors import MethodNotAllowed, NotFound
from standpipe.dialects.dialect import Dialect
from standpipe.serve.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]


class Route(Struct, frozen=True):
    """What stands at one path. `dialect` is whose shape its failures have."""

    methods: Mapping[str, Handler]
    dialect: Dialect | None = None

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that work here, for `Allow` and for preflights."""
        heads = ("HEAD",) if "GET" in self.methods else ()
        return (*self.methods, *heads, "OPTIONS")


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
        raise NotFound("There is nothing at this path. GET / shows what there is.")

    def paths(self) -> tuple[str, ...]:
        """All paths, for the documentation."""
        return (*self._exact, *(prefix + "*" for prefix, _ in self._below))


def handler(route: Route, method: str) -> Handler:
    """The handler of a method. Raises MethodNotAllowed."""
    found = route.methods.get("GET" if method == "HEAD" else method)
    if found is None:
        raise MethodNotAllowed(
            f"This path takes {', '.join(sorted(route.methods))}, not {method[:16]}.", allowed=route.allowed
        )
    return found
