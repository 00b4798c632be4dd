"""All rows in interleaved rounds: direct, ours, theirs, and again, so that a busy moment hits nobody alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from bench.overhead.gateways import Gateway
from bench.overhead.measure import Running, Stand
from bench.overhead.processes import DidNotStart
from bench.overhead.workloads import Row, Sample

STARTS = 5
"""Cold starts of a gateway that starts fast."""


class Plan(Struct, frozen=True):
    """What to do: `duration` of a load in ms, `rounds` of each load."""

    rows: Sequence[Row]
    gateways: Sequence[Gateway]
    rounds: int
    duration: int


class Walk:
    """One run of the whole benchmark."""

    def __init__(self, stand: Stand, plan: Plan) -> None:
        self._stand = stand
        self._plan = plan
        self.samples: list[Sample] = []
        self.lost: dict[str, str] = {}
        """Gateways that did not start or ended in mid-run, and why. What was measured before remains."""

    def run(self) -> None:
        """All rows. A gateway that fails is lost, and the others go on."""
        self._fresh("start", self._start)
        self._fresh("memory", lambda gateway, row: [self._stand.measure_memory(gateway, row, self._plan.duration)])
        rest = [row for row in self._plan.rows if row.name not in {"start", "memory"}]
        running = self._start_all() if rest else []
        for row in rest:
            rounds = self._plan.rounds if row.load else 1
            for number in range(rounds):
                print(f"{row.name} {number + 1}/{rounds} ...", file=sys.stderr)
                for one in running:
                    self._one(one, row)

    def _fresh(self, name: str, measure: Callable[[Gateway, Row], list[Sample]]) -> None:
        """A row that starts each gateway anew."""
        for row in self._plan.rows:
            if row.name != name:
                continue
            print(f"{name} ...", file=sys.stderr)
            for gateway in self._plan.gateways:
                if gateway.command is not None and gateway.name not in self.lost:
                    try:
                        self.samples += measure(gateway, row)
                    except DidNotStart as error:
                        self.lost[gateway.name] = str(error)

    def _start(self, gateway: Gateway, row: Row) -> list[Sample]:
        return [self._stand.measure_start(gateway, row) for _ in range(1 if gateway.slow else STARTS)]

    def _start_all(self) -> list[Running]:
        running = []
        for gateway in self._plan.gateways:
            if gateway.name not in self.lost:
                try:
                    one = self._stand.start(gateway)
                    self._stand.warm_up(one)
                    running.append(one)
                except DidNotStart as error:
                    self.lost[gateway.name] = str(error)
        return running

    def _one(self, one: Running, row: Row) -> None:
        if one.gateway.name in self.lost or (one.gateway.slow and row.slow is None):
            return
        try:
            if one.child:
                one.child.check_alive()
            measured = self._stand.measure(one, row, self._plan.duration) if row.load else self._stand.cancel(one, row)
            self.samples.append(measured)
        except (DidNotStart, OSError, subprocess.SubprocessError) as error:
            self.lost[one.gateway.name] = f"lost in {row.name}: {error}"
        time.sleep(0.1)
