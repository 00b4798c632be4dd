"""The house: settings and engines to handlers, connected. Opens no socket; `run` gives it to shells."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from standpipe import __version__
from standpipe.app.face import Face
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai.responses import request as openai_responses
from standpipe.edge.server import EdgeStatistics
from standpipe.engines.engine import Engine
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.pool import Pool
from standpipe.observe.hooks import Hook
from standpipe.observe.log import AskLog, ClientHash, Logger
from standpipe.observe.metrics import Metrics
from standpipe.policy.alarm import Alarm, Oddity
from standpipe.policy.caps import Caps
from standpipe.policy.identity import Identities, Identity, Trust
from standpipe.policy.line import Line, Policy, Reach, Room, Rules
from standpipe.policy.overload import SlotRange, Slots
from standpipe.policy.pace import MICROSECONDS, Rate
from standpipe.serve import endpoints
from standpipe.serve.admission import Admission
from standpipe.serve.conversations import Conversations
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Front, Route, Routes, host_rule
from standpipe.serve.limits import Caps as ToldCaps
from standpipe.serve.limits import Limits
from standpipe.serve.share import Shares
from standpipe.serve.stream import StreamTimeouts
from standpipe.serve.walk import AskHandler, Embeddings, Services
from standpipe.settings import Settings, SettingsError
from standpipe.store.blobs import Blobs, Quota
from standpipe.store.paces import Paces

REFRESH = 10.0
"""Seconds between two looks at every engine's health."""

_ADVICE = {
    Oddity.ONE_ADDRESS: "most asks come from one address: if a proxy stands in front, set trusted_proxies",
    Oddity.UNTRUSTED_PROXY: "asks carry forwarding headers from a proxy that is not trusted: set trusted_proxies",
    Oddity.SILENT_PROXY: "a trusted proxy does not say for whom it asks: see client_header and trusted_proxies",
}
"""The mistake that broke other public services, in words: everybody shares the proxy's place in line."""


