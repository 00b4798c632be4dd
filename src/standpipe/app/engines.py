"""From settings to engines: each `engine` is opened by what its name says; where none is named, one is found.

A name is `embedded`, `embedded:NAME`, `embedded:/path`, a URL, `ollama://host`, or `scripted:...`; behind any of them
`#slots=N` says how many asks it really works on at a time. An `[[engine]]` table says more. Found means: a local Ollama
that already has a gpt-oss model, else the embedded starter. The choice comes with a sentence that says why, for the
first lines of the log.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Container, Sequence
from enum import StrEnum
from itertools import count
from typing import Any, Literal

import msgspec
from msgspec import Struct

from standpipe.dialects.engine_output import shown_model
from standpipe.engine_tables import EngineTable, url_of
from standpipe.engines.attempt import Silence
from standpipe.engines.engine import Engine
from standpipe.engines.guard.forced_calls import Constrained
from standpipe.engines.guard.guarded import Guarded
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.scripted.script import read_script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.engines.upstream import Ollama, Upstream
from standpipe.http_client.client import Client, verifying
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

    @property
    def address(self) -> str:
        """Where it is, or what, without credentials. Raises ValueError."""
        match self.kind:
            case Kind.HTTP:
                return describe_url(self.target)
            case Kind.OLLAMA:
                return describe_url(http_url(self.target)).replace("http://", _OLLAMA_SCHEME)
            case Kind.EMBEDDED:
                return f"embedded:{self.target}" if self.target else "embedded"
        return self.target


class Opened(Struct, frozen=True):
    """The engines, and a sentence for each that says what it is and why it was chosen."""

    engines: tuple[Engine, ...]
    reasons: tuple[str, ...]


async def open_engines(settings: Settings, progress: Progress, say: Say) -> Opened:
    """Open what is named, or find something. Downloads a model where that is needed.

    Raises SettingsError, ModelUnavailable, EngineFailed.
    """
    wanted = read_engines(settings)
    if not wanted:
        return await _found(settings, progress, say)
    engines: list[Engine] = []
    reasons: list[str] = []
    embedded = sum(one.named.kind is Kind.EMBEDDED for one in wanted)
    for one in wanted:
        try:
            engine, reason = await _open(one, settings, progress, say, share=embedded)
        except ValueError as error:
            raise SettingsError(f"{one.which}: {error}") from error
        engine.name = unlike(engine.name, {other.name for other in engines})
        engines.append(engine)
        reasons.append(reason)
    return Opened(tuple(engines), tuple(reasons))


class Wanted(Struct, frozen=True):
    """One engine of the settings, as `given`. `identity` is by what it is known again: its name, else its URL; `which`
    names it in messages, `slots` is what the operator says, 0 for nothing."""

    identity: str
    which: str
    named: Named
    table: EngineTable | None
    slots: int | Literal["auto"]
    key: str | None
    given: str | EngineTable

    def number(self, settings: Settings) -> tuple[int, bool]:
        """The operator's number of slots, 0 where there is none, and whether it is to be found out."""
        wanted = self.slots or settings.slots
        return (0, True) if wanted == "auto" else (int(wanted), False)

    @property
    def over_http(self) -> bool:
        return self.named.kind in {Kind.HTTP, Kind.OLLAMA}

    @property
    def drain(self) -> bool:
        return self.table is not None and self.table.drain

    def changes(self, other: Wanted) -> list[str]:
        """The keys in which the other one differs, as if both were tables."""
        one, two = self._keys(), other._keys()
        return [key for key in one if one[key] != two[key]]

    def _keys(self) -> dict[str, Any]:
        table = self.table or _BARE
        keys = {name: getattr(table, name) for name in table.__struct_fields__}
        return keys | {"url": self.named.target, "slots": self.slots, "key": self.key}


def unlike(name: str, others: Container[str]) -> str:
    """A name that none of the others has, like this one."""
    return name if name not in others else next(f"{name} {n}" for n in count(2) if f"{name} {n}" not in others)


def read_engines(settings: Settings) -> list[Wanted]:
    """What the settings say of engines; nothing is opened. Raises SettingsError naming the table and the key."""
    wanted: list[Wanted] = []
    for number, one in enumerate(settings.engine, 1):
        table = f"engine {number}{f' ({one.name})' if one.name else ''}" if isinstance(one, EngineTable) else "engine"
        read = read_engine(one, table)
        identity = unlike(read.identity, [other.identity for other in wanted])
        wanted.append(msgspec.structs.replace(read, identity=identity))
    check_keys(wanted, settings)
    return wanted


def read_engine(one: str | EngineTable, which: str) -> Wanted:
    """One of them. Raises SettingsError."""
    table = one if isinstance(one, EngineTable) else None
    identity = (table and table.name) or url_of(one).partition("#")[0].strip()
    try:
        if table is None:
            assert isinstance(one, str)
            named = parse_engine(one)
            return Wanted(identity, which, named, None, named.slots or 0, None, one)
        named = parse_engine(table.url)
        if named.slots:
            raise ValueError("url has #slots=; allowed: the key slots")
        wanted = Wanted(identity, which, named, table, table.slots, table.secret(os.environ), table)
        given = [key for key in _OVER_HTTP if getattr(table, key) != getattr(_BARE, key)]
        if given and not wanted.over_http:
            raise ValueError(f"{' and '.join(given)}: only for engines over HTTP")
        if table.ca and not named.target.startswith("https"):
            raise ValueError("ca: only for https://")
    except ValueError as error:
        raise SettingsError(f"{which}: {error}") from None
    return wanted


