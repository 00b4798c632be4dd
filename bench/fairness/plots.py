"""The plots, as PNG and SVG. Needs matplotlib, which only the bench does (`pip install matplotlib`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.fairness import measure, traffic
from bench.fairness.workloads import ALL, FAIR, FIFO, ROBIN, SHORT, SLOTS
from bench.fairness.world import World

COLOURS = {"fair": "#1b6ca8", "round-robin": "#d98324", "fifo": "#a63d40", "plain vtc": "#6c757d", "alone": "#3d8361"}


class CannotPlot(Exception):
    """Matplotlib is not here."""


def draw(folder: Path) -> Iterator[Path]:
    """Draw all of them, one after another. Raises CannotPlot."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise CannotPlot("plots need matplotlib: pip install matplotlib") from None
    pyplot.rcParams.update({
        "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "figure.autolayout": True, "svg.hashsalt": "standpipe", "legend.frameon": False,
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Any], Any]] = {
        "first-token": _first_token,
        "service": _service,
        "jain": _jain,
        "gap": _gap,
        "sybil": _sybil,
    }
    for name, plot in plots.items():
        figure = plot(pyplot)
        for form in ("png", "svg"):
            path = folder / f"{name}.{form}"
            figure.savefig(path, dpi=150, metadata={"Date": None} if form == "svg" else None)
            yield path
        pyplot.close(figure)


def _first_token(pyplot: Any) -> Any:
    """How long the quiet client waits for its first token, as a distribution."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, order, flooders in [("alone", FAIR, 0), *((order.name, order, 8) for order in ALL)]:
        world = World(order.line())
        traffic.steady(world, world.client("10.0.0.1", "10.0.0"), 1.3, SHORT)
        _full(world, flooders)
        world.run(1800)
        values = sorted(measure.first_tokens(world.tallies[0]))
        parts = [(number + 1) / len(values) for number in range(len(values))]
        style = "--" if name == "alone" else "-"
        axes.step([*values, 60], [*parts, 1], style, where="post", color=COLOURS[name], label=name, lw=2)
    axes.set(
        xscale="log", xlim=(0.01, 60), xlabel="seconds to the first token", ylabel="part of the quiet client's asks",
        title=f"One ask every 1.3 s beside 8 full clients, {SLOTS} slots",
    )  # fmt: skip
    axes.legend(loc="center right")
    return figure


def _service(pyplot: Any) -> Any:
    """Service over time: a client that always waits, one that comes and goes, one with short and one with long asks."""
    figure, grid = pyplot.subplots(1, 4, figsize=(13, 3.6), sharey=True)
    shades = {"always": "#1b6ca8", "on/off": "#d98324", "short asks": "#3d8361", "long asks": "#a63d40"}
    for axes, order in zip(grid, ALL, strict=True):
        world = World(order.line())
        clients = [world.client(f"10.0.{number}.1", f"10.0.{number}") for number in range(4)]
        traffic.full(world, clients[0], traffic.spread(16, 512))
        traffic.on_off(world, clients[1], traffic.spread(16, 512), on=60, off=60, rate=2.0)
        traffic.full(world, clients[2], traffic.fixed(32, 32))
        traffic.full(world, clients[3], traffic.fixed(512, 1024))
        world.run(480)
        for tally, (name, shade) in zip(world.tallies, shades.items(), strict=True):
            axes.plot([value / 1000 for value in tally.served_at], color=shade, label=name, lw=2)
        axes.set(title=order.name, xlabel="seconds")
    grid[0].set_ylabel("thousand weighted tokens")
    grid[0].legend()
    return figure


def _jain(pyplot: Any) -> Any:
    """Jain's index by the number of equal clients."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    counts = (3, 4, 8, 12, 16, 24, 32, 48, 64)
    for order in ALL:
        indices = []
        for count in counts:
            world = World(order.line())
            _full(world, count, traffic.spread(16, 256))
            world.run(600)
            indices.append(min(measure.jain_windows(world.tallies, 60, 600)))
        axes.plot(counts, indices, "o-", color=COLOURS[order.name], label=order.name, lw=2, ms=4)
    axes.axhline(0.98, color="black", lw=1, ls=":")
    axes.set(
        xlabel="equal clients, always full, 16 to 256 tokens", ylabel="worst Jain index of a minute", ylim=(0.6, 1)
    )
    axes.legend(loc="lower left")
    return figure


def _gap(pyplot: Any) -> Any:
    """The spread between the most and the least served of eight full clients, beside the bound."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for order in (FAIR, ROBIN, FIFO):
        world = World(order.line())
        _full(world, 8, traffic.spread(16, 2048))
        world.run(3600)
        spreads = [max(values) - min(values) for values in zip(*(t.served_at for t in world.tallies), strict=True)]
        axes.plot(spreads, color=COLOURS[order.name], label=order.name, lw=1.5)
    rules = FAIR.rules()
    bound = 2 * rules.largest.bound(rules.weights, rules.caps(SLOTS).client)
    axes.axhline(bound, color="black", lw=1, ls=":")
    axes.annotate("2U", (0, bound), textcoords="offset points", xytext=(4, 4))
    axes.set(xlabel="seconds", ylabel="weighted tokens between most and least served", ylim=(0, None))
    axes.legend(loc="center right")
    return figure


def _sybil(pyplot: Any) -> Any:
    """A settled client's share against a thousand addresses of one block."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for order in ALL:
        world = World(order.line())
        settled = world.client("10.0.0.1", "10.0.0")
        traffic.full(world, settled, SHORT)
        traffic.newcomers(world, 1000, SHORT, waiting=1000, blocks=1)
        shares, before = [], (0.0, 0.0)
        for _ in range(60):
            world.run(10)
            now = (world.tallies[settled].served, world.total)
            shares.append((now[0] - before[0]) / (now[1] - before[1]))
            before = now
        axes.plot(range(10, 610, 10), shares, color=COLOURS[order.name], label=order.name, lw=2)
    axes.set(xlabel="seconds", ylabel="settled client's share", ylim=(0, 1), title="1,000 addresses of one /48")
    axes.legend(loc="upper right")
    return figure


def _full(world: World, count: int, sizes: traffic.Sizes | None = None) -> None:
    for number in range(count):
        client = world.client(f"20.0.{number}.1", f"20.0.{number}")
        traffic.full(world, client, sizes or traffic.spread(16, 512))
