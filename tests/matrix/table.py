"""The table of docs/engines.md, made of kept results. A run of one engine leaves the others' results as they are."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from tests.matrix.engines import RECIPES, ROOT
from tests.matrix.play import ALL, Found, Result

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "engines.md"
BEGIN, END = "<!-- matrix: made by scripts/matrix --keep -->", "<!-- end of matrix -->"


class Kept(Struct):
    """Of one engine: its version, and what each case found."""

    version: str
    results: dict[str, Result]


def kept() -> dict[str, Kept]:
    return msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, Kept]) if RESULTS.exists() else {}


def keep(name: str, version: str, results: dict[str, Result]) -> None:
    """Put an engine's results beside the others', and write the table."""
    found = kept()
    earlier = found[name].results if name in found else {}
    found[name] = Kept(version, earlier | results)
    ordered = {name: found[name] for name in RECIPES if name in found}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), ordered), encoding="utf-8")


def page(text: str, found: dict[str, Kept]) -> str:
    """The page with its table."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{rendered(found)}\n{END}{rest.partition(END)[2]}"


def rendered(found: dict[str, Kept]) -> str:
    """A row for each case, a column for each engine; what is not plainly yes has a number, and its words below."""
    notes: dict[str, int] = {}
    titles = [f"{RECIPES[name].title} {kept.version}".strip() for name, kept in found.items()]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for case in ALL:
        cells = [_cell(kept.results.get(case), notes) for kept in found.values()]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {words}" for words, number in notes.items())]) + "\n"


def _cell(result: Result | None, notes: dict[str, int]) -> str:
    if result is None:
        return ""
    shown = f"**{result.found}**" if result.found is Found.WRONG else str(result.found)
    if not result.remark:
        return shown
    words = result.remark.strip().splitlines()[-1]
    return f"{shown} ({notes.setdefault(words, len(notes) + 1)})"