_OVER_HTTP = ("key", "key_env", "key_file", "connect_timeout", "headers", "ca", "prefill", "forward_clients")
_BARE = EngineTable(url="")


def check_keys(wanted: Sequence[Wanted], settings: Settings) -> None:
    """A key belongs to one engine, and is sent to no other. Raises SettingsError where it is not clear to which."""
    over_http = [one for one in wanted if one.over_http]
    if not settings.api_key or not over_http:
        return
    if len(over_http) > 1:
        raise SettingsError(
            f"api_key belongs to one engine, and there are {len(over_http)} over HTTP: give each its own key, key_env "
            "or key_file in an [[engine]] table"
        )
    if over_http[0].key is not None:
        raise SettingsError(f"{over_http[0].which} has a key of its own: leave api_key out")


def _guarded(engine: Engine) -> Engine:
    """An engine that takes strangers' words."""
    return Constrained(Guarded(engine))


async def _open(one: Wanted, settings: Settings, progress: Progress, say: Say, *, share: int) -> tuple[Engine, str]:
    """Raises ValueError, too."""
    if one.named.kind is Kind.EMBEDDED:
        slots, _ = one.number(settings)
        engine, reason = await _embedded(one.named.target, slots, settings, progress, say, share=share)
        engine = place(engine, one, settings)
    else:
        engine, reason = connect(one, settings, say)
    named = one.table is not None and one.table.name and not one.over_http
    return engine, f"{engine.name}, {reason}" if named else reason


def connect(one: Wanted, settings: Settings, say: Say) -> tuple[Engine, str]:
    """An engine that is not embedded, and what it is. Nothing is sent to it yet. Raises ValueError."""
    slots, auto = one.number(settings)
    if one.named.kind is Kind.SCRIPTED:
        script = read_script(one.named.target)
        if slots:
            script = msgspec.structs.replace(script, slots=slots)
        return place(Scripted(script), one, settings), "a scripted engine with fake answers"
    server = _server(one, _AUTO_SLOTS if auto else slots, settings, say)
    native = ", a native Ollama" if one.named.kind is Kind.OLLAMA else ""
    slots_in_words = f"{'up to ' if auto else ''}{server.slots} requests at a time"
    return place(_guarded(server), one, settings), f"{server.name}{native}, {slots_in_words}"


def place(engine: Engine, one: Wanted, settings: Settings) -> Engine:
    """The engine as its table wants it; one that is placed already, anew."""
    _, auto = one.number(settings)
    if one.table is None and not auto:
        return engine
    inner = engine.engine if isinstance(engine, Placed) else engine
    placement = Placement(auto=auto) if one.table is None else _placement(one.table, settings, auto=auto)
    return Placed(inner, placement, one.table.name if one.table is not None else "")


def _server(one: Wanted, slots: int, settings: Settings, say: Say) -> Upstream:
    """Raises ValueError."""
    table = one.table or _BARE
    url = one.named.target
    place = http_url(url) if one.named.kind is Kind.OLLAMA else url
    client = Client(
        place,
        key=one.key or settings.api_key or None,
        headers=table.headers,
        ssl_context=_authorities(table.ca),
        connect_timeout=table.connect_timeout,
    )
    alone = len(settings.engine) == 1 and settings.model and not table.models
    models = (settings.model,) if alone else tuple(table.models.values())
    name = table.name or one.named.address
    if one.named.kind is Kind.HTTP:
        return Upstream(name, client, slots=slots or _SLOTS, models=models, prefills=table.prefill, log=say)
    # Unless told otherwise, an Ollama works on one ask at a time.
    return Ollama(name, client, slots=slots or 1, models=models, log=say)


def _authorities(file: str) -> ssl.SSLContext | None:
    """Raises ValueError."""
    if not file:
        return None
    try:
        return verifying(file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca cannot be used: {error.strerror or 'it is no PEM file of certificates'}") from None


def _placement(table: EngineTable, settings: Settings, *, auto: bool) -> Placement:
    first = table.first_token_timeout or settings.first_token_timeout
    later = table.stall_timeout or settings.stall_timeout
    return Placement(
        weight=table.weight,
        priority=table.priority,
        silence=Silence(first, later),
        drain=table.drain,
        window=table.window or None,
        sees=table.images,
        models={public: shown_model(own) for public, own in table.models.items()},
        forwards=table.forward_clients,
        auto=auto,
    )


async def _embedded(
    target: str, slots: int, settings: Settings, progress: Progress, say: Say, *, share: int = 1
) -> tuple[Engine, str]:
    from standpipe.app import embedded  # noqa: PLC0415 - only who embeds needs llama.cpp and the catalog

    return await embedded.start(target, slots, settings, progress, say, share=share)


async def _found(settings: Settings, progress: Progress, say: Say) -> Opened:
    model = await _ollama_model()
    if model is not None:
        client = Client(f"{OLLAMA}/v1", key=settings.api_key or None)
        slots = 1 if settings.slots == "auto" else int(settings.slots) or 1
        engine = Upstream(describe_url(OLLAMA), client, slots=slots, models=(model,), log=say)
        reason = f"{model} of the Ollama on this machine, because no engine was given"
        return Opened((_guarded(engine),), (reason,))
    auto = settings.slots == "auto"
    starter, reason = await _embedded("", 0 if auto else int(settings.slots), settings, progress, say)
    if auto:
        starter = Placed(starter, Placement(auto=True))
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
