"""How fast the line is on one core, in processor time of this process."""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time

from bench.fairness.workloads import FAIR, FIFO, ROBIN, Order, Row
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, QueuedAsk, QueueLimits, Rules

FLOWS = 5000
_BOUNDLESS = QueueLimits(1_000_000, 1_000_000, 1_000_000, 1_000_000_000)


def rows() -> Iterator[Row]:
    """Asks per second, for each order; the fair one also where 250 clients share each block."""
    name = f"speed, {FLOWS} clients"
    for order in (FAIR, ROBIN, FIFO):
        rate = _join_and_dispatch(order, 1)
        held = order is FAIR
        yield Row(
            name, order.name, "join + dispatch", f"{rate:,.0f} /s",
            ">= 50,000 /s" if held else "", rate >= 50_000 if held else None,
        )  # fmt: skip
    yield Row(name, "fair", "join + dispatch, 250 clients in a block", f"{_join_and_dispatch(FAIR, 250):,.0f} /s")
    yield Row(name, "fair", "join, dispatch, charge, settle, release", f"{_whole_life():,.0f} /s")
    yield Row("speed, 2,000 asks waiting", "fair", "one forecast", f"{_forecast() * 1e6:.0f} microseconds")


def _clients(count: int, crowd: int) -> list[ClientKey]:
    return [ClientKey(f"10.{number}", f"10.{number // crowd}") for number in range(count)]


def _join_and_dispatch(order: Order, crowd: int, rounds: int = 10) -> float:
    """Rounds in which every client joins once, then every one of them gets a slot."""
    line = Order("boundless", order.kind, 1000, 0, _BOUNDLESS).line(FLOWS * rounds)
    clients = _clients(FLOWS, crowd)
    begin = process_time()
    for _ in range(rounds):
        for client in clients:
            _join(line, client, 0.0)
        while line.next(0.0) is not None:
            pass
    return FLOWS * rounds / (process_time() - begin)


def _whole_life(asks: int = 50_000, slots: int = 64) -> float:
    """Whole lives, one after another, while every client waits."""
    line = Line(Rules(limits=_BOUNDLESS), slots)
    clients = _clients(FLOWS, 1)
    for client in clients:
        _join(line, client, 0.0)
    running = list(iter(lambda: line.next(0.0), None))
    begin = process_time()
    for number in range(asks):
        now = number / 1000
        place: QueuedAsk = running[number % len(running)]
        line.charge(place, 64, now)
        line.settle(place, prompt_tokens=120, completion_tokens=70)
        line.release(place, now)
        _join(line, place.client, now)
        granted = line.next(now)
        assert granted is not None
        running[number % len(running)] = granted
    return asks / (process_time() - begin)


def _forecast(waiting: int = 2000, times: int = 500) -> float:
    """Seconds for one forecast of the last one in line."""
    line = Line(Rules(limits=_BOUNDLESS), 8)
    places = [_join(line, client, 0.0) for client in _clients(waiting // 4, 1) for _ in range(4)]
    while line.next(0.0) is not None:
        pass
    begin = process_time()
    for _ in range(times):
        line.forecast(places[-1], 0.0)
    return (process_time() - begin) / times


def _join(line: Line, client: ClientKey, now: float) -> QueuedAsk:
    return line.join(client, now=now, eligible_at=now, prompt_tokens=100, size=100)
