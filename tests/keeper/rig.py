"""A keeper and its workers in one process, over real sockets and on virtual time. Any of them can be killed."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from standpipe.app.app import App
from standpipe.app.center import Center
from standpipe.app.outpost import Outpost
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.keeper.keeper import Presence
from standpipe.keeper.link import Link
from standpipe.observe import log
from standpipe.policy.retry import ATTEMPTS
from standpipe.serve.stream import StreamTimeouts
from standpipe.settings import Settings
from tests.serve.driver import Tap


class Post:
    """The keeper's process. `engines` are its own, which nobody asks anything but how they are."""

    def __init__(
        self, settings: Settings, engines: Sequence[Scripted], path: Path, attempts: int, workers: int
    ) -> None:
        self.log = io.StringIO()
        logger = log.build("json", settings.log_level, self.log)
        self.center = Center(settings, engines, logger, attempts=attempts)
        self.seen: list[tuple[int, Presence]] = []
        self.keeper = self.center.keeper(workers)
        self.keeper.on_worker = lambda pid, presence: self.seen.append((pid, presence))
        self._path = path
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.center)
        await self._stack.enter_async_context(self.keeper)
        await self.keeper.listen(self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def kill(self) -> None:
        """End it as a death would: nothing is said any more."""
        for desk in list(self.keeper.desks):
            desk.abort()
        await self._stack.aclose()


class Worker(Tap):
    """A worker's process: a tap like any other, but that it asks the keeper."""

    def __init__(self, settings: Settings, engines: Sequence[Any], path: Path, **options: Any) -> None:
        self.engines, self.settings, self._options, self._path = list(engines), settings, options, path
        self.log = io.StringIO()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        logger = log.build("json", self.settings.log_level, self.log)
        self.link = Link(self._path, logger, name=id(self))
        await self._stack.enter_async_context(self.link)
        await self.link.welcome()
        self.outpost = Outpost(self.settings, self.engines, logger, self.link, attempts=self._options["attempts"])
        self.app = App(
            self.settings,
            self.outpost,
            logger,
            address="http://127.0.0.1:8080",
            local=self._options["local"],
            timeouts=self._options["timeouts"],
        )
        await self._stack.enter_async_context(self.app)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Tapped:
    """A keeper and some workers. As a `Tap`, its requests go to the first; `center` is the keeper's."""

    def __init__(
        self,
        *scripts: Script,
        engines: Sequence[Any] = (),
        local: bool = True,
        workers: int = 1,
        **settings: Any,
    ) -> None:
        timeouts = {name: settings.pop(name) for name in StreamTimeouts.__struct_fields__ if name in settings}
        self._attempts = settings.pop("attempts", ATTEMPTS)
        self.engines = list(engines) or [Scripted(script) for script in scripts or (Script(),)]
        if len({engine.name for engine in self.engines}) < len(self.engines):
            for number, engine in enumerate(self.engines):
                engine.name = f"{engine.name}-{number}"
        self.settings = Settings(**settings)
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "keeper"
        options = {"attempts": self._attempts, "local": local, "timeouts": StreamTimeouts(**timeouts)}
        self.workers = [Worker(self.settings, self.engines, self.path, **options) for _ in range(workers)]
        self._options = options
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.post = await self.begin(len(self.workers))
        await asyncio.gather(*map(self.stack.enter_async_context, self.workers))
        return self

    async def begin(self, workers: int = 0) -> Post:
        """Another keeper begins."""
        self.post = Post(self.settings, self.engines, self.path, self._attempts, workers)
        return await self.post.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()
        await self.post.__aexit__()
        self._folder.cleanup()

    @property
    def center(self) -> Center:
        return self.post.center

    def __getattr__(self, name: str) -> Any:
        return getattr(self.workers[0], name)
