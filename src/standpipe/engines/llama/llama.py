"""The embedded engine: llama.cpp in a child process of ours, and an engine like any other towards the rest.

Knows how one model is kept up: started, restarted (`Restarts`, a pure decision), ended. What is asked and answered is
`Upstream`'s business, one life of the child `life`'s.

The theory: whatever a stranger's ask does to native code happens in another process, so the worst of it is a pause.
While there is no child, asks fail at once, and say when the next one is expected, so that they can be tried again just
then. A child that ended while it worked on asks was most likely ended by one of them, so another is started at once:
nobody waits for a stranger's poison longer than that takes. A child that ended by itself is not so innocent: each such
end in a row doubles the wait, and having lived for a while wipes the slate. A process that breaks down while it starts,
rather than saying what is wrong, does so every time.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Beginning
from standpipe.chat.errors import EngineDown, EngineFailed
from standpipe.dialects.harmony.prompt import resumes
from standpipe.engines.engine import Card, Health, Sink
from standpipe.engines.llama.life import Folder, Life, Log, Model, Options, Timeouts, launch
from standpipe.engines.llama.process import ChildFailed, describe

COMMAND: Final = (sys.executable, "-P", "-m", "standpipe.engines.llama.child")
TIMEOUTS: Final = Timeouts()
_LAST_WORDS: Final = 5
"""Lines of the child's log that a failure to start repeats."""
_NEWS: Final = 0.5
"""Seconds within which a child that broke off is known to have ended."""
_LATER: Final = 2.0
"""Seconds after which asks may come back where nobody can tell when it will be up."""

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 30.0
SETTLED: Final = 60.0
"""Seconds of life after which earlier failures no longer count."""
HOPELESS: Final = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGILL, -signal.SIGBUS, -signal.SIGFPE})