class Standpipe:
    """One running house. `guard` and `admin` are what shells run; use it as an async context manager."""

    def __init__(
        self, settings: Settings, engines: Sequence[Engine], log: Logger, *, address: str, local: bool
    ) -> None:
        """`address` is where people reach it, for the pages; `local` whether only this machine can. Raises
        SettingsError."""
        self.settings = settings
        self._log = log
        self._refreshing: asyncio.Task[None] | None = None
        self.pool = Pool(
            engines,
            default_model=settings.model or None,
            first_token_timeout=settings.first_token_timeout,
            stall_timeout=settings.stall_timeout,
            attempts=settings.attempts,
        )
        self._identities = Identities(_trust(settings))
        if settings.client_header and not settings.trusted_proxies:
            log.warning("client_header is set, but nobody is in trusted_proxies, so it is never read")
        self._alarm = Alarm()
        self._rules = _rules(settings)
        self.line = Line(self._rules, min(self.pool.slots, settings.streams))
        self.admission = Admission(
            self.line,
            Paces(),
            rate=_rate(settings),
            wait_limit=settings.wait_limit,
            has_room=self.pool.has_room,
            auto=Slots(1, SlotRange(most=self.pool.slots)) if settings.slots == "auto" else None,
            most=settings.streams,
        )
        self._shares = _shares(settings)
        self.kept = _kept(settings)
        self.edge: Callable[[], EdgeStatistics] | None = None
        """Counts of the server that this house is behind, if it is behind one."""
        self.metrics = Metrics(self._gauges, self._counters)
        hash_client = ClientHash(time.monotonic, secrets.token_bytes)
        self.face = Face(settings, address, self.pool, self.admission, self.about, hash_client)
        hooks: list[Hook] = [AskLog(log), self.metrics, self.face.board.record]
        caps = ToldCaps(
            max_tokens=settings.max_tokens,
            body_bytes=settings.body_limit,
            wait_seconds=settings.wait_limit,
            asks_in_line=settings.line_per_client,
            asks_in_line_per_network=settings.line_per_block,
            client_slots=self.client_slots,
        )
        self._limits = Limits(self.admission, self._identify, caps, draft=settings.rate_limit_headers)
        services = Services(
            pool=self.pool,
            admission=self.admission,
            identify=self._identify,
            limits=self._limits,
            hash_client=hash_client,
            caps=Caps(settings.max_tokens),
            system_prompt=settings.system_prompt,
            system_prompt_mode=settings.system_prompt_mode,
            body_limit=settings.body_limit,
            timeouts=StreamTimeouts(settings.commit_after, settings.heartbeat),
            hooks=hooks,
            wall_clock=time.time,
        )
        self.guard = self._guard(self._routes(services), host_rule(settings.hosts, loopback_only=local))
        self.admin = self._guard(self._admin_routes(), lambda _: True)

    async def __aenter__(self) -> Self:
        await self.pool.refresh()
        self.admission.resize(self.pool.slots)
        self.face.board.open()
        self._refreshing = asyncio.get_running_loop().create_task(self._look_after())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))
        self.face.board.close()
        self.admission.close()
        await self.pool.close()

    async def _look_after(self) -> None:
        """Probe the engines once, then keep an eye on them."""
        await self.pool.probe()
        for engine in self.pool.statistics().engines:
            if engine.handling is Handling.READS_ANYWAY:
                self._log.warning("this engine reads control tokens even when they are broken", engine=engine.name)
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self.pool.refresh()
            except Exception as bug:  # noqa: BLE001 - asks must go on although we no longer look
                self._log.error("bug", error=bug)
            self.admission.resize(self.pool.slots)
            self.admission.dispatch()
            if self.kept is not None:
                self.kept.expire(asyncio.get_running_loop().time())

    def _identify(self, exchange: Exchange) -> Identity:
        request = exchange.request
        identity = self._identities.identify(request.peer, request.headers.all)
        for oddity in self._alarm.observe(identity):
            self._log.warning(_ADVICE[oddity], oddity=str(oddity))
        return identity if self._shares is None else self._shares.apply(identity, exchange)

    @property
    def client_slots(self) -> int:
        """How many asks of one client may run at a time."""
        return self._rules.caps(self.line.slots).client

    def _guard(self, routes: Routes, serves_host: Any) -> Front:
        def on_bug(request_id: str, bug: BaseException) -> None:
            self._log.error("bug", id=request_id, error=bug)

        return Front(routes, serves_host=serves_host, new_id=_new_id, on_bug=on_bug)

    def _routes(self, services: Services) -> Routes:
        since = int(time.time())
        state = endpoints.HealthHandlers(self.pool, self.about, since)
        api, chat = openai_chat.API, openai_chat.COMPLETIONS
        routes = Routes(
            {
                **self.face.routes(),
                "/api": Route({"POST": AskHandler(api, services), "GET": state.health}, api),
                "/api/limits": Route({"GET": self._limits.why}),
                **self._share_routes(),
                "/v1/chat/completions": Route({"POST": AskHandler(chat, services)}, chat),
                **self._other_openai_routes(services),
                "/v1/models": Route({"GET": state.models}),
                "/v1/models/*": Route({"GET": state.model}),
                **endpoints.anthropic_routes(services),
                **endpoints.ollama_routes(services, since),
            }
        )
        self.face.paths = routes.paths()
        return routes

    def _other_openai_routes(self, services: Services) -> dict[str, Route]:
        """Responses, kept where the operator wants that, legacy completions, and embeddings."""
        responses = openai_responses.OpenAIResponses(keeps=self.kept is not None)
        legacy = openai_completions.LEGACY
        routes = {
            "/v1/completions": Route({"POST": AskHandler(legacy, services)}, legacy),
            "/v1/embeddings": Route({"POST": Embeddings(services)}, openai_chat.COMPLETIONS),
        }
        if self.kept is None:
            return routes | {"/v1/responses": Route({"POST": AskHandler(responses, services)}, responses)}
        kept = Conversations(self.kept, self._identify, partial(secrets.token_hex, 16))
        return routes | {
            "/v1/responses": Route({"POST": AskHandler(responses, services, kept)}, responses),
            "/v1/responses/*": Route({"GET": kept.get, "DELETE": kept.delete}, responses),
        }

    def _share_routes(self) -> dict[str, Route]:
        if (shares := self._shares) is None:
            return {}
        issue = partial(shares.issue, identify=self._identify)
        return {"/api/share": Route({"GET": shares.challenge, "POST": issue})}

    def _admin_routes(self) -> Routes:
        async def alive(exchange: Exchange) -> None:
            exchange.send(200, b"ok\n", b"text/plain")

        async def ready(exchange: Exchange) -> None:
            up = self.pool.health().up and not self.admission.draining
            exchange.send(200 if up else 503, b"ready\n" if up else b"not ready\n", b"text/plain")

        async def metrics(exchange: Exchange) -> None:
            from standpipe.observe import prometheus  # noqa: PLC0415  # see there

            exchange.send(200, prometheus.page(self.metrics), prometheus.CONTENT_TYPE)

        return Routes(
            {
                "/healthz": Route({"GET": alive}),
                "/readyz": Route({"GET": ready}),
                "/metrics": Route({"GET": metrics}),
                "/top": Route({"GET": self.face.top}),
            }
        )

    def about(self) -> dict[str, Any]:
        """What GET /api tells."""
        health, line, settings = self.pool.health(), self.line.statistics(), self.settings
        about: dict[str, Any] = {
            "status": "ok" if health.up else "down",
            "name": settings.name,
            "version": __version__,
            "model": self.pool.resolve(None),
            "engines": [
                {
                    "name": engine.name,
                    "up": engine.up,
                    "slots": engine.slots,
                    "busy": engine.busy,
                    "models": engine.models,
                    "control_tokens": engine.handling,
                }
                for engine in self.pool.statistics().engines
            ],
            "pace": {"interval_seconds": settings.pace_interval, "waiting": settings.pace_waiting},
            "line": {"waiting": line.waiting, "running": line.running, "slots": line.slots, "order": settings.line},
            "limits": {"max_tokens": settings.max_tokens, "body_bytes": settings.body_limit},
        }
        if health.reason:
            about["reason"] = health.reason
        if oddities := self._alarm.statistics().oddities:
            about["warnings"] = sorted(_ADVICE[oddity] for oddity in oddities)
        return about

    def _gauges(self) -> dict[str, tuple[str, float]]:
        line, pool = self.line.statistics(), self.pool.statistics()
        return {
            "standpipe_line_waiting": ("Asks that wait in line", line.waiting),
            "standpipe_line_running": ("Asks that hold a slot", line.running),
            "standpipe_line_slots": ("Slots", line.slots),
            "standpipe_line_clients": ("Clients with an ask in line", line.clients),
            "standpipe_line_bytes": ("Request bytes that wait in line", line.bytes),
            "standpipe_identity_oddities": (
                "Signs that a proxy in front is not set up (see the log)",
                len(self._alarm.statistics().oddities),
            ),
            "standpipe_engines_up": ("Engines that are up", sum(engine.up for engine in pool.engines)),
            **({} if self.edge is None else {"standpipe_connections": ("Open connections", self.edge().connections)}),
        }

    def _counters(self) -> dict[str, tuple[str, str, dict[str, float]]]:
        if self.edge is None:
            return {}
        edge = self.edge()
        rejected: dict[str, float] = {str(status): count for status, count in edge.rejected.items()}
        return {
            "standpipe_connections_refused": ("Connections over a cap", "cap", dict(edge.refused)),
            "standpipe_connections_overdue": ("Connections cut for being late", "deadline", dict(edge.overdue)),
            "standpipe_requests_rejected": ("Requests refused before they were read as such", "status", rejected),
        }


