"""Writes the pages of the documentation that are tables of the code: `python -m tools.generate`. A test holds them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from msgspec import NODEFAULT

from standpipe.engine_tables import EngineTable
from standpipe.settings import STARTS, fields
from tools import compatibility

FOLDER = Path(__file__).resolve().parent.parent / "docs"


def settings() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every setting is a flag (`--pace-interval 1`), an environment variable (`STANDPIPE_PACE_INTERVAL=1`) and a",
        "key in the TOML file that `--config` names (`pace_interval = 1`). Flags override variables, and variables",
        "override the file. Lists are repeated flags, space-separated values in a variable, and arrays in TOML.",
        "`standpipe init` writes a file that shows them all. SIGHUP reloads the file; settings marked * apply only at",
        "startup.",
        "",
    ]
    for title, group in groupby(fields(), lambda field: field.group):
        lines += [f"## {title}", "", "| name | default | allowed | what it does |", "|---|---|---|---|"]
        for field in group:
            default = " ".join(field.default) if field.many else field.default
            shown = "nothing" if default == "" else f"`{str(default).lower() if field.type is bool else default}`"
            unit = f" {field.unit}" if field.unit else ""
            mark = "*" if field.name in STARTS else ""
            lines.append(f"| `{field.name}`{mark} | {shown}{unit} | {field.allowed} | {field.help} |")
        lines.append("")
    return "\n".join(lines + _engine_tables())


def _engine_tables() -> list[str]:
    lines = [
        "## Engine tables",
        "",
        "In the TOML file, an engine may be an `[[engine]]` table with these keys. Tables stand below all other",
        "settings. [engines.md](engines.md) explains what they do.",
        "",
        "| key | default | allowed | what it does |",
        "|---|---|---|---|",
    ]
    for field in fields(EngineTable):
        required = field.default is NODEFAULT
        shown = (
            "required" if required else "nothing" if field.default in ("", {}) else f"`{str(field.default).lower()}`"
        )
        unit = f" {field.unit}" if field.unit else ""
        lines.append(f"| `{field.name}` | {shown}{unit} | {field.allowed} | {field.help} |")
    return [*lines, ""]


PAGES = {"settings.md": settings, "compatibility.md": compatibility.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