class State(StrEnum):
    """Where the engine is in its life. DOWN becomes UP again, FAILED does not."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    FAILED = "failed"
    CLOSED = "closed"


_REASONS: Final = {
    State.STARTING: "The engine is starting. Please try again in a moment.",
    State.DOWN: "The engine is restarting. Please try again in a moment.",
    State.FAILED: "The engine failed repeatedly and stays off.",
    State.CLOSED: "The engine is shutting down.",
}


class LlamaFailed(Exception):
    """The engine cannot be started. The message is for the operator, and ends with what the child said last."""


class End(Struct, frozen=True):
    """How a child ended: its exit code, negative for a signal, the seconds it served (0 when it never did), and the
    asks that it worked on."""

    code: int
    served: float = 0.0
    asks: int = 0


class Restarts(Struct, frozen=True):
    """How many times in a row it failed by itself."""

    failures: int = 0

    def after(self, end: End) -> tuple[Restarts, float | None]:
        """What to remember, and how many seconds to wait; None means never again."""
        if end.served == 0.0 and end.code in HOPELESS:
            return Restarts(self.failures + 1), None
        if end.asks:
            return self, 0.0
        failures = 0 if end.served >= SETTLED else self.failures
        return Restarts(failures + 1), min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 10))


def expect_able() -> None:
    """Raises LlamaFailed, which says what to do, where no model can be embedded: before one is fetched."""
    if find_spec("fcntl") is None:
        raise LlamaFailed(
            "The embedded engine runs on Linux and macOS, not on this system. Use WSL, or another engine, such as a "
            "local Ollama: --engine ollama://127.0.0.1."
        )
    if find_spec("xllamacpp") is None:
        raise LlamaFailed(
            "The embedded engine needs one more package: pip install 'standpipe[embedded]'. Or name another engine, "
            "such as --engine http://host:8000/v1 or --engine scripted: (a fake one, to try things out)."
        )


class Llama:
    """One model, embedded. `start` it before it is asked, `close` it in the end."""

    def __init__(
        self,
        path: Path,
        alias: str,
        options: Options,
        *,
        log: Log,
        name: str = "embedded",
        timeouts: Timeouts = TIMEOUTS,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Starts nothing yet.

        `path` is a GGUF file (the first, if there are several) that is known to fit into memory, `alias` the model's
        public name. `log` takes the child's lines and ours; none has anything of an ask in it.
        """
        self.name = name
        self.slots = options.slots
        self._model = Model(path, alias)
        self._options = options
        self._timeouts = timeouts
        self._command = tuple(command)
        self._log = log
        self.state = State.STARTING
        self.restarts = 0
        """Since the start."""
        self.tells_reasoning = False
        """Its template puts earlier reasoning into the prompt."""
        self._life: Life | None = None
        self._running = 0
        self._died_with = 0
        """Asks that the last child worked on when it ended."""
        self._start_took = 1.0
        self._expected = 0.0
        """When the next child will be up, in the loop's time; in the past when nobody can tell."""
        self._folder: Folder | None = None
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the model; returns when it is ready to be asked. Call it once. Raises LlamaFailed."""
        try:
            self._folder = Folder()
            self._life = await self._launch(self._folder.path)
            await self._life.warm()
        except ChildFailed as failed:
            await self.close()
            words = "".join(f"\n    {line}" for line in failed.lines[-_LAST_WORDS:])
            raise LlamaFailed(f"The embedded engine could not load {self._model.alias}: {failed}.{words}") from failed
        except BaseException:
            await self.close()
            raise
        self.state = State.UP
        self._supervision = asyncio.create_task(
            self._supervise(self._life, self._folder.path), name=f"keeps {self.name} up"
        )

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """As `Continuer`."""
        if self._options.harmony:
            return resumes(ask, begun)
        return self.tells_reasoning or not begun.reasoning

    async def answer(self, ask: Ask, sink: Sink) -> None:
        life = self._life
        if life is None or self.state is not State.UP:
            raise EngineDown(_REASONS.get(self.state, "The engine is down."), retry_after=self._until_up())
        self._running += 1
        try:
            await life.upstream.answer(self._bounded(ask), sink)
        except EngineFailed as failed:
            if failed.upstream_status is None:
                # The connection is lost a moment before we hear of the child's end: whoever tries again shall know.
                await life.child.wait(_NEWS)
            raise
        finally:
            self._running -= 1

    def _until_up(self) -> float:
        """Seconds until it makes sense to ask again."""
        left = self._expected - asyncio.get_running_loop().time()
        return left if left > 0 else _LATER

    async def models(self) -> tuple[str, ...]:
        return (self._model.alias,)

    def card(self, _model: str, /) -> Card:
        """As `Described.card`."""
        return Card(window=self._options.context)

    async def health(self) -> Health:
        return Health(up=self.state is State.UP, reason=_REASONS.get(self.state), restarts=self.restarts)

    async def close(self) -> None:
        """End the child, asks that run and all. Idempotent."""
        self.state = State.CLOSED
        supervision, self._supervision = self._supervision, None
        if supervision is not None:
            supervision.cancel()
            with suppress(asyncio.CancelledError):
                await supervision
        life, self._life = self._life, None
        if life is not None:
            await life.end()
        if self._folder is not None:
            self._folder.close()

    async def template(self) -> str:
        """The model's chat template, empty when it does not tell one, or is not up."""
        return "" if self._life is None else await self._life.template()

    def describe(self) -> str:
        """A line for people: what is loaded, and how."""
        options, size = self._options, self._model.bytes
        slots = f"{options.slots} slot{'s' * (options.slots != 1)} of {options.context} tokens"
        threads = f"{options.threads} thread{'s' * (options.threads != 1)}"
        weight = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
        told = [self._model.alias, slots, threads, weight]
        if self._life is not None and self._life.gpus:
            layers = "all that fits" if options.gpu_layers is None else f"{options.gpu_layers} layers"
            told.append(f"{layers} on {' and '.join(self._life.gpus)}")
        if options.flash_attention != "auto":
            told.append(f"flash attention {options.flash_attention}")
        if options.cache_type != "f16":
            told.append(f"a KV cache in {options.cache_type}")
        return ", ".join(told)

    @property
    def pid(self) -> int | None:
        """The child's, None while there is none."""
        return self._life.child.pid if self._life is not None and self.state is State.UP else None

    async def _launch(self, folder: Path) -> Life:
        began = asyncio.get_running_loop().time()
        life = await launch(
            self.name,
            self._model,
            self._options,
            folder=folder,
            command=self._command,
            timeouts=self._timeouts,
            log=self._log,
        )
        life.child.when_ended(self._count)
        self._start_took = asyncio.get_running_loop().time() - began
        return life

    def _count(self) -> None:
        """A child has ended: whatever it worked on may be why."""
        self._died_with = self._running

    async def _supervise(self, life: Life, folder: Path) -> None:
        """Start the child again whenever it ends, until that is hopeless or we are cancelled."""
        restarts, loop = Restarts(), asyncio.get_running_loop()
        while True:
            since = loop.time()
            code = await life.watch()
            end = End(code, served=max(loop.time() - since, 1e-9), asks=self._died_with)
            self.state = State.DOWN
            self._log("error", f"the embedded engine exited: {describe(code)}")
            await life.end()
            self._life = None
            following: Life | None = None
            while following is None:
                restarts, delay = restarts.after(end)
                if delay is None:
                    self.state = State.FAILED
                    self._log("error", "the embedded engine fails on every start; it stays off")
                    return
                self._expected = loop.time() + delay + self._start_took
                await asyncio.sleep(delay)
                try:
                    following = await self._launch(folder)
                    await following.warm()
                except ChildFailed as failed:
                    self._log("error", f"the embedded engine did not start: {failed}")
                    end = End(1 if failed.code is None else failed.code)
            self._life = life = following
            self.state = State.UP
            self.restarts += 1
            self._log("info", "the embedded engine is up again")

    def _bounded(self, ask: Ask) -> Ask:
        """The ask with an end in sight: the engine by itself knows none but its context's."""
        wanted, most = ask.sampling.max_tokens, self._options.most_tokens
        if wanted is not None and wanted <= most:
            return ask
        return replace(ask, sampling=replace(ask.sampling, max_tokens=most))

    def __repr__(self) -> str:
        return f"<Llama {self._model.alias} {self.state} {self._life.child if self._life else 'no child'}>"
