"""One life of the embedded engine: a child that has loaded a model, and what talks to it.

Knows how it is launched, warmed and watched, and nothing of other lives: `Llama` decides what follows when this one
ends. The child gets a socket in a private folder rather than a port, because a port on loopback is open to every user
and every web page of this machine; where the folder's name is too long for that, a port that a key guards.

The theory of the folder: a process that is killed cannot tidy up, so the next one does. The owner holds a lock on a
file inside; the system frees it however the owner ends, and in whatever container it ran; a folder whose lock can be
had is nobody's.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Literal

import msgspec
from msgspec import Struct

from standpipe.engines.guard.guarded import GrammarUpstream, HarmonyUpstream
from standpipe.engines.llama.child import ChildSettings, Ready
from standpipe.engines.llama.process import Child, ChildFailed
from standpipe.engines.upstream import LLAMA_CPP, Upstream
from standpipe.http_client.client import Client
from standpipe.http_client.transport import HttpFault

Log = Callable[[str, str], None]
"""Takes one line: its level (`debug`, `info`, `warning`, `error`) and its text."""

_LINE: Final = re.compile(r"^\d+(?:\.\d+)+ (?P<letter>[DIWE]) (?P<text>.*)$")
_LEVELS: Final = {"D": "debug", "I": "info", "W": "warning", "E": "error"}
_FATAL: Final = re.compile(
    r"\S+:\d+: GGML_A\w+\(|ggml_aligned_malloc: insufficient memory|terminate called after throwing"
)
"""The beginnings of what it says just before it dies."""
_BATCH: Final = 32
"""A tenth of a second of a small model's reading, at an eighth less speed than the best."""
_LARGE_BATCH: Final = 128
_LARGE: Final = 4 << 30
"""Bytes. A model of experts reads all of itself for each batch, so small ones cost it dearly."""
_PROMPT: Final = "prompt"
"""The file into which a slot that has read the operator's prompt is saved."""
_LONGEST_SOCKET: Final = 100
"""Characters that fit into a socket's address on every system."""
_WORK: Final = 0.1
"""Of one processor: less is only waiting."""
_PREFIX: Final = "standpipe-"
_LOCK: Final = "lock"
"""Of private folders and of the file in them whose lock tells that the owner lives."""


