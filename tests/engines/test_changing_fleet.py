"""Engines come, go and change while asks run and wait for their next seat."""

from __future__ import annotations

import asyncio

import pytest

from standpipe.chat.errors import EngineBroke, EngineFailed
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.member import Member
from standpipe.engines.seats import Journey
from tests.engines.puppet import DONE, Puppet, answered, now, pool_of, raises, room, running, says, scripted, watched
from tests.virtual import run


async def joined(pool, engine):
    member = Member(engine)
    await member.refresh()
    pool.fleet.join(member)
    return member


def test_an_ask_that_waits_for_its_next_seat_gets_one_at_an_engine_that_joins() -> None:
    async def scene() -> None:
        broken = Puppet(raises(EngineFailed("broken", upstream_status=500)), "a")
        pool = await pool_of(broken, scripted("name=b&slots=1&rate=1&tokens=60"))
        pool.fleet.members[0].draining = True
        async with running(pool):
            pool.fleet.members[0].draining = False
            ask = asyncio.ensure_future(answered(pool))
            await asyncio.sleep(1)
            pool.fleet.drain(pool.fleet.members[0])
            assert not ask.done()
            await joined(pool, scripted("name=c&tokens=1"))
            report, _ = await ask
            assert (report.engine, now() < 5) == ("c", True)

    run(scene())


def test_an_engine_that_leaves_answers_what_it_has_and_is_closed_once() -> None:
    async def scene() -> None:
        async def slowly(_, sink) -> None:
            sink.take([Started(), TextDelta("a")])
            await asyncio.sleep(5)
            sink.take([TextDelta("b"), DONE])

        leaver = Puppet(slowly, "a")
        pool = await pool_of(leaver)
        async with watched(pool) as noticed:
            ask = asyncio.ensure_future(answered(pool))
            await asyncio.sleep(1)
            stayer = await joined(pool, Puppet(says(Started(), TextDelta("x"), DONE), "b", slots=2))
            member = pool.fleet.members[0]
            pool.fleet.leave(member)
            pool.fleet.leave(member)
            assert (room(pool), member.leaving is not None) == (2, True)
            assert (await answered(pool))[0].engine == "b"
            _, sink = await ask
            assert sink.answer.text == "ab"
            await asyncio.sleep(0)
            assert (pool.fleet.members, leaver.closed) == ((stayer,), 1)
            await asyncio.sleep(30)
            assert noticed == []
        await pool.fleet.close()
        assert leaver.closed == 1

    run(scene())


def test_an_ask_whose_engine_dies_while_it_leaves_goes_on_elsewhere() -> None:
    async def scene() -> None:
        async def dies(_, _sink) -> None:
            await asyncio.sleep(2)
            raise EngineBroke("gone")

        leaver = Puppet(dies, "a")
        pool = await pool_of(leaver)
        ask = asyncio.ensure_future(answered(pool))
        await asyncio.sleep(1)
        await joined(pool, scripted("name=b&tokens=1"))
        pool.fleet.leave(pool.fleet.members[0])
        report, _ = await ask
        assert (report.engine, report.attempts, leaver.closed) == ("b", 2, 1)

    run(scene())


def test_a_fleet_that_is_closed_lets_go_of_those_that_were_leaving_and_of_those_that_were_before() -> None:
    async def scene() -> None:
        engines = [Puppet(says(Started(), TextDelta("x"), DONE), name) for name in "abc"]
        pool = await pool_of(*engines[:2])
        async with running(pool), running(pool):
            pass
        member = pool.fleet.members[0]
        member.at_work[engines[0]] += 1
        fresh = Member(engines[2])
        await fresh.refresh()
        pool.fleet.change(member, fresh)
        member.busy += 1
        pool.fleet.leave(member)
        await asyncio.sleep(5)
        assert [engine.closed for engine in engines] == [0, 0, 0]
        await pool.fleet.close()
        assert [engine.closed for engine in engines] == [1, 1, 1]

    run(scene())


def test_an_engine_that_changes_is_probed_anew_and_believed_anew() -> None:
    class Sounded(Puppet):
        handling: Handling | None = None

        async def probe(self) -> Handling:
            self.handling = Handling.READS_ANYWAY
            return self.handling

    async def scene() -> None:
        former = Sounded(raises(EngineFailed("wrong key", upstream_status=401)), "a")
        pool = await pool_of(former, Puppet(says(Started(), TextDelta("x"), DONE), "b"))
        async with watched(pool) as noticed:
            await asyncio.sleep(1)
            for _ in range(12):
                await answered(pool)
            member = pool.fleet.members[0]
            fresh = Member(Sounded(says(Started(), TextDelta("x"), DONE), "a"))
            await fresh.refresh()
            pool.fleet.change(member, fresh)
            await asyncio.sleep(1.5)
            assert (former.closed, len(noticed)) == (1, 2)
            assert {(await answered(pool))[0].engine for _ in range(4)} == {"a", "b"}

    run(scene())


def test_what_an_engine_has_told_changes_with_it_and_what_runs_and_was_counted_stays() -> None:
    member, other = Member(Puppet(says(), "a")), Member(Puppet(says(), "b"))
    for name in vars(other):
        setattr(other, name, object())
    former = dict(vars(member))
    member.elsewhere = 3
    member.become(other)
    assert member.elsewhere == 0
    kept = {name for name, value in vars(member).items() if value is former[name]} - {"elsewhere"}
    assert kept == {
        "leaving", "at_work", "busy", "claim", "taken_at", "attempts", "answered", "failed", "outcomes", "fault",
        "_probing", "_empty", "_broke_at", "_broke_with",
    }  # fmt: skip


@pytest.mark.parametrize("wish", [{"model": "m"}, {"embeds": True}, {"shows": True}, {"least": 9}])
def test_what_an_ask_wants_is_wanted_by_one_alike(wish) -> None:
    journey, other = Journey(patience=1.0, fingerprint=b"x", **wish), Journey(**wish)
    alike = journey.alike()
    for name in set(Journey.__slots__) - {"report"}:
        assert getattr(alike, name) == getattr(other, name)
