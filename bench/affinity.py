"""What it saves that conversations stay at their engines: the real choice before modelled engines, on virtual time.

    scripts/bench affinity [--seconds 3600] [--slack 0.25 ...]

Conversations of several turns come at random and go on after a while. An engine reads what it has not in its prefix
cache, which holds so many tokens and drops what was used longest ago, and then writes. Printed, with the preference and
without: the prompt tokens that are read of those that come, first-token times, and how evenly the work is spread.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict, deque
from heapq import heappop, heappush
from random import Random
from statistics import mean

from msgspec import Struct

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.policy.affinity import Affinity, prefixes
from standpipe.policy.standing import EngineStanding, Fastest, Option, choose

OPERATORS, QUESTION, ANSWER = 400, 80, 220
"""Tokens of the operator's prompt, of a question and of an answer, on average."""
TURNS, THINKING = 6, 20.0
"""Turns of a conversation, and seconds between an answer and the next question, on average."""
READS, WRITES = 2000.0, 40.0
"""Tokens a second, in a slot: 2,000 read and 40 written."""


class Modelled:
    """One engine: slots, a prefix cache of so many tokens, and a pace of its own (2 is half as fast)."""

    def __init__(self, slots: int, cache: int, slower: float = 1.0) -> None:
        self.slots, self.busy, self.slower = slots, 0, slower
        self.standing = EngineStanding()
        self.taken_at = self.asked = 0
        self.used = 0.0
        """Seconds that its slots have worked."""
        self._cache: OrderedDict[int, int] = OrderedDict()
        self._room = cache

    def reads(self, conversation: int, prompt: int, after: int) -> int:
        """Tokens that it has to read of this prompt. `after`: what it will have of the conversation."""
        cached = self._cache.pop(conversation, min(OPERATORS, prompt))
        self._cache[conversation] = after
        while sum(self._cache.values()) > self._room and len(self._cache) > 1:
            self._cache.popitem(last=False)
        return prompt - min(cached, prompt)


class Conversation:
    """What was said so far: a message for each turn, and tokens. It takes the same course in every world."""

    def __init__(self, number: int, seed: int) -> None:
        self._random = Random(f"{seed} {number}")
        self.number, self.turns, self.tokens = number, self.around(TURNS), OPERATORS
        self.said = [Message(Role.SYSTEM, (Text("Be kind."),))]
        self.asked_at = 0.0
        self.prefixes: tuple[bytes, ...] = ()

    def around(self, usual: float) -> int:
        """A random number that is this on average."""
        return max(1, round(self._random.expovariate(1 / usual)))

    def asks(self, now: float) -> None:
        """The next question is asked."""
        self.said.append(Message(Role.USER, (Text(f"{self.number}"),)))
        self.tokens += self.around(QUESTION)
        self.asked_at = now
        self.prefixes = prefixes(Ask(tuple(self.said)), b"bench")


class Figures(Struct):
    """What came of it. `firsts` and `asked_at` are seconds, `shares` asks by engine."""

    prompt: int = 0
    read: int = 0
    firsts: list[float] = []
    shares: list[int] = []
    used: list[float] = []
    log: list[tuple[float, int, float]] = []
    """When it was given to which engine, and the seconds from the ask to the first token."""


