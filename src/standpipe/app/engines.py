"""From settings to engines: each `engine` is opened by what its name says; where none is named, one is found.

A name is `embedded`, `embedded:NAME`, `embedded:/path`, a URL, `ollama://host`, or `scripted:...`; behind any of them
`#slots=N` says how many asks it really works on at a time. Found means: a local Ollama that already has a gpt-oss
model, else the embedded starter. The choice comes with a sentence that says why, for the first lines of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
from msgspec import Struct

from standpipe.engines.engine import Engine
from standpipe.engines.guard.forced_calls import Constrained
from standpipe.engines.guard.guarded import Guarded
from standpipe.engines.scripted.script import read_script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.engines.upstream import Ollama, Upstream
from standpipe.http_client.client import Client
from standpipe.http_client.transport import HttpFault
from standpipe.http_client.url import describe_url
from standpipe.models.fetch import Progress
from standpipe.settings import Settings, SettingsError

ALLOWED = (
    "embedded, embedded:NAME, embedded:/path/model.gguf, http://host:8000/v1, ollama://host or scripted:, "
    "each with #slots=N or not"
)
MOST_SLOTS = 4096
OLLAMA_PORT = 11434
"""Where an Ollama listens unless told otherwise."""
OLLAMA = f"http://127.0.0.1:{OLLAMA_PORT}"
_OLLAMA_SCHEME = "ollama://"
_OLLAMA_PATIENCE = 1.0
"""Seconds. It is on this machine, or it is not there."""
_SLOTS = 4
"""Where neither the operator nor the engine says how many asks it works on at a time."""

_AUTO_SLOTS = 64
"""The most that `slots = auto` tries."""

Say = Callable[[str, str], None]
"""Takes a level (debug, info, warning, error) and a sentence for the operator's log."""


class Kind(StrEnum):
    """What runs behind the name."""

    EMBEDDED = "embedded"
    HTTP = "http"
    OLLAMA = "ollama"
    SCRIPTED = "scripted"


class Named(Struct, frozen=True):
    """A name, read. `target` is a model or a path, a URL, or a script; empty means the kind's default."""

    kind: Kind
    target: str
    slots: int | None = None


class Opened(Struct, frozen=True):
    """The engines, and a sentence for each that says what it is and why it was chosen."""

    engines: tuple[Engine, ...]
    reasons: tuple[str, ...]


async def open_engines(settings: Settings, progress: Progress, say: Say) -> Opened:
    """Open what is named, or find something. Downloads a model where that is needed.

    Raises SettingsError, ModelUnavailable, EngineFailed.
    """
    try:
        named = [parse_engine(text) for text in settings.engine]
    except ValueError as error:
        raise SettingsError(f"engine: {error}") from error
    if not named:
        return await _found(settings, progress, say)
    engines: list[Engine] = []
    reasons: list[str] = []
    for name in named:
        engine, reason = await _open(name, settings, progress, say)
        engines.append(engine)
        reasons.append(reason)
    return Opened(tuple(engines), tuple(reasons))


def _guarded(engine: Engine) -> Engine:
    """An engine that takes strangers' words."""
    return Constrained(Guarded(engine))


def _wanted_slots(settings: Settings) -> int:
    """The operator's number for every engine; 0 where there is none."""
    return 0 if settings.slots == "auto" else int(settings.slots)


async def _open(name: Named, settings: Settings, progress: Progress, say: Say) -> tuple[Engine, str]:
    slots = name.slots or _wanted_slots(settings)
    try:
        match name.kind:
            case Kind.SCRIPTED:
                script = read_script(name.target)
                if slots:
                    script = msgspec.structs.replace(script, slots=slots)
                return Scripted(script), "a scripted engine with fake answers"
            case Kind.HTTP:
                engine = _upstream(
                    name.target,
                    settings,
                    slots or (_AUTO_SLOTS if settings.slots == "auto" else _SLOTS),
                    settings.model or None,
                    say,
                )
                return _guarded(engine), f"{engine.name}, {engine.slots} requests at a time"
            case Kind.OLLAMA:
                engine = _ollama(name.target, settings, slots or (_AUTO_SLOTS if settings.slots == "auto" else 1), say)
                return _guarded(engine), f"{engine.name}, a native Ollama, {engine.slots} requests at a time"
            case Kind.EMBEDDED:
                return await _embedded(name.target, slots, settings, progress, say)
    except ValueError as error:
        raise SettingsError(f"engine: {error}") from error


