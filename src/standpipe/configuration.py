"""Where settings come from: flags, environment variables and a TOML file become one `Settings`.

A flag beats a variable, a variable beats the file, the file beats the default; the `PORT` of platforms is the weakest
variable. A wrong value names the setting, the value, where it came from and what is allowed. What settings there are
only `settings` knows.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from standpipe.engine_tables import SECRET, EngineTable, plain
from standpipe.settings import Field, Settings, SettingsError, fields, hints


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Settings from a file, variables and flags, each later one winning.

    `flags` maps names to texts, lists of texts or values; None values are not given. Raises SettingsError.
    """
    known = {field.name: field for field in fields()}
    merged: dict[str, tuple[Any, str]] = {}
    if file is not None:
        merged.update({key: (value, str(file)) for key, value in _read(file, known).items()})
    if port := (environ or {}).get("PORT"):  # where platforms want to find their servers
        merged["port"] = (port, "PORT")
    for field in known.values():
        text = (environ or {}).get(field.variable)
        if text is not None and not (field.name == "port" and text.startswith("tcp://")):  # a service link's
            merged[field.name] = (tuple(text.split()) if field.many else text, field.variable)
    for name, value in (flags or {}).items():
        if value is not None:
            merged[name] = (value, known[name].flag)
    values = {name: _convert(known[name], value, origin) for name, (value, origin) in merged.items()}
    settings = Settings(**values)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("tls_cert and tls_key go together: give both, or neither")
    if settings.trusted_hops and (settings.trusted_proxies or settings.proxy_protocol):
        raise SettingsError("trusted_hops trusts whoever connects: leave out trusted_proxies and proxy_protocol")
    if settings.proxy_protocol and settings.tls_cert:
        raise SettingsError("proxy_protocol works without tls_cert: the proxy ends TLS")
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none, each in a sentence. Not an error: others may set such names."""
    known = [field.variable for field in fields()]
    return [
        f"{name} is not a setting{_meant(name, known)}"
        for name in sorted(environ)
        if name.startswith("STANDPIPE_") and name not in known and not _SERVICE_LINK.match(name)
    ]


_SERVICE_LINK = re.compile(r"STANDPIPE_\w*(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))|STANDPIPE_PORT$")
"""What Kubernetes sets in every pod beside a service that is called `standpipe`; see `load`, too."""


def _meant(name: str, known: Iterable[str]) -> str:
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f": did you mean {similar[0]}?" if similar else ""


def _read(file: Path, known: Mapping[str, Field]) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {file} is not TOML: {error}") from error
    for key in table:
        if key not in known:
            meant = _meant(key, known) or " (`standpipe serve --help` lists them)"
            raise SettingsError(f"{file} sets {key}, which is not a setting{meant}")
    return table


def _convert(field: Field, value: Any, origin: str) -> Any:
    if field.type is str and type(value) is int:
        value = str(value)  # `slots = 4` in a file
    if field.name == "engine" and isinstance(value, list):
        value = [
            engine_table(one, f"engine {number}", origin) if isinstance(one, dict) else one
            for number, one in enumerate(value, 1)
        ]
    try:
        return msgspec.convert(value, hints(Settings)[field.name], strict=False)
    except msgspec.ValidationError:
        raise SettingsError(f"{field.name} (from {origin}) is {value!r}; allowed: {field.allowed}") from None


def engine_table(table: dict[str, Any], which: str, origin: str) -> EngineTable:
    """One `[[engine]]`. Raises SettingsError naming the table and the key, and repeating no secret."""
    if isinstance(name := table.get("name"), str) and name:
        which = f"{which} ({name})"
    rows = {row.name: row for row in fields(EngineTable)}
    try:
        table = plain(table)
    except ValueError as error:
        raise SettingsError(f"{which} in {origin}: {error}") from None
    for key, value in table.items():
        if key not in rows:
            if key in hints(Settings):
                raise SettingsError(
                    f"{which} in {origin} has {key}, which is a setting: put it above the first [[engine]], because "
                    "what stands below belongs to the engine"
                )
            raise SettingsError(f"{which} in {origin} has {key}, which no engine has{_meant(key, rows)}")
        try:
            msgspec.convert(value, hints(EngineTable)[key])
        except msgspec.ValidationError:
            given = "wrong" if key in SECRET else repr(value)
            raise SettingsError(f"{which} in {origin}: {key} is {given}; allowed: {rows[key].allowed}") from None
    if "url" not in table:
        raise SettingsError(f"{which} in {origin} has no url; allowed: {rows['url'].help}")
    return msgspec.convert(table, EngineTable)
