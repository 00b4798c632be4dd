"""The named workloads, each with the rows that it fills. Every row is one figure; some have a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import cast

from msgspec import Struct

from bench.fairness import measure, traffic
from bench.fairness.engine import Model
from bench.fairness.turns import Fifo, RoundRobin
from bench.fairness.vtc import PlainVtc
from bench.fairness.world import Tally, World
from standpipe.policy.line import Line, QueueLimits, Rules
from standpipe.policy.line.fair import FairQueue
from standpipe.policy.pace import Rate

SLOTS = 8
MODEL = Model()
ROOMY = QueueLimits(line=100_000, block=100_000)
"""Bounds that no workload meets: they test the order, not the refusals."""

SHORT = traffic.fixed(64, 64)


class Order(Struct, frozen=True):
    """A line to compare. `client_slots` 0 and `headroom` None mean what Standpipe chooses."""

    name: str
    kind: type[Fifo | PlainVtc] | None = None
    """What stands in the place of the fair queue; None for the fair queue itself."""
    client_slots: int = 0
    headroom: int | None = None
    limits: QueueLimits = ROOMY

    def rules(self) -> Rules:
        return Rules(self.client_slots, self.headroom, limits=self.limits)

    def line(self, slots: int = SLOTS) -> Line:
        rules = self.rules()
        line = Line(rules, slots)
        if self.kind is not None:
            line.order = cast("FairQueue", self.kind(rules.caps(slots), rules.weights, rules.largest))
        return line


FAIR = Order("fair")
ROBIN = Order("round-robin", RoundRobin)
FIFO = Order("fifo", Fifo)
VTC = Order("plain vtc", PlainVtc)
ALL = (FAIR, ROBIN, FIFO, VTC)


class Row(Struct, frozen=True):
    """One figure. `target` is what it is held against, in words; `met` None if there is none."""

    workload: str
    order: str
    figure: str
    value: str
    target: str = ""
    met: bool | None = None


def quiet_and_flooder(seconds: int = 3600) -> Iterator[Row]:
    """One ask a second of 64 + 64 tokens, beside a client whose line is always full."""
    for batch in (False, True):
        name = "quiet, flooder" + (", batch" if batch else "")
        alone = _quiet(FAIR, seconds, batch=batch, flooders=0)
        own = measure.quantile(measure.first_tokens(alone.tallies[0]), 0.99)
        yield Row(name, "alone", "quiet first token p99", f"{own:.3f} s")
        runs = [*ALL, Order("fair m=7", None, 7), Order("round-robin m=7", RoundRobin, 7)]
        worlds = {order.name: _quiet(order, seconds, batch=batch) for order in [*runs, Order("fifo m=7", Fifo, 7)]}
        for order, world in worlds.items():
            p99 = measure.quantile(measure.first_tokens(world.tallies[0]), 0.99)
            held = order == "fair" and not batch
            yield Row(
                name, order, "quiet first token p99", f"{p99:.3f} s = {p99 / own:.2f} x alone",
                "<= 1.10 x alone" if held else "", p99 <= 1.10 * own if held else None,
            )  # fmt: skip
        if not batch:
            part = measure.throughput(worlds["fair"]) / measure.throughput(worlds["fifo"])
            yield Row(name, "fair", "throughput by first-come at equal m", f"{part:.4f}", ">= 0.99", part >= 0.99)


def _quiet(order: Order, seconds: int, *, batch: bool = False, flooders: int = 1, slots: int = SLOTS) -> World:
    world = World(order.line(slots), batch=batch)
    traffic.steady(world, world.client("10.0.0.1", "10.0.0"), 1.0, SHORT)
    for number in range(flooders):
        traffic.full(world, world.client(f"20.0.{number}.1", f"20.0.{number}"), SHORT)
    world.run(seconds)
    return world


def flooder_within_quota(seconds: int = 3600) -> Iterator[Row]:
    """A flooder that sends 32 asks a second at a pace of 2: what is inside its quota must all be answered."""
    world = World(FAIR.line(), rate=Rate())
    traffic.steady(world, world.client("10.0.0.1", "10.0.0"), 1.0, SHORT)
    flooder = world.client("20.0.0.1", "20.0.0")
    traffic.steady(world, flooder, 1 / 32, SHORT)
    world.run(seconds)
    tally = world.tallies[flooder]
    rate = sum(1 for job in tally.jobs if job.ended is not None) / seconds
    name = "flooder, 32 asks/s, paced"
    yield Row(name, "fair", "answered", f"{rate:.3f} /s", ">= 1.99 /s of 2", rate >= 1.99)
    world = World(FAIR.line(), rate=Rate())
    flooder = world.client("20.0.0.1", "20.0.0")
    traffic.steady(world, flooder, 0.5, SHORT)
    world.run(seconds)
    refused = world.tallies[flooder].refused
    yield Row("flooder, 2 asks/s, paced", "fair", "refused", str(refused), "0", refused == 0)


def many_flooders(seconds: int = 1800) -> Iterator[Row]:
    """The quiet client, which asks for less than its share, beside eight full ones: no cap keeps a slot free now."""
    own = measure.quantile(measure.first_tokens(_quiet(FAIR, seconds, flooders=0).tallies[0]), 0.99)
    name = "quiet, 8 flooders"
    for order in (*ALL, Order("fair, no headroom", None, 4, 0)):
        world = World(order.line())
        traffic.steady(world, world.client("10.0.0.1", "10.0.0"), 1.3, SHORT)
        for number in range(8):
            traffic.full(world, world.client(f"20.0.{number}.1", f"20.0.{number}"), traffic.spread(16, 512))
        world.run(seconds)
        p99 = measure.quantile(measure.first_tokens(world.tallies[0]), 0.99)
        yield Row(name, order.name, "quiet first token p99", f"{p99:.3f} s = {p99 / own:.2f} x alone")
        yield Row(name, order.name, "slots busy", f"{world.busy / seconds / SLOTS:.3f}")


def strangers(seconds: int = 3600) -> Iterator[Row]:
    """40 strangers who ask at random, each once in 20 s, beside eight full clients: a public tap on an ordinary day."""
    for batch in (False, True):
        for order in ALL:
            world = World(order.line(), batch=batch)
            for number in range(40):
                client = world.client(f"10.0.{number}.1", f"10.0.{number}")
                traffic.poisson(world, client, 0.05, traffic.spread(16, 256))
            for number in range(8):
                traffic.full(world, world.client(f"20.0.{number}.1", f"20.0.{number}"), traffic.spread(16, 512))
            world.run(seconds)
            waits = [wait for tally in world.tallies[:40] for wait in measure.waits(tally)]
            yield Row(
                f"40 strangers, 8 full{', batch' if batch else ''}", order.name, "strangers' waits, p50, p90 and p99",
                ", ".join(f"{measure.quantile(waits, part):.2f}" for part in (0.5, 0.9, 0.99)) + " s",
            )  # fmt: skip


def zipf(seconds: int = 1800) -> Iterator[Row]:
    """32 tenants who ask equally often. Sizes fall by Zipf's law from 8,192 + 2,048 tokens to 16 + 16; all together
    they ask for 1.5 times as much as the engine can do.

    On 64 slots, as engines for so many have. On 16 the polite ones together fill most of the machine and wait for one
    another, which no order can help; that row is here to show it.
    """
    for slots in (64, 16):
        yield from _zipf(seconds, slots)


def _zipf(seconds: int, slots: int) -> Iterator[Row]:
    tenants = 32
    sizes = [(round(8192 / rank**1.8), round(2048 / rank**1.4)) for rank in range(1, tenants + 1)]
    rate = 1.5 * slots / sum(MODEL.prompt * prompt + MODEL.output * output for prompt, output in sizes)

    def run(order: Order, only: int | None = None) -> World:
        world = World(order.line(slots))
        for rank, (prompt, output) in enumerate(sizes, 1):
            client = world.client(f"10.0.{rank}.1", f"10.0.{rank}")
            if only is None or only == client:
                traffic.poisson(world, client, rate, traffic.fixed(prompt, output))
        world.run(seconds)
        return world

    alone = [run(FAIR, client).tallies[client] for client in range(tenants)]
    for order in ALL:
        world = run(order)
        polite = _polite(world, alone, seconds)
        ratios = [
            measure.quantile(measure.first_tokens(world.tallies[client]), 0.99)
            / measure.quantile(measure.first_tokens(alone[client]), 0.99)
            for client in polite
        ]
        waits = [wait for client in polite for wait in measure.waits(world.tallies[client])]
        held = order is FAIR and slots == 64
        name = f"zipf, 32 tenants, {slots} slots"
        yield Row(
            name, order.name, f"worst first token p99 of {len(polite)} polite ones",
            f"{max(ratios):.2f} x alone", "<= 1.5 x alone" if held else "", max(ratios) <= 1.5 if held else None,
        )  # fmt: skip
        yield Row(
            name, order.name, "their waits, p50 and p99",
            f"{measure.quantile(waits, 0.5):.2f} s, {measure.quantile(waits, 0.99):.2f} s",
        )  # fmt: skip


def _polite(world: World, alone: list[Tally], seconds: int) -> list[int]:
    """The clients who ask for less than an equal share of what was served."""
    share = sum(tally.served for tally in world.tallies) / len(world.tallies)
    return [client for client, tally in enumerate(alone) if measure.served(tally, 0, seconds) < share]


def jain(counts: Sequence[int] = (3, 8, 16, 32, 64)) -> Iterator[Row]:
    """Equal clients, always full, with asks of unequal sizes."""
    for sizes, window, seconds in ((traffic.spread(16, 256), 60, 600), (traffic.spread(16, 2048), 600, 3600)):
        for count in counts:
            for order in ALL:
                world = _full(order, count, sizes, seconds)
                index = min(measure.jain_windows(world.tallies, window, seconds))
                held = order is FAIR
                yield Row(
                    f"{count} full clients, {'16 to 256' if window == 60 else '16 to 2048'} tokens", order.name,
                    f"worst jain index over {window} s", f"{index:.4f}",
                    ">= 0.98" if held else "", index >= 0.98 if held else None,
                )  # fmt: skip
                if held and window == 600:
                    bound = 2 * order.rules().largest.bound(order.rules().weights, order.rules().caps(SLOTS).client)
                    part = measure.gap(world.tallies, seconds) / bound
                    yield Row(
                        f"{count} full clients, 16 to 2048 tokens", order.name, "largest service gap by 2U",
                        f"{part:.3f}", "<= 1", part <= 1,
                    )  # fmt: skip


def slow_engine() -> Iterator[Row]:
    """The same 64 clients where a slot writes 50 tokens a second: each gets fewer than three asks a minute."""
    slow = Model(prompt=0.0005, output=0.020)
    for order in ALL:
        world = _full(order, 64, traffic.spread(16, 256), 600, slow)
        index = min(measure.jain_windows(world.tallies, 60, 600))
        yield Row("64 full clients, slow engine", order.name, "worst jain index over 60 s", f"{index:.4f}")


def _full(order: Order, count: int, sizes: traffic.Sizes, seconds: int, model: Model = MODEL) -> World:
    world = World(order.line(), model=model)
    for number in range(count):
        traffic.full(world, world.client(f"10.0.{number}.1", f"10.0.{number}"), sizes)
    world.run(seconds)
    return world


def few_slots(seconds: int = 3600) -> Iterator[Row]:
    """A laptop's one or two slots, a client with asks of 64 + 64 tokens and one with 512 + 1,024, both always full."""
    for slots in (1, 2):
        for order in ALL:
            world = World(order.line(slots))
            short, long = world.client("10.0.0.1", "10.0.0"), world.client("20.0.0.1", "20.0.0")
            traffic.full(world, short, SHORT)
            traffic.full(world, long, traffic.fixed(512, 1024))
            world.run(seconds)
            share = world.tallies[short].served / world.total
            # On two slots each may hold one at most, and has it: what is left is how fast a slot does what it asks.
            held = order is FAIR and slots == 1
            yield Row(
                f"short against long, {slots} slot{'s' * (slots > 1)}", order.name, "share of the one with short asks",
                f"{share:.3f}", "0.50 +- 0.03" if held else "", abs(share - 0.5) <= 0.03 if held else None,
            )  # fmt: skip