def _upstream(url: str, settings: Settings, slots: int, model: str | None, say: Say) -> Upstream:
    client = Client(url, key=settings.api_key or None)
    return Upstream(describe_url(url), client, slots=slots, model=model, log=say)


def _ollama(url: str, settings: Settings, slots: int, say: Say) -> Ollama:
    """Unless told otherwise, an Ollama works on one ask at a time."""
    place = http_url(url)
    client = Client(place, key=settings.api_key or None)
    name = describe_url(place).replace("http://", "ollama://")
    return Ollama(name, client, slots=slots, model=settings.model or None, log=say)


async def _embedded(target: str, slots: int, settings: Settings, progress: Progress, say: Say) -> tuple[Engine, str]:
    from standpipe.app import embedded  # noqa: PLC0415 - only who embeds needs llama.cpp and the catalog

    return await embedded.start(target, slots, settings, progress, say)


async def _found(settings: Settings, progress: Progress, say: Say) -> Opened:
    model = await _ollama_model()
    if model is not None:
        engine = _upstream(f"{OLLAMA}/v1", settings, _wanted_slots(settings) or 1, model, say)
        reason = f"{model} of the Ollama on this machine, because no engine was given"
        return Opened((_guarded(engine),), (reason,))
    starter, reason = await _embedded("", _wanted_slots(settings), settings, progress, say)
    return Opened((starter,), (f"{reason}, because no engine was given and no local Ollama has a gpt-oss model",))


class _Tag(Struct):
    name: str


class _Tags(Struct):
    models: list[_Tag] = []


async def _ollama_model() -> str | None:
    """The gpt-oss model of a local Ollama, `latest` if there are several; None if there is none, or no Ollama."""
    client = Client(OLLAMA, connect_timeout=_OLLAMA_PATIENCE)
    try:
        answer = await client.fetch("GET", "/api/tags", within=_OLLAMA_PATIENCE)
        tags = msgspec.json.decode(answer.body, type=_Tags) if answer.status == 200 else _Tags()
    except (HttpFault, msgspec.DecodeError):
        return None
    finally:
        await client.close()
    return prefer([tag.name for tag in tags.models])


def prefer(names: Sequence[str]) -> str | None:
    """The gpt-oss model to use among these names."""
    ours = [name for name in names if name.partition(":")[0].rpartition("/")[2] == "gpt-oss"]
    return min(ours, key=lambda name: (not name.endswith(":latest"), name), default=None)


def parse_engine(text: str) -> Named:
    """Raises ValueError with a sentence that says what is allowed and repeats nothing that may be secret."""
    name, hash_mark, fragment = text.strip().partition("#")
    slots = _slots(fragment) if hash_mark else None
    scheme, colon, rest = name.partition(":")
    match scheme:
        case "embedded":
            return Named(Kind.EMBEDDED, rest, slots)
        case "scripted" if colon:
            return Named(Kind.SCRIPTED, name, slots)
        case "http" | "https" | "http+unix" if colon:
            return Named(Kind.HTTP, name, slots)
        case "ollama" if colon:
            return Named(Kind.OLLAMA, name, slots)
    raise ValueError(f"an engine must be one of: {ALLOWED}")


def http_url(url: str) -> str:
    """Where `ollama://host[:port]` is reached. Raises ValueError for any other path or scheme."""
    place = url.removeprefix(_OLLAMA_SCHEME).removesuffix("/")
    if not url.startswith(_OLLAMA_SCHEME) or not place or "/" in place:
        raise ValueError("an Ollama engine must be ollama://host or ollama://host:port, without a path")
    host = place.rpartition("@")[2]
    has_port = ":" in host.rpartition("]")[2]
    return f"http://{place}" if has_port else f"http://{place}:{OLLAMA_PORT}"


def _slots(fragment: str) -> int:
    key, _, value = fragment.partition("=")
    if key != "slots" or not value.isdecimal() or not 1 <= int(value[:9]) <= MOST_SLOTS:
        raise ValueError(f"the only option after an engine's # is slots=N, with N from 1 to {MOST_SLOTS}")
    return int(value)
