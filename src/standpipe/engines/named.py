"""How an operator names an engine: `embedded`, `embedded:NAME`, `embedded:/path`, a URL, `ollama://host`, or
`scripted:...`.

Behind any of them `#slots=N` says how many asks it really works on at a time. Texts only: opens nothing.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

ALLOWED = (
    "embedded, embedded:NAME, embedded:/path/model.gguf, http://host:8000/v1, ollama://host or scripted:, "
    "each with #slots=N or not"
)
MOST_SLOTS = 4096
OLLAMA_PORT = 11434
"""Where an Ollama listens unless told otherwise."""

_SCHEME = "ollama://"


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
    raise ValueError(f"an engine is named by one of: {ALLOWED}")


def http_url(url: str) -> str:
    """Where `ollama://host[:port]` is reached. Raises ValueError for any other path or scheme."""
    place = url.removeprefix(_SCHEME).removesuffix("/")
    if not url.startswith(_SCHEME) or not place or "/" in place:
        raise ValueError("a native Ollama is named by ollama://host or ollama://host:port, without a path")
    host = place.rpartition("@")[2]
    has_port = ":" in host.rpartition("]")[2]
    return f"http://{place}" if has_port else f"http://{place}:{OLLAMA_PORT}"


def _slots(fragment: str) -> int:
    key, _, value = fragment.partition("=")
    if key != "slots" or not value.isdecimal() or not 1 <= int(value[:9]) <= MOST_SLOTS:
        raise ValueError(f"behind an engine's # stands slots=N, with N from 1 to {MOST_SLOTS}")
    return int(value)
