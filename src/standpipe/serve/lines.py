"""Lines: one fair line for each set of engines that may take an ask, so that nobody waits for engines of other models.

Where every engine serves every model, there is one line. Asks for a model that only some serve, or prompts that fit
only some, wait in a line of their own: they are fair to each other, and two lines that share an engine take turns.
When engines come, go or serve other models, a line goes along with what its asks want; asks that want different things
now part. What ran is charged where it was granted, so a client's debt may be left behind there. Must not know tickets,
nor who grants.
"""

from __future__ import annotations

from functools import reduce

from msgspec.structs import replace

from standpipe.engines.member import Member
from standpipe.engines.seats import Journey, Seats
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Line, LineStatistics, QueuedAsk, Rules


class Lines:
    """All lines of a server."""

    def __init__(self, first: Line, seats: Seats) -> None:
        """`first` is the line for asks that any engine may take."""
        self._first = first
        self._seats = seats
        self._by_engines: dict[tuple[Member, ...], Line] = {seats.fleet.members: first}
        self._wanted: dict[Line, Journey] = {}
        """What the asks of a line want, but for the first's: an example."""
        self._ending: list[Line] = []
        """Lines that nobody joins any more, for as long as asks run that were granted there."""
        self._past = replace(first.statistics(), slots=0)
        """What was counted in those that have ended."""

    def of(self, journey: Journey) -> Line:
        """The line in which an ask waits."""
        able = self._seats.able(journey)
        line = self._by_engines.get(able)
        if line is None:
            line = self._first
            if able:
                line = self._by_engines[able] = Line(line.rules, 1)
                self._wanted[line] = journey.alike()
        return line

    def regroup(self) -> None:
        """What engines may take has changed. Afterwards each waiting ask is to be taken to its line (`of`)."""
        self._past = reduce(_both, (line.statistics() for line in self._ending if not line.running), self._past)
        self._ending = [line for line in self._ending if line.running]
        former = [line for line in self._by_engines.values() if line is not self._first]
        self._by_engines = {self._seats.fleet.members: self._first}
        for line in former:
            able = self._seats.able(self._wanted[line])
            if not able or self._by_engines.setdefault(able, line) is not line:
                del self._wanted[line]
                self._ending.append(line)

    def in_turn(self) -> tuple[tuple[tuple[Member, ...], Line], ...]:
        """Some engines and their line, for each line, first who was granted something longest ago."""
        return tuple(self._by_engines.items())

    def had_its_turn(self, members: tuple[Member, ...]) -> None:
        """The line of these engines was granted something: others come first now."""
        if len(self._by_engines) > 1:
            self._by_engines[members] = self._by_engines.pop(members)

    @property
    def rules(self) -> Rules:
        """What all lines go by."""
        return self._first.rules

    def set_rules(self, rules: Rules) -> None:
        """As `Line.rules`, for each: limits count in each line by itself."""
        for line in self._by_engines.values():
            line.rules = rules

    @property
    def running(self) -> int:
        """Asks that hold a slot."""
        if len(self._by_engines) == 1 and not self._ending:
            return self._first.running
        return sum(line.running for line in (*self._by_engines.values(), *self._ending))

    def asks(self, client: ClientKey) -> list[tuple[Line, QueuedAsk]]:
        """The waiting places of a client's address."""
        return [(line, place) for line in self._by_engines.values() for place in line.asks(client)]

    def pulse(self, client: ClientKey) -> float:
        """As `Line.pulse`, of the slowest line in which this client waits."""
        return max((line.pulse(full=False) for line in {line for line, _ in self.asks(client)}), default=0.0)

    def clients(self) -> tuple[tuple[str, int, int], ...]:
        """As `Line.clients`."""
        return tuple(client for line in self._by_engines.values() for client in line.clients())

    def statistics(self) -> LineStatistics:
        """As `Line.statistics`, of all together."""
        lines = (self._first, *(line for line in self._by_engines.values() if line is not self._first), *self._ending)
        return reduce(_both, (*(line.statistics() for line in lines), self._past))


def _both(one: LineStatistics, other: LineStatistics) -> LineStatistics:
    return LineStatistics(
        slots=max(one.slots, other.slots),
        refused={limit: count + other.refused[limit] for limit, count in one.refused.items()},
        measured=one.measured or other.measured,
        **{name: getattr(one, name) + getattr(other, name) for name in _SUMS},
    )


_SUMS = ("running", "waiting", "early", "bytes", "clients", "kept", "granted", "shed")