def return_from_idle(seconds: int = 900) -> Iterator[Row]:
    """Two clients, always full; one of them is away for ten minutes and comes back."""
    for slots, client_slots in ((4, 0), (8, 7)):
        for order in (Order("fair", None, client_slots), ROBIN, VTC):
            world = World(order.line(slots))
            settled, back = world.client("10.0.0.1", "10.0.0"), world.client("20.0.0.1", "20.0.0")
            traffic.full(world, settled, traffic.spread(16, 512))
            traffic.full(world, back, traffic.spread(16, 512), end=300)
            world.run(900)
            traffic.full(world, back, traffic.spread(16, 512), begin=900)
            world.run(seconds)
            for begin, end in ((900, 1020), (900, 900 + seconds)):
                mine, other = (measure.served(tally, begin, end) for tally in reversed(world.tallies))
                share = mine / (mine + other)
                held = order.kind is None
                yield Row(
                    f"return from idle, {slots} slots", order.name, f"share in the first {end - begin} s",
                    f"{share:.3f}", "0.50 +- 0.03" if held else "", abs(share - 0.5) <= 0.03 if held else None,
                )  # fmt: skip


def sybil(seconds: int = 1800, addresses: int = 1000) -> Iterator[Row]:
    """1,000 addresses of one /48 that ask in turn, as many asks always waiting, against one settled client that always
    waits. And the same from 1,000 blocks, where each is entitled to its share: there only liveness is promised."""
    for spread_out in (False, True):
        name = f"{addresses:,} addresses, " + ("as many blocks" if spread_out else "one /48")
        for order in ALL:
            world = World(order.line())
            settled = world.client("10.0.0.1", "10.0.0")
            traffic.full(world, settled, SHORT)
            traffic.newcomers(world, addresses, SHORT, waiting=addresses, blocks=addresses if spread_out else 1)
            world.run(seconds)
            own = world.tallies[settled]
            share = own.served / world.total
            held = order is FAIR and not spread_out
            yield Row(
                name, order.name, "settled client's share", f"{share:.4f}",
                ">= 0.45" if held else "", share >= 0.45 if held else None,
            )  # fmt: skip
            if order is VTC and not spread_out:
                yield Row(name, order.name, "starves it", f"{share:.4f}", "< 0.05", share < 0.05)
            yield Row(name, order.name, "its longest wait", f"{max(measure.waits(own), default=inf):.1f} s")


