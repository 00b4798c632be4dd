"""Models on disk: the table of `standpipe models`, and the bar that is shown while one is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from standpipe.models.catalog import CATALOG
from standpipe.models.download import cache_folder, cached


def show(cache_dir: str) -> int:
    """Print the catalog. Always 0."""
    from rich.console import Console  # noqa: PLC0415 - a server that downloads nothing needs none of this
    from rich.table import Table  # noqa: PLC0415

    folder = Path(cache_dir).expanduser() if cache_dir else cache_folder()
    table = Table(title=f"models; stored in {folder}", title_justify="left", box=None)
    for heading in ("name", "description", "size", "licence", "here", "note"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for entry in CATALOG:
        here = "no" if cached(entry, folder) is None else "yes"
        size = entry.shape.bytes
        shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
        table.add_row(entry.name, entry.title, shown, entry.licence, here, entry.note)
    Console().print(table)
    return 0


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Implements `models.fetch.Progress`: one bar on standard error for one stretch of work."""
    from rich import progress as rich  # noqa: PLC0415 - most starts download nothing
    from rich.console import Console  # noqa: PLC0415

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total)
        yield lambda n: shown.advance(task, n)