class Options(Struct, frozen=True, kw_only=True):
    """How a model is loaded. `context` is in tokens and for each slot, `cache` in MiB. `gpu_layers` None means as many
    as fit onto a GPU, if there is one; `cache_type` is the type of numbers in the KV cache, as llama.cpp calls it.

    A caller who leaves is noticed after `batch` tokens of prompt at the latest; None chooses by the model's size.
    `max_tokens` bounds every answer; None means half the context. `system_prompt` is read into every slot before the
    first ask comes. `harmony`: the model is a gpt-oss, whose markup we read ourselves.
    """

    slots: int
    context: int
    threads: int
    batch: int | None = None
    cache: int = 256
    gpu_layers: int | None = None
    flash_attention: Literal["auto", "on", "off"] = "auto"
    cache_type: str = "f16"
    max_tokens: int | None = None
    system_prompt: str = ""
    harmony: bool = False

    @property
    def most_tokens(self) -> int:
        """Tokens that an answer has at most."""
        return self.max_tokens or max(1, self.context // 2)


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds. `start` is for a small model, `start_gigabyte` more for each gigabyte that has to be read from disk.

    Every `poll` seconds the child is asked for its slots; after `silence` seconds without an answer it is killed. One
    that computes meanwhile is not hanging: it is reading a batch, which takes longer the larger the model is, or it is
    caught in an ask that never ends. It is killed after `busy`, and `busy_gigabyte` more for each gigabyte. When a
    child is told to end it has `grace` to do so.
    """

    start: float = 60.0
    start_gigabyte: float = 20.0
    warm: float = 120.0
    poll: float = 2.5
    silence: float = 20.0
    busy: float = 10.0
    busy_gigabyte: float = 3.0
    grace: float = 2.0


class Model(Struct, frozen=True):
    """A GGUF file (the first of several, if it is split) and the name that the public sees."""

    path: Path
    alias: str

    @property
    def bytes(self) -> int:
        """The size of all its files; what is missing counts as nothing."""
        split = re.match(r"(.*)-00001-of-(\d{5})\.gguf$", self.path.name)
        files = self.path.parent.glob(f"{split[1]}-*-of-{split[2]}.gguf") if split else (self.path,)
        return sum(file.stat().st_size for file in files if file.exists())


class _Properties(Struct):
    chat_template: str = ""


class Life(Struct, frozen=True):
    """A child, and what talks to it: asks go through `upstream`, questions about itself through `control`."""

    child: Child
    model: Model
    upstream: Upstream
    control: Client
    options: Options
    timeouts: Timeouts
    log: Log
    folder: Path
    gpus: tuple[str, ...] = ()

    async def warm(self) -> None:
        """Have every slot know the operator's prompt: one reads it and the others, like those of later lives, are
        given what it has read. Whatever fails here costs the first asks some time and nothing else."""
        if not self.options.system_prompt:
            return
        slots = range(self.options.slots)
        try:
            async with asyncio.timeout(self.timeouts.warm):
                if (self.folder / _PROMPT).exists() and all([await self._copy("restore", slot) for slot in slots]):
                    return
                await self._read_prompt(0)
                if await self._copy("save", 0) and all([await self._copy("restore", slot) for slot in slots[1:]]):
                    return
                for slot in slots[1:]:
                    await self._read_prompt(slot)
        except (TimeoutError, HttpFault) as fault:
            reason = str(fault) or "it took too long"
            self.log("warning", f"the embedded engine could not prepare the system prompt: {reason}")

    async def template(self) -> str:
        """The model's chat template, empty when it does not tell one."""
        try:
            answer = await self.control.fetch("GET", "/props")
            return msgspec.json.decode(answer.body, type=_Properties).chat_template
        except (HttpFault, msgspec.DecodeError):
            return ""

    async def _read_prompt(self, slot: int) -> None:
        """Have one slot read the operator's prompt as it will stand before every ask. Raises HttpFault."""
        system = {"role": "system", "content": self.options.system_prompt}
        body = {
            "messages": [system, {"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "id_slot": slot,
            "stream": True,
            "return_progress": True,
        }
        statuses: list[int] = []
        await self.control.request(
            "POST",
            "/v1/chat/completions",
            on_head=lambda status, _headers, _flow: statuses.append(status),
            on_body=lambda _: False,
            body=msgspec.json.encode(body),
            keep=False,
        )
        if statuses != [200]:
            self.log(
                "warning", f"the embedded engine rejects the system prompt (status {statuses[0]}): is it too long?"
            )

    async def _copy(self, action: Literal["save", "restore"], slot: int) -> bool:
        """Save what a slot has read, or have it know what was saved, in this life or an earlier one."""
        body = msgspec.json.encode({"filename": _PROMPT})
        answer = await self.control.fetch("POST", f"/slots/{slot}?action={action}", body=body)
        return answer.status == 200

    async def watch(self) -> int:
        """The child's exit code, as soon as it ends. A child that is silent for too long is made to."""
        loop, timeouts = asyncio.get_running_loop(), self.timeouts
        busy = timeouts.busy + timeouts.busy_gigabyte * self.model.bytes / 1e9
        asked: float | None = None  # since when there is no answer
        while (code := await self.child.wait(timeouts.poll)) is None:
            if asked is None:
                asked, computed = loop.time(), self.child.computed()
            left = asked + busy - loop.time()
            if await self._answers(within=max(timeouts.poll, min(timeouts.silence, left))):
                asked = None
                continue
            silent = loop.time() - asked
            computes = _computes(computed, self.child.computed(), silent)
            if silent >= (busy if computes else timeouts.silence):
                what = "computes" if computes else "hangs"
                self.log("error", f"the embedded engine {what} without an answer for {silent:.0f} s")
                self.child.kill()
        return code

    async def _answers(self, *, within: float) -> bool:
        """Whether its working loop answers: its health page is answered even when that loop hangs."""
        try:
            return (await self.control.fetch("GET", "/slots", within=within)).status == 200
        except HttpFault:
            return False

    async def end(self) -> None:
        """End the child, and whatever it is being asked. Idempotent."""
        await self.upstream.close()
        await self.control.close()
        await self.child.stop(self.timeouts.grace)


async def launch(
    name: str,
    model: Model,
    options: Options,
    *,
    folder: Path,
    command: Sequence[str],
    timeouts: Timeouts,
    log: Log,
) -> Life:
    """Start a child and wait until it serves. `folder` is private, and the same for every life. Raises ChildFailed."""
    socket = folder / "engine.sock"
    socket.unlink(missing_ok=True)  # what a killed child leaves behind would keep the next one from starting
    private = len(str(socket)) <= _LONGEST_SOCKET
    settings = ChildSettings(
        parent=os.getpid(),
        model=str(model.path),
        alias=model.alias,
        address=str(socket) if private else "127.0.0.1",
        key=None if private else secrets.token_urlsafe(),
        folder=str(folder),
        slots=options.slots,
        context=options.slots * options.context,
        threads=options.threads,
        batch=options.batch or (_LARGE_BATCH if model.bytes >= _LARGE else _BATCH),
        predict=options.most_tokens,
        cache=options.cache,
        gpu_layers=options.gpu_layers,
        flash_attention=options.flash_attention,
        cache_type=options.cache_type,
        raw=options.harmony,
    )
    serving = False

    def hear(line: str) -> None:
        # From the first ask on, its lines may quote somebody's words (a schema's pattern, a body it cannot parse).
        if not serving or _FATAL.match(line):
            log(*_ours(line))

    try:
        child = await Child.start(
            command,
            msgspec.json.encode(settings),
            within=timeouts.start + timeouts.start_gigabyte * model.bytes / 1e9,
            log=hear,
        )
    except OSError as error:
        raise ChildFailed(f"it could not be run ({error.strerror})", None, ()) from error
    try:
        ready = msgspec.json.decode(child.said, type=Ready)
        address = ready.address.replace("unix://", "http+unix://")
        asks = Client(address + (":/v1" if private else "/v1"), key=settings.key)
        control = Client(address, key=settings.key)
    except (msgspec.DecodeError, ValueError) as error:
        await child.stop(timeouts.grace)
        raise ChildFailed("it did not say where it listens", None, child.recent) from error
    serving = True
    kind = HarmonyUpstream if options.harmony else GrammarUpstream
    upstream = kind(name, asks, slots=options.slots, models=(model.alias,), capabilities=LLAMA_CPP)
    return Life(child, model, upstream, control, options, timeouts, log, folder, ready.gpus)


def _computes(before: float | None, now: float | None, seconds: float) -> bool:
    """Whether that much more processor time in so many seconds is work, even on a busy machine."""
    return before is not None and now is not None and now - before >= _WORK * seconds


def _ours(line: str) -> tuple[str, str]:
    """A line of the child's log as level and text."""
    match = _LINE.match(line)
    if match is None:
        return "error" if _FATAL.match(line) else "info", f"llama: {line}"
    return _LEVELS[match["letter"]], f"llama: {match['text']}"


class Folder:
    """A new folder that nobody else may enter. Raises OSError."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.path / _LOCK, "x")

    def close(self) -> None:
        """Remove it and all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def __repr__(self) -> str:
        return f"<Folder {self.path.name}>"


def _sweep(place: Path) -> None:
    """Remove the folders of owners that are gone. Those that are not ours to enter, or not yet locked, stay."""
    for path in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _locked(path / _LOCK, "r+")
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                lock.close()


def _locked(path: Path, mode: str) -> IO[str] | None:
    """The file, locked; None while somebody else has the lock. Raises OSError."""
    import fcntl  # noqa: PLC0415 - not on Windows, where no model is embedded

    file: IO[str] = path.open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