def endless_newcomers(seconds: int = 1800) -> Iterator[Row]:
    """Every ask comes from a new address in a new block, 16 of them always waiting, against a settled client."""
    for order in ALL:
        world = World(order.line())
        settled = world.client("10.0.0.1", "10.0.0")
        traffic.full(world, settled, traffic.spread(16, 512))
        traffic.endless(world, traffic.spread(16, 512), waiting=16)
        world.run(seconds)
        own = world.tallies[settled]
        share = own.served / world.total
        name = "endless newcomers, 16 waiting"
        yield Row(name, order.name, "settled client's share (1/17 = 0.059)", f"{share:.4f}")
        starts = [job.start for job in own.jobs if job.start is not None]
        longest = max(late - early for early, late in zip([0.0, *starts], [*starts, float(seconds)], strict=True))
        yield Row(name, order.name, "longest time without a slot", f"{longest:.1f} s")
        yield Row(name, order.name, "counters remembered at the end", str(world.line.order.known))


def mixtures(seconds: int = 1800) -> Iterator[Row]:
    """On/off, short against long, Poisson: what the worst served client misses of what it asks for, in 30 s windows."""
    for name, start in (("on/off", _on_off), ("short against long", _short_long), ("poisson", _poisson)):
        worlds = {}
        for order in ALL:
            world = worlds[order.name] = World(order.line())
            demands = start(world)
            world.run(seconds)
            missed = measure.windowed_difference(world.tallies, demands, 30, seconds)
            yield Row(name, order.name, "missed by the worst served, a 30 s window", f"{missed:.0f} weighted tokens")
        part = measure.throughput(worlds["fair"]) / measure.throughput(worlds["fifo"])
        yield Row(name, "fair", "throughput by first-come at equal m", f"{part:.4f}")


