"""Traffic: how clients ask. Each function sets one client going in a world.

Sizes are functions of the world's randomness, so that every policy sees the same asks.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from bench.fairness.engine import Job
from bench.fairness.world import World

Sizes = Callable[[Random], tuple[int, int]]
"""Prompt and output tokens of the next ask."""


def fixed(prompt: int, output: int) -> Sizes:
    return lambda _: (prompt, output)


def spread(least: int, most: int) -> Sizes:
    """Prompt and output each anything between, evenly."""
    return lambda random: (random.randint(least, most), random.randint(least, most))


def steady(world: World, client: int, every: float, sizes: Sizes, *, begin: float = 0.0, end: float = 1e9) -> None:
    """One ask every so many seconds, whatever comes back."""
    random = Random(f"{client} steady")

    def ask() -> None:
        if world.now < end:
            world.ask(client, *sizes(random))
            world.at(world.now + every, ask)

    world.at(begin, ask)


def poisson(world: World, client: int, rate: float, sizes: Sizes, *, begin: float = 0.0, end: float = 1e9) -> None:
    """Asks at random, `rate` a second on average."""
    random = Random(f"{client} poisson")

    def ask() -> None:
        if world.now < end:
            world.ask(client, *sizes(random))
            world.at(world.now + random.expovariate(rate), ask)

    world.at(begin + random.expovariate(rate), ask)


def full(world: World, client: int, sizes: Sizes, *, depth: int = 8, begin: float = 0.0, end: float = 1e9) -> None:
    """Always `depth` asks in line: whenever one gets a slot, the next one joins."""
    random = Random(f"{client} full")

    def ask() -> None:
        if world.now < end:
            world.ask(client, *sizes(random))

    def again(_: Job) -> None:
        world.at(world.now, ask)

    world.on_start[client] = again
    for _ in range(depth):
        world.at(begin, ask)


def on_off(world: World, client: int, sizes: Sizes, *, on: float, off: float, rate: float) -> None:
    """Asks at `rate` a second for `on` seconds, then none for `off`."""
    random = Random(f"{client} on/off")

    def ask() -> None:
        world.ask(client, *sizes(random))
        later = world.now + random.expovariate(rate)
        phase = later % (on + off)
        world.at(later if phase < on else later - phase + on + off, ask)

    world.at(0.0, ask)


def newcomers(world: World, count: int, sizes: Sizes, *, waiting: int, blocks: int) -> None:
    """`count` addresses in so many blocks, which ask in turn so that `waiting` asks always wait."""
    random = Random("newcomers")
    clients = [world.client(f"n{number}", f"n{number % blocks}", noted=False) for number in range(count)]
    turn = 0

    def ask() -> None:
        nonlocal turn
        world.ask(clients[turn % count], *sizes(random))
        turn += 1

    def again(_: Job) -> None:
        world.at(world.now, ask)

    for client in clients:
        world.on_start[client] = again
    for _ in range(waiting):
        world.at(0.0, ask)


def endless(world: World, sizes: Sizes, *, waiting: int) -> None:
    """Every ask from an address and a block that nobody has seen; `waiting` of them always wait."""
    random = Random("endless")
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        client = world.client(f"e{asked}", f"e{asked}", noted=False)
        world.on_start[client] = again
        world.ask(client, *sizes(random))

    def again(_: Job) -> None:
        world.at(world.now, ask)

    for _ in range(waiting):
        world.at(0.0, ask)
