"""What stands between the generator and the mock engine: nothing, or Standpipe on one of its loops.

A gateway is a value: how to start it, what to say to it, and how far it can be loaded. Peers are made the same way, in
`peers`. Standpipe's command line is written here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from bench.overhead.native import ROOT


class Place(Struct, frozen=True):
    """Where a gateway shall run: its port, the mock engine's port, and a folder for its files."""

    port: int
    engine: int
    folder: Path


def no_headers(_place: Place) -> Sequence[str]:
    return ()


class Gateway(Struct, frozen=True):
    """Something that answers `POST path` by asking the mock engine.

    `command` is None for the engine itself. `exact` tells whether it hands bytes on unchanged. `slow` gateways get the
    smaller loads of their own. `scripted` starts it with an engine of its own, where it has one.
    """

    name: str
    version: Callable[[], str | None]
    """None where it is not installed."""
    command: Callable[[Place], Sequence[str]] | None = None
    scripted: Callable[[Place], Sequence[str]] | None = None
    headers: Callable[[Place], Sequence[str]] = no_headers
    environ: Mapping[str, str] = {}
    path: str = "/v1/chat/completions"
    probe: str = "/v1/models"
    patience: float = 15.0
    """Seconds that a start may take."""
    exact: bool = False
    slow: bool = False


MOST = "4096"
"""More than any row's streams; all of them come from one address."""

UNBOUND = (
    "--pace-interval=0",
    f"--queue-per-client={MOST}",
    f"--queue-per-block={MOST}",
    f"--client-slots={MOST}",
    f"--queue-total={MOST}",
    f"--streams={MOST}",
    "--grace=2",
    "--connections=16384",
    "--connections-per-client=16384",
    "--connections-per-block=16384",
)
"""Pace off, and every cap out of the way of a single address that opens thousands of streams."""


def _serve(place: Place, engine: str, loop: str, flags: Sequence[str] = ()) -> list[str]:
    program = [str(ROOT / ".venv" / "bin" / "standpipe")]
    if loop == "asyncio":
        hide = "import sys; sys.modules['uvloop'] = None; from standpipe.cli import main; main()"
        program = [str(ROOT / ".venv" / "bin" / "python"), "-c", hide]
    where = ("--host=127.0.0.1", f"--port={place.port}", "--admin-port=0")
    return [*program, "serve", *where, f"--engine={engine}", f"--slots={MOST}", "--log-format=json", *UNBOUND, *flags]


def standpipe(name: str, loop: str, *flags: str) -> Gateway:
    """Standpipe on one of its loops, with some more flags."""
    return Gateway(
        name=name,
        version=lambda: f"{version('standpipe')} ({loop})",
        command=lambda place: _serve(place, f"http://127.0.0.1:{place.engine}/v1", loop, flags),
        scripted=lambda place: _serve(place, "scripted:", loop, flags),
        probe="/api",
    )


DIRECT = Gateway(name="direct", version=lambda: "mock engine", exact=True)

STANDPIPES = (
    standpipe("standpipe", "uvloop"),
    standpipe("standpipe-asyncio", "asyncio"),
)