class World:
    """Engines, a line before them (first come, first served), and conversations.

    Args:
        load: of what the engines could do if nothing were cached beyond the operator's prompt.
        away: (engine, from, until): it is not there in this time.
    """

    def __init__(
        self,
        engines: list[Modelled],
        load: float,
        slack: float,
        *,
        seed: int = 0,
        away: tuple[int, float, float] | None = None,
    ) -> None:
        self._engines, self._slack, self._seed, self._random = engines, slack, seed, Random(seed)
        self._affinity: Affinity[int] = Affinity()
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._line: deque[Conversation] = deque()
        self._count = self._conversations = 0
        self.figures = Figures(shares=[0] * len(engines), used=[0.0] * len(engines))
        seconds = QUESTION * TURNS / READS + ANSWER / WRITES + (QUESTION + ANSWER) * TURNS / 2 / READS
        slots = sum(engine.slots for engine in engines)
        self._between = seconds * TURNS / (slots * load)
        if away is not None:
            self._at(away[1], "goes", away[0])
            self._at(away[2], "comes", away[0])
        self._at(0.0, "begins")

    def run(self, seconds: float) -> Figures:
        """Let so much virtual time pass."""
        while self._events and self._events[0][0] < seconds:
            now, _, name, arguments = heappop(self._events)
            getattr(self, f"_{name}")(now, *arguments)
            while self._line and (engine := self._choose(self._line[0], now)) is not None:
                self._give(self._line.popleft(), engine, now)
        return self.figures

    def _at(self, when: float, name: str, *arguments: object) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, name, arguments))

    def _begins(self, now: float) -> None:
        self._conversations += 1
        self._asks(now, Conversation(self._conversations, self._seed))
        self._at(now + self._random.expovariate(1 / self._between), "begins")

    def _asks(self, now: float, conversation: Conversation) -> None:
        conversation.asks(now)
        self._line.append(conversation)

    def _goes(self, now: float, engine: int) -> None:
        self._engines[engine].standing.went(now)

    def _comes(self, _: float, engine: int) -> None:
        self._engines[engine].standing.came()

    def _choose(self, conversation: Conversation, now: float) -> int | None:
        fastest = Fastest.of(engine.standing for engine in self._engines)
        options = [
            Option(0, 0, 0, engine.standing.cost(engine.slots, engine.busy, now, fastest), engine.taken_at)
            if engine.standing.room(engine.slots, engine.busy, now)
            else None
            for engine in self._engines
        ]
        home = self._affinity.home(conversation.prefixes, now) if self._slack else None
        return choose(options, home, self._slack)

    def _give(self, conversation: Conversation, number: int, now: float) -> None:
        engine, figures = self._engines[number], self.figures
        self._count += 1
        engine.taken_at = self._count
        engine.busy += 1
        engine.standing.taken(now)
        writes = conversation.around(ANSWER)
        reads = engine.reads(conversation.number, conversation.tokens, conversation.tokens + writes)
        first = (reads / READS + 1 / WRITES) * engine.slower
        whole = first + writes / WRITES * engine.slower
        figures.prompt += conversation.tokens
        figures.read += reads
        figures.shares[number] += 1
        figures.used[number] += whole
        figures.firsts.append(now + first - conversation.asked_at)
        figures.log.append((now, number, figures.firsts[-1]))
        self._at(now + first, "speaks", conversation, number, first)
        self._at(now + whole, "ends", conversation, number, writes)

    def _speaks(self, now: float, conversation: Conversation, number: int, seconds: float) -> None:
        self._engines[number].standing.spoke(now, seconds)
        self._affinity.answered(conversation.prefixes, number, now)

    def _ends(self, now: float, conversation: Conversation, number: int, writes: int) -> None:
        engine = self._engines[number]
        engine.busy -= 1
        engine.standing.answered(now)
        engine.standing.over(spoken=True)
        conversation.said.append(Message(Role.ASSISTANT, (Text("So it is."),)))
        conversation.tokens += writes
        conversation.turns -= 1
        if conversation.turns:
            self._at(now + conversation.around(THINKING), "asks", conversation)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600.0, help="virtual time of each row")
    parser.add_argument("--slack", type=float, nargs="*", default=[0.25], help="as the setting affinity_slack")
    wanted = parser.parse_args()
    print("| engines | load | slack | prompt read | first token, mean | p99 | least share of the mean |")
    print("|---|---|---|---|---|---|---|")
    for engines in (2, 4):
        for load in (0.3, 0.6, 0.9):
            for slack in dict.fromkeys((0.0, *wanted.slack)):
                world = World([Modelled(8, 200_000) for _ in range(engines)], load, slack)
                row = world.run(wanted.seconds)
                firsts = sorted(row.firsts)
                print(
                    f"| {engines} | {load:.0%} | {slack:g} | {row.read / row.prompt:.0%} | {mean(firsts):.2f} s "
                    f"| {firsts[len(firsts) * 99 // 100]:.2f} s | {min(row.used) / mean(row.used):.0%} |"
                )


if __name__ == "__main__":
    main()
