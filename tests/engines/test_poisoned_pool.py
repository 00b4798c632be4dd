"""Asks that kill the engine which works on them: each costs little, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.chat.errors import EngineBroke, EngineDown, Quarantined
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Health, Sink
from standpipe.engines.pool import Pool
from tests.engines.puppet import DONE, Puppet, now, pool_of, says, watched
from tests.virtual import Collected, run

RESTART = 3.0
"""Seconds for which a dead engine is away."""


class Mortal(Puppet):
    """An engine that dies of the word `poison`, and with it every connection."""

    def __init__(self, name: str, *, slots: int = 4, restarts: bool = True) -> None:
        super().__init__(says(), name, slots, ("m",))
        self.deaths: list[float] = []
        self.began: list[tuple[float, str, int]] = []
        """When, with which word, and how many ran then."""
        self._restarts = restarts
        self._death = asyncio.Event()
        self.running = 0

    @property
    def away(self) -> bool:
        return bool(self.deaths) and (not self._restarts or now() < self.deaths[-1] + RESTART)

    def die(self) -> None:
        self.deaths.append(now())
        self._death.set()
        self._death = asyncio.Event()

    async def answer(self, ask: Ask, sink: Sink) -> None:
        if self.away:
            raise EngineDown("away")
        self.running += 1
        self.began.append((now(), word(ask), self.running))
        death = self._death
        try:
            if word(ask) == "poison":
                asyncio.get_running_loop().call_later(0.5, self.die)
            await asyncio.wait_for(death.wait(), 1.0)
            raise EngineBroke("The engine broke off.")
        except TimeoutError:
            sink.take([Started("m"), TextDelta("hi"), DONE])
        finally:
            self.running -= 1

    async def health(self) -> Health:
        return Health(up=not self.away, reason="away")


def word(ask: Ask) -> str:
    part = ask.messages[0].parts[0]
    assert isinstance(part, Text)
    return part.text


async def sent(pool: Pool, said: str) -> Report:
    """An ask with this word, and what became of it."""
    report = Report()
    ask = Ask((Message(Role.USER, (Text(said),)),))
    journey = pool.journey(report, said.encode(), ask)
    journey.patience = 60.0
    await pool.answer(ask, Collected(), journey)
    return report


async def poisoned(pool: Pool) -> None:
    with pytest.raises(Quarantined):
        await sent(pool, "poison")


def test_a_poison_gets_two_children_never_a_third_and_its_bytes_are_refused_from_then_on():
    async def scene() -> None:
        engine = Mortal("a")
        pool = await pool_of(engine)
        async with watched(pool):
            await poisoned(pool)
            assert len(engine.deaths) == 2
            for _ in range(5):
                begun = now()
                await poisoned(pool)
                assert now() == begun
            assert len(engine.deaths) == 2
            assert (await sent(pool, "good")).attempts == 1

    run(scene())


def test_those_that_ran_with_it_are_answered_and_each_second_attempt_is_made_alone():
    async def scene() -> None:
        engine = Mortal("a")
        pool = await pool_of(engine)
        async with watched(pool), asyncio.TaskGroup() as group:
            innocent = [group.create_task(sent(pool, f"good{n}")) for n in range(3)]
            await asyncio.sleep(0.1)
            group.create_task(poisoned(pool))
        assert all(task.result().attempts >= 2 for task in innocent)
        assert len(engine.deaths) == 2
        again = [running for at, _, running in engine.began if at > 0.1]
        assert again == [1] * 4

    run(scene())


def test_asks_that_come_meanwhile_go_before_suspects():
    async def scene() -> None:
        engine = Mortal("a", slots=1)
        pool = await pool_of(engine)
        async with watched(pool), asyncio.TaskGroup() as group:
            group.create_task(poisoned(pool))
            await asyncio.sleep(0.7)
            for number in range(9):
                group.create_task(sent(pool, f"fresh{number}"))
        # Until it has waited for a while: it must not starve either.
        said = [said for _, said, _ in engine.began]
        assert 2 <= said.index("poison", 1) - 1 < 9

    run(scene())


def test_an_engine_is_not_kept_empty_for_ever_for_a_suspect():
    async def scene() -> None:
        class Long(Mortal):
            async def answer(self, ask: Ask, sink: Sink) -> None:
                if word(ask) == "long":
                    sink.take([Started("m"), TextDelta("hi")])
                    await asyncio.sleep(40)
                    sink.take([DONE])
                else:
                    await super().answer(ask, sink)

        engine = Long("a")
        pool = await pool_of(engine)
        async with watched(pool), asyncio.TaskGroup() as group:
            innocent = group.create_task(sent(pool, "good"))
            await asyncio.sleep(0.5)
            engine.die()
            await asyncio.sleep(1.5)
            group.create_task(sent(pool, "long"))
            await innocent
            assert 15 < now() < 20
            assert innocent.result().attempts == 2

    run(scene())


def test_with_several_engines_a_poison_costs_the_one_that_it_began_with():
    async def scene() -> None:
        engines = [Mortal(name) for name in "abc"]
        pool = await pool_of(*engines)
        async with watched(pool):
            await poisoned(pool)
        assert sorted(len(engine.deaths) for engine in engines) == [0, 0, 2]

    run(scene())


def test_an_engine_that_died_for_good_is_not_waited_for_and_its_ask_is_answered_elsewhere():
    async def scene() -> None:
        dead, other = Mortal("a", restarts=False), Mortal("b")
        pool = await pool_of(dead, other)
        async with watched(pool), asyncio.TaskGroup() as group:
            task = group.create_task(sent(pool, "good"))
            await asyncio.sleep(0.5)
            (dead if dead.running else other).die()
            victim = dead if dead.deaths else other
            victim._restarts = False
        assert task.result().attempts == 2
        assert now() < 10

    run(scene())


def test_a_death_of_many_is_nobodys_fault_and_all_go_on_at_once():
    async def scene() -> None:
        dead, other = Mortal("a", slots=16), Mortal("b", slots=16)
        pool = await pool_of(dead, other)
        async with watched(pool), asyncio.TaskGroup() as group:
            tasks = [group.create_task(sent(pool, f"good{n}")) for n in range(16)]
            await asyncio.sleep(0.5)
            dead.die()
        assert sorted(task.result().attempts for task in tasks) == [1] * 8 + [2] * 8
        assert now() == pytest.approx(1.5)

    run(scene())


def test_a_connection_that_breaks_while_the_engine_lives_is_no_death():
    async def scene() -> None:
        async def breaks(_: Ask, __: Sink) -> None:
            raise EngineBroke("reset")

        engine = Puppet(breaks)
        pool = await pool_of(engine)
        for _ in range(2):
            with pytest.raises(EngineBroke):
                await sent(pool, "good")
        assert len(engine.asked) > 3

    run(scene())


def test_an_answer_that_had_begun_counts_too():
    async def scene() -> None:
        class Midway(Mortal):
            async def answer(self, ask: Ask, sink: Sink) -> None:
                sink.take([Started("m"), TextDelta("half")])
                await super().answer(ask, sink)

        engine = Midway("a")
        pool = await pool_of(engine)
        async with watched(pool):
            with pytest.raises(EngineBroke):
                await sent(pool, "poison")  # half an answer cannot be taken back
            await poisoned(pool)  # the client's own second attempt is the last
            await poisoned(pool)
        assert len(engine.deaths) == 2

    run(scene())