def _new_id() -> str:
    """A request's id. Nobody gains anything by guessing one."""
    return f"{random.getrandbits(64):016x}"


def _trust(settings: Settings) -> Trust:
    try:
        return Trust.parse(settings.trusted_proxies, settings.client_header)
    except ValueError as error:
        raise SettingsError(f"trusted_proxies: {error}") from error


def _rules(settings: Settings) -> Rules:
    return Rules(
        policy=Policy(settings.line),
        client_slots=settings.client_slots,
        reach=Reach(output_tokens=settings.max_tokens),
        room=Room(
            client=settings.line_per_client,
            block=settings.line_per_block,
            line=settings.line_total,
            bytes=settings.line_bytes,
        ),
    )


def _rate(settings: Settings) -> Rate | None:
    if settings.pace_interval == 0:
        return None
    return Rate(int(settings.pace_interval * MICROSECONDS), settings.pace_waiting)


def _kept(settings: Settings) -> Blobs | None:
    if settings.keep_responses == 0:
        return None
    return Blobs(
        Quota(
            seconds=settings.keep_responses,
            per_client=settings.kept_per_client,
            total_bytes=settings.kept_bytes,
        )
    )


def _shares(settings: Settings) -> Shares | None:
    if settings.shares == "off":
        return None
    work = None
    if settings.shares == "work":
        try:
            from standpipe.serve.work import Work  # noqa: PLC0415 - altcha is there only with the extra `work`
        except ImportError as error:
            raise SettingsError("shares = work needs the package altcha: pip install 'standpipe[work]'") from error
        work = Work(secrets.token_hex(32), time.time, secrets.randbelow)
    return Shares(secrets.token_bytes(32), time.time, secrets.token_bytes, work)
