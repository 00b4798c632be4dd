"""`[[engine]]` in the settings file: one engine as a table of keys, where a URL alone does not say enough.

The struct is the table: each key has a type with bounds, a default and a sentence of help, and `settings` reads and
documents it as it does its own rows. A key (of the other kind) is a secret: no `repr` here shows one. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

SECRET = frozenset({"url", "key", "headers"})
"""Keys whose values no message repeats."""


def _meta(help_text: str, unit: str = "", **bounds: Any) -> Meta:
    return Meta(description=help_text, extra={"unit": unit}, **bounds)


class EngineTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One engine as its operator describes it. The order here is the order of the documentation."""

    url: Annotated[str, _meta("what an `engine` is otherwise: embedded, http://host:8000/v1, ollama://host, scripted:")]
    name: Annotated[
        str,
        _meta(
            "how it is called on the status page, in the log and in metrics; empty means by its address",
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._:-]{0,63})?$",
            title="up to 64 letters, digits, dots, colons, hyphens and underscores",
        ),
    ] = ""
    slots: Annotated[
        Annotated[int, Meta(ge=0, le=4096)] | Literal["auto"],
        _meta(
            "requests that it works on at a time; 0: as the setting `slots` says; auto finds out by trying",
            title="auto, or an integer from 0 to 4096",
        ),
    ] = 0
    key: Annotated[str, _meta("key to send to it, and to no other engine; never logged")] = ""
    key_env: Annotated[str, _meta("the environment variable that holds its key")] = ""
    key_file: Annotated[str, _meta("the file that holds its key, and nothing else")] = ""
    models: Annotated[
        dict[str, str],
        _meta(
            "its models that are offered: names, or public names and the engine's own; empty means all that it lists",
            title='a list of names, or a table such as { "gpt-oss:latest" = "openai/gpt-oss-20b" }',
        ),
    ] = {}
    window: Annotated[
        int,
        _meta(
            "tokens of prompt and answer together; 0: as the engine tells, where it does", "tokens", ge=0, le=16_777_216
        ),
    ] = 0
    images: Annotated[bool, _meta("its models may be shown images; false: as the engine tells, where it does")] = False
    weight: Annotated[
        float, _meta("its share among engines that are equally good: 2 takes twice as much as 1", ge=0.01, le=100)
    ] = 1.0
    priority: Annotated[
        int, _meta("engines of a higher number are spares: asked only when none of a lower one can", ge=0, le=100)
    ] = 0
    connect_timeout: Annotated[float, _meta("longest time for a connection to open", "s", gt=0, le=600)] = 5.0
    first_token_timeout: Annotated[
        float, _meta("longest wait for its first token; 0: as the setting of that name", "s", ge=0, le=86_400)
    ] = 0.0
    stall_timeout: Annotated[
        float, _meta("longest silence in the middle of an answer; 0: as the setting of that name", "s", ge=0, le=86_400)
    ] = 0.0
    headers: Annotated[
        dict[str, str], _meta("further headers of every request to it", title='a table such as { "X-Team" = "a" }')
    ] = {}
    ca: Annotated[
        str, _meta("PEM file of the authorities that its certificate is checked against; empty: the system's")
    ] = ""
    prefill: Annotated[
        bool,
        _meta(
            "it goes on with a last message of the assistant's, by vLLM's `continue_final_message` or always: streams "
            "whose engine dies may go on there; vLLM, SGLang, llama-server and Ollama need not say so"
        ),
    ] = False
    forward_clients: Annotated[
        bool,
        _meta("it is a Standpipe with this one in its `tiers`: tell it, by pseudonyms, whose each request is"),
    ] = False
    drain: Annotated[bool, _meta("give it nothing new; what runs there ends as it would")] = False

    def secret(self, environ: Mapping[str, str]) -> str | None:
        """Its key, wherever that is kept; None when it has none. Raises ValueError naming what is missing."""
        if self.key_env:
            if not environ.get(self.key_env):
                raise ValueError(f"key_env names {self.key_env}, which is not set")
            return environ[self.key_env]
        if self.key_file:
            try:
                key = Path(self.key_file).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ValueError(f"key_file cannot be read: {reason}") from None
            if not key:
                raise ValueError("key_file is empty")
            return key
        return self.key or None

    def __repr__(self) -> str:
        return f"<EngineTable {self.name or 'without a name'}>"


def url_of(engine: str | EngineTable) -> str:
    """Where an engine of the settings is, or what it is."""
    return engine.url if isinstance(engine, EngineTable) else engine


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table as TOML gives it, with `models` in its one shape. Raises ValueError for what contradicts itself."""
    keys = [name for name in ("key", "key_env", "key_file") if table.get(name)]
    if len(keys) > 1:
        raise ValueError(f"{' and '.join(keys)} are given; allowed: one of them")
    models = table.get("models")
    if isinstance(models, list) and all(isinstance(name, str) for name in models):
        return {**table, "models": {name: name for name in models}}
    return dict(table)
