"""The application: settings and a centre to handlers, connected. Opens no socket; `run` puts it behind servers."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import Self

from standpipe.app.center import Parts, derived, front, rules
from standpipe.app.servers import trust
from standpipe.dialects.openai import completions as openai_completions
from standpipe.dialects.openai import request as openai_chat
from standpipe.dialects.openai.responses import request as openai_responses
from standpipe.engines.pool import Pool
from standpipe.observe.hooks import Hook
from standpipe.observe.log import Logger, RequestLog
from standpipe.policy.body_budget import BodyBudget
from standpipe.policy.identity import Identities, Identity
from standpipe.serve import endpoints
from standpipe.serve.bodies import Bodies
from standpipe.serve.choices import ChoicesHandler
from standpipe.serve.conversations import Conversations
from standpipe.serve.door import Door, Origins
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Route, Routes
from standpipe.serve.limits import Limits, OperatorLimits
from standpipe.serve.share import Shares
from standpipe.serve.stream import StreamTimeouts
from standpipe.serve.walk import Embeddings, Services
from standpipe.settings import Settings
from standpipe.site.pages import Pages


class App:
    """One running Standpipe. `guard` answers the public; use it as an async context manager."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        log: Logger,
        *,
        address: str,
        local: bool,
        timeouts: StreamTimeouts | None = None,
    ) -> None:
        """`parts` is a `Center`, or a worker's outpost, whose life is the app's. `address` is where people reach it,
        for the pages; `local` whether only this machine can. `timeouts` are for tests. Raises SettingsError."""
        self.settings = settings
        self._log = log
        self._address = address
        self._local = local
        self._since = int(time.time())
        self._timeouts = timeouts or StreamTimeouts()
        self.parts = parts
        self.fleet, self.board = parts.fleet, parts.board
        self.held, self.kept = parts.held, parts.kept
        self.admission = parts.admission
        self._bodies = Bodies(
            BodyBudget(settings.body_memory, settings.body_memory_per_client),
            settings.body_limit,
            self.admission,
            time.perf_counter,
        )
        self.pool = Pool(
            parts.choice,
            first_token_timeout=settings.first_token_timeout,
            stall_timeout=settings.stall_timeout,
            continues=settings.continue_streams,
            key=derived(parts.secret, b"tiers"),
        )
        self._shares = (
            Shares(derived(parts.secret, b"shares"), time.time, secrets.token_bytes) if settings.shares else None
        )
        self._identities = Identities(trust(settings))
        self.pages = Pages(settings, address, self.fleet, self.board)
        self.guard = front(self._routes(settings), self._door(settings), log)
        self.guard.page = self.pages.fail

    def apply(self, settings: Settings) -> None:
        """Go by these settings from now on, but for those of `settings.STARTS`. What waits and runs goes on.

        Raises SettingsError, and has changed nothing then.
        """
        identities = Identities(trust(settings))
        pages = Pages(settings, self._address, self.fleet, self.board)
        self.parts.apply(settings)
        # From here on nothing can fail.
        self.settings = settings
        self._identities, self.pages = identities, pages
        self._log.set_level(settings.log_level)
        self._bodies.limit, budget = settings.body_limit, self._bodies.budget
        budget.total, budget.client = settings.body_memory, settings.body_memory_per_client
        self.guard.routes, self.guard.door = self._routes(settings), self._door(settings)
        self.guard.page = pages.fail

    async def __aenter__(self) -> Self:
        await self.parts.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.parts.__aexit__(*error)

    def _identify(self, exchange: Exchange) -> Identity:
        request = exchange.request
        identity = self._identities.identify(request.peer, request.headers.all)
        self.parts.observe(identity)
        return identity if self._shares is None else self._shares.apply(identity, exchange)

    def _door(self, settings: Settings) -> Door:
        # Whoever names hosts or a proxy means to be reached from elsewhere, though the socket may be on loopback.
        public = settings.hosts or settings.trusted_proxies or settings.trusted_hops
        own_machine = self._local and not public
        return Door(settings.hosts, local=self._local, origins=Origins.LOCAL if own_machine else Origins.ANY)

    def _routes(self, settings: Settings) -> Routes:
        most = rules(settings).caps(min(self.fleet.slots, settings.streams)).client
        caps = settings.values(OperatorLimits) | {"client_slots": most}
        limits = Limits(self.admission, self._identify, OperatorLimits(**caps))
        hooks: list[Hook] = [RequestLog(self._log), *self.parts.hooks]
        services = Services(
            **settings.values(Services),
            pool=self.pool,
            admission=self.admission,
            bodies=self._bodies,
            identify=self._identify,
            limits=limits,
            hash_client=self.parts.hash_client,
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
                "/api": Route({"POST": ChoicesHandler(api, services), "GET": self.board.get_about}, api),
                "/api/limits": Route({"GET": limits.why}),
                **self._share_routes(),
                "/v1/chat/completions": Route({"POST": ChoicesHandler(chat, services)}, chat),
                "/v1/completions": Route({"POST": ChoicesHandler(legacy, services)}, legacy),
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
