"""`standpipe models`: what the catalog has and what is here already."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from standpipe.models.catalog import CATALOG
from standpipe.models.download import cache_folder, cached


def show(cache_dir: str) -> int:
    """Print the table. Always 0."""
    folder = Path(cache_dir).expanduser() if cache_dir else cache_folder()
    table = Table(title=f"models; kept in {folder}", title_justify="left", box=None)
    for heading in ("name", "what it is", "size", "licence", "here", "note"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for entry in CATALOG:
        here = "no" if cached(entry, folder) is None else "yes"
        size = entry.shape.bytes
        shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
        table.add_row(entry.name, entry.title, shown, entry.licence, here, entry.note)
    Console().print(table)
    return 0
