"""The application: settings and engines to handlers, connected. Opens no socket; `run` puts it behind servers."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from standpipe.app.roster import Roster
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai.responses import request as openai_responses
from standpipe.edge.server import EdgeStatistics
from standpipe.engines.choice import FleetChoice
from standpipe.engines.engine import Engine
from standpipe.engines.fleet import Change, DefaultChange, Fleet
from standpipe.engines.member import EngineStatistics
from standpipe.engines.names import read_fallbacks
from standpipe.engines.pool import Pool
from standpipe.observe.about import WARNINGS
from standpipe.observe.hooks import Hook
from standpipe.observe.log import ClientHash, Logger, RequestLog
from standpipe.observe.metrics import Metrics, Now
from standpipe.policy.alarm import Alarm
from standpipe.policy.body_budget import BodyBudget
from standpipe.policy.identity import Identities, Identity, Trust
from standpipe.policy.line import LargestAsk, Line, QueueLimits, Rules
from standpipe.policy.overload import ShedTarget
from standpipe.policy.pace import MICROSECONDS, Rate
from standpipe.policy.retry import ATTEMPTS
from standpipe.serve import endpoints
from standpipe.serve.admission import Admission
from standpipe.serve.bodies import Bodies
from standpipe.serve.conversations import Conversations
from standpipe.serve.door import Door, Origins
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Front, Route, Routes
from standpipe.serve.limits import Limits, OperatorLimits
from standpipe.serve.share import Shares
from standpipe.serve.stream import StreamTimeouts
from standpipe.serve.walk import AskHandler, Embeddings, Services
from standpipe.settings import Settings, SettingsError
from standpipe.site.pages import Pages
from standpipe.site.status import StatusBoard, operators
from standpipe.store.blobs import Blobs, Quota
from standpipe.store.paces import Paces

_HELD = 1024
"""Answers of one client whose items are held: a long session of an agent, which refers to all of its own."""

EXPIRE = 10.0
"""Seconds between two looks at what is stored."""


class App:
    """One running Standpipe. `guard` answers the public, `admin` the operator; use it as an async context manager."""

    def __init__(
        self,
        settings: Settings,
        engines: Sequence[Engine],
        log: Logger,
        *,
        address: str,
        local: bool,
        attempts: int = ATTEMPTS,
        timeouts: StreamTimeouts | None = None,
    ) -> None:
        """`address` is where people reach it, for the pages; `local` whether only this machine can. `attempts` and
        `timeouts` are for tests: no operator would turn them. Raises SettingsError."""
        self.settings = settings
        self._log = log
        self._address = address
        self._local = local
        self._since = int(time.time())
        self._timeouts = timeouts or StreamTimeouts()
        self._refreshing: asyncio.Task[None] | None = None
        self.fleet = Fleet(engines, settings.model or None)
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, _fallbacks(settings)
        self.fleet.on_default = self._tell_default
        self.roster = Roster(self.fleet, settings, log)
        self.choice = FleetChoice(self.fleet, attempts=attempts, affinity_slack=settings.affinity_slack)
        self.pool = Pool(
            self.choice,
            first_token_timeout=settings.first_token_timeout,
            stall_timeout=settings.stall_timeout,
            continues=settings.continue_streams,
        )
        self._alarm = Alarm()
        self.line = Line(_rules(settings), min(self.fleet.slots, settings.streams))
        self.admission = Admission(
            self.line,
            self.choice.seats,
            Paces(),
            rate=_rate(settings),
            wait_limit=settings.wait_limit,
            most=settings.streams,
        )
        self._bodies = Bodies(
            BodyBudget(settings.body_memory, settings.body_memory_per_client),
            settings.body_limit,
            self.admission,
            time.perf_counter,
        )
        self._shares = Shares(secrets.token_bytes(32), time.time, secrets.token_bytes) if settings.shares else None
        self.kept = Blobs(Quota(seconds=settings.keep_responses)) if settings.keep_responses else None
        held = max(settings.hold_answers, settings.keep_responses)
        self.held = Blobs(Quota(seconds=held, per_client=_HELD)) if held else None
        self.edge: Callable[[], EdgeStatistics] | None = None
        """Counts of the server that this app is behind, if it is one of ours."""
        self.metrics = Metrics(self._now)
        self._hash_client = ClientHash(time.monotonic, secrets.token_bytes)
        self.board = StatusBoard(settings, self.fleet, self.admission, self._alarm, self._hash_client)
        self._identities = Identities(_trust(settings))
        self.pages = Pages(settings, address, self.fleet, self.board)
        told = operators(self.fleet, self.admission, self.metrics, self.board)
        self.guard = self._front(self._routes(settings), self._door(settings))
        self.guard.page = self.pages.fail
        self.admin = self._front(told, _operators_door(settings))

    def apply(self, settings: Settings) -> None:
        """Go by these settings from now on, but for those of `settings.STARTS`. What waits and runs goes on.

        Raises SettingsError, and has changed nothing then.
        """
        identities = Identities(_trust(settings))
        fallbacks = _fallbacks(settings)
        pages = Pages(settings, self._address, self.fleet, self.board)
        # From here on nothing can fail.
        self.settings = self.board.settings = settings
        self._identities, self.pages = identities, pages
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, fallbacks
        self._log.set_level(settings.log_level)
        self.admission.rate, self.admission.wait_limit = _rate(settings), settings.wait_limit
        self.admission.lines.set_rules(_rules(settings))
        self.admission.most = settings.streams
        self._bodies.limit, budget = settings.body_limit, self._bodies.budget
        budget.total, budget.client = settings.body_memory, settings.body_memory_per_client
        self.guard.routes, self.guard.door = self._routes(settings), self._door(settings)
        self.guard.page = pages.fail
        self.admin.door = _operators_door(settings)
        self.admission.regroup()
        self.admission.dispatch()

    async def __aenter__(self) -> Self:
        await self.fleet.refresh()
        self.board.open()
        self._refreshing = asyncio.get_running_loop().create_task(self._look_after())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))
        self.board.close()
        self.admission.close()
        self.choice.seats.close()
        await self.fleet.close()

    async def _look_after(self) -> None:
        """Keep an eye on the engines, and let go of what is over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for blobs in (self.kept, self.held):
                if blobs is not None:
                    group.create_task(self._expire(blobs))

    async def _watch(self) -> None:
        while True:
            try:
                await self.fleet.watch(self._notice)
            except Exception as bug:  # noqa: BLE001 - asks must go on although we no longer look
                self._log.error("bug", error=bug)
            await asyncio.sleep(EXPIRE)

    def _notice(self, change: Change, engine: EngineStatistics) -> None:
        tell = self._log.info if change in {Change.UP, Change.TRUSTED} else self._log.warning
        reason = engine.fault if change is Change.EJECTED else engine.reason
        tell(change.value, engine=engine.name, **({"reason": reason} if reason else {}))

    def _tell_default(self, change: DefaultChange) -> None:
        if change.unlisted:
            self._log.warning("no engine lists the model of the settings", model=self.settings.model)
        if change.gone:
            self._log.warning("default model is gone", model=change.model, former=change.former)
        else:
            self._log.info("default model", model=change.model)

    async def _expire(self, blobs: Blobs) -> None:
        while True:
            await asyncio.sleep(EXPIRE)
            blobs.expire(asyncio.get_running_loop().time())

    def _identify(self, exchange: Exchange) -> Identity:
        request = exchange.request
        identity = self._identities.identify(request.peer, request.headers.all)
        for warning in self._alarm.observe(identity):
            self._log.warning(WARNINGS[warning], warning=str(warning))
        return identity if self._shares is None else self._shares.apply(identity, exchange)

    def _now(self) -> Now:
        return Now(
            queue=self.admission.statistics(),
            engines=self.board.engines(),
            counts=self.board.engine_counts(),
            proxy_warnings=len(self._alarm.warnings),
            log_lines_dropped=self._log.dropped,
            edge=None if self.edge is None else self.edge(),
        )

    def _front(self, routes: Routes, door: Door) -> Front:
        def on_bug(request_id: str, bug: BaseException) -> None:
            self._log.error("bug", id=request_id, error=bug)

        return Front(routes, door=door, new_id=_new_id, on_bug=on_bug)

    def _door(self, settings: Settings) -> Door:
        # Whoever names hosts or a proxy means to be reached from elsewhere, though the socket may be on loopback.
        own_machine = self._local and not settings.hosts and not settings.trusted_proxies
        return Door(settings.hosts, local=self._local, origins=Origins.LOCAL if own_machine else Origins.ANY)

    def _routes(self, settings: Settings) -> Routes:
        caps = settings.values(OperatorLimits) | {"client_slots": self.line.rules.caps(self.line.slots).client}
        limits = Limits(self.admission, self._identify, OperatorLimits(**caps))
        hooks: list[Hook] = [RequestLog(self._log), self.metrics, self.board.record]
        services = Services(
            **settings.values(Services),
            pool=self.pool,
            admission=self.admission,
            bodies=self._bodies,
            identify=self._identify,
            limits=limits,
            hash_client=self._hash_client,
            timeouts=self._timeouts,
            hooks=hooks,
            log=self._log,
            wall_clock=time.time,
        )
        models = endpoints.ModelHandlers(self.fleet, self._since)
        api, chat, legacy = openai_chat.API, openai_chat.COMPLETIONS, openai_completions.LEGACY
        routes = Routes(
            {
                **self.pages.routes(),
                "/api": Route({"POST": AskHandler(api, services), "GET": self.board.get_about}, api),
                "/api/limits": Route({"GET": limits.why}),
                **self._share_routes(),
                "/v1/chat/completions": Route({"POST": AskHandler(chat, services)}, chat),
                "/v1/completions": Route({"POST": AskHandler(legacy, services)}, legacy),
                "/v1/embeddings": Route({"POST": Embeddings(services)}, chat),
                **self._responses_routes(services),
                "/v1/models": Route({"GET": models.all}),
                "/v1/models/*": Route({"GET": models.one}),
                **endpoints.anthropic_routes(services),
                **endpoints.ollama_routes(services, self._since),
            },
            endpoints.SHAPES,
        )
        self.pages.paths = routes.paths()
        return routes

    def _responses_routes(self, services: Services) -> dict[str, Route]:
        """Responses, kept as far as the operator wants that."""
        dialect = openai_responses.OpenAIResponses(keeps=self.kept is not None)
        new_token = partial(secrets.token_hex, 16)
        conversations = Conversations(dialect, self.held, self.kept, self._identify, new_token)
        return endpoints.responses_routes(services, dialect, conversations)

    def _share_routes(self) -> dict[str, Route]:
        if (shares := self._shares) is None:
            return {}
        return {"/api/share": Route({"POST": partial(shares.issue, identify=self._identify)})}


