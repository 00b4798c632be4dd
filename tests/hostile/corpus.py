"""Reads the cases; see README.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_REPEATED = re.compile(r"\{([^{}*]+)\*(\d+)\}")


def cases(name: str) -> dict[str, dict[str, Any]]:
    """The cases of one file, by their names."""
    table = tomllib.loads((_HERE / f"{name}.toml").read_text())["case"]
    found = {case["name"]: case for case in table}
    assert len(found) == len(table), "two cases have one name"
    return found


def spelled(text: str) -> str:
    """A case's string, with what is repeated spelled out."""
    return _REPEATED.sub(lambda match: match[1] * int(match[2]), text)


def raw(text: str) -> bytes:
    """A case's string as bytes of the wire."""
    return spelled(text).encode("latin-1")
