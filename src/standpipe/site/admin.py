"""The operator's side: what the admin listener answers. Knows nothing of who may reach it."""

from __future__ import annotations

from standpipe.engines.fleet import Fleet
from standpipe.observe.metrics import CONTENT_TYPE, Metrics
from standpipe.serve.admission import Admission
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Route, Routes
from standpipe.site.status import StatusBoard


def routes(fleet: Fleet, admission: Admission, metrics: Metrics, board: StatusBoard) -> Routes:
    """/healthz while the process answers, /readyz while requests are, and /metrics and /top to look at."""

    async def alive(exchange: Exchange) -> None:
        exchange.send(200, b"ok\n", b"text/plain")

    async def ready(exchange: Exchange) -> None:
        up = fleet.health().up and not admission.draining
        exchange.send(200 if up else 503, b"ready\n" if up else b"not ready\n", b"text/plain")

    async def page(exchange: Exchange) -> None:
        exchange.send(200, metrics.page(), CONTENT_TYPE)

    handlers = {"/healthz": alive, "/readyz": ready, "/metrics": page, "/top": board.get_top}
    return Routes({path: Route({"GET": handler}) for path, handler in handlers.items()})
