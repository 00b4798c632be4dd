"""Progress bars for downloads, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Meter(Protocol):
    """One bar."""

    def advance(self, n: int) -> None: ...


class _Meter:
    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance


@contextmanager
def bar(title: str, total: int) -> Iterator[Meter]:
    """Implements `models.fetch.Progress`: one bar for one stretch of work."""
    # Most starts download nothing, and need none of this.
    from rich import progress as rich  # noqa: PLC0415
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
        yield _Meter(lambda n: shown.advance(task, n))
