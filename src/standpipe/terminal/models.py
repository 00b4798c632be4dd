"""`standpipe models`: what the catalog has and what is here already."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from standpipe.models.catalog import CATALOG
from standpipe.models.download import Cache


def show(cache_dir: str) -> int:
    """Print the table. Always 0."""
    cache = Cache(Path(cache_dir)) if cache_dir else Cache.of_user()
    table = Table(title=f"models in {cache.folder}", title_justify="left", box=None)
    for heading in ("name", "what it is", "size", "licence", "here", "note"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for entry in CATALOG:
        here = "yes" if cache.find(entry) is not None else "no"
        size = f"{entry.shape.bytes / 1e9:.1f} GB" if entry.shape.bytes > 1e9 else f"{entry.shape.bytes / 1e6:.0f} MB"
        table.add_row(entry.name, entry.title, size, entry.licence, here, entry.note)
    Console().print(table)
    return 0