def _on_off(world: World) -> list[float]:
    for number in range(4):
        client = world.client(f"10.0.{number}.1", f"10.0.{number}")
        if number:
            traffic.full(world, client, traffic.spread(16, 512))
        else:
            traffic.on_off(world, client, traffic.spread(16, 512), on=60, off=60, rate=1.0)
    return [792.0 / 2, inf, inf, inf]


def _short_long(world: World) -> list[float]:
    for number in range(6):
        client = world.client(f"10.0.{number}.1", f"10.0.{number}")
        traffic.full(world, client, traffic.fixed(64, 64) if number % 2 else traffic.fixed(512, 512))
    return [inf] * 6


def _poisson(world: World) -> list[float]:
    rates = (0.2, 0.4, 0.8, 1.6, 3.2)
    for number, rate in enumerate(rates):
        client = world.client(f"10.0.{number}.1", f"10.0.{number}")
        traffic.poisson(world, client, rate, traffic.spread(16, 512))
    return [792.0 * rate for rate in rates]


def eta(seconds: int = 1800) -> Iterator[Row]:
    """How far the wait that was predicted at joining is from the wait that came, for waits of half a second or more."""
    for batch in (False, True):
        for order in (FAIR, ROBIN, FIFO):
            worlds = {
                "8 full clients": _eta_world(order, 8, 0, batch),
                "8 full, 20 strangers": _eta_world(order, 8, 20, batch),
                "20 clients, one ask each": _eta_world(order, 0, 0, batch, loops=20),
            }
            for name, world in worlds.items():
                world.run(seconds)
                seconds_off, part, count = measure.eta_error(world)
                yield Row(
                    f"eta, {name}{', batch' if batch else ''}", order.name, f"median error of {count} predicted waits",
                    f"{seconds_off:.2f} s = {part:.0%}",
                )  # fmt: skip


def _eta_world(order: Order, full: int, strangers: int, batch: bool, loops: int = 0) -> World:
    world = World(order.line(), batch=batch)
    for number in range(full + strangers + loops):
        client = world.client(f"10.0.{number}.1", f"10.0.{number}")
        if number < full:
            traffic.full(world, client, traffic.spread(16, 512))
        elif number < full + strangers:
            traffic.poisson(world, client, 0.05, traffic.spread(16, 512))
        else:
            traffic.full(world, client, traffic.spread(16, 512), depth=1)
    return world


WORKLOADS: dict[str, Callable[[], Iterator[Row]]] = {
    "quiet": quiet_and_flooder,
    "quota": flooder_within_quota,
    "flooders": many_flooders,
    "strangers": strangers,
    "zipf": zipf,
    "jain": jain,
    "slow": slow_engine,
    "few": few_slots,
    "idle": return_from_idle,
    "sybil": sybil,
    "newcomers": endless_newcomers,
    "mixtures": mixtures,
    "eta": eta,
}