def _new_id() -> str:
    """A request's id. Nobody gains anything by guessing one."""
    return f"{random.getrandbits(64):016x}"


def _trust(settings: Settings) -> Trust:
    try:
        return Trust.parse(settings.trusted_proxies, settings.client_header, settings.tiers)
    except ValueError as error:
        raise SettingsError(f"trusted_proxies or tiers: {error}") from error


def _fallbacks(settings: Settings) -> dict[str, tuple[str, ...]]:
    try:
        return read_fallbacks(settings.fallback)
    except ValueError as error:
        raise SettingsError(f"fallback: {error}") from error


def _operators_door(settings: Settings) -> Door:
    return Door(settings.admin_hosts, local=True, origins=Origins.OWN, setting="admin_hosts")


def _rules(settings: Settings) -> Rules:
    return Rules(
        client_slots=settings.client_slots,
        largest=LargestAsk(output_tokens=settings.max_tokens),
        limits=QueueLimits(
            client=settings.queue_per_client,
            block=settings.queue_per_block,
            line=settings.queue_total,
        ),
        shed=ShedTarget(target=settings.wait_limit / 2),
    )


def _rate(settings: Settings) -> Rate | None:
    if settings.pace_interval == 0:
        return None
    return Rate(int(settings.pace_interval * MICROSECONDS), settings.pace_waiting)
