"""A whole server before a fleet in which one engine misbehaves: nobody is refused, and nothing fails before its first
token, while the others have room for the load."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from standpipe.chat.errors import EngineBroke, EngineDown, EngineFailed, InvalidAsk
from standpipe.chat.events import Finished, FinishReason, Started, TextDelta, Usage
from standpipe.engines.engine import Health
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Tap, scene
from tests.virtual import run

CLIENTS = 40
SLOTS = 24
SECONDS = 10.0


class Moody(Scripted):
    """An engine that can be spoilt while it runs. `mood` is what its asks end in; None is a good one."""

    def __init__(self, name: str, **script) -> None:
        script = {"slots": SLOTS, "first": 0.3, "rate": 5, "tokens": 5} | script
        super().__init__(Script(name=name, **script))
        self.mood = None
        self.away = False
        self.died = asyncio.Event()

    def kill(self) -> None:
        self.away = True
        self.died.set()

    def start(self) -> None:
        self.away, self.died = False, asyncio.Event()

    async def answer(self, ask, sink):
        if self.away:
            raise EngineDown("The engine cannot be reached.")
        if self.mood is not None:
            self.asked += 1
            await self.mood()
        answering = asyncio.ensure_future(super().answer(ask, sink))
        dying = asyncio.ensure_future(self.died.wait())
        try:
            await asyncio.wait((answering, dying), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise EngineBroke("The engine broke off.")
            await answering
        finally:
            for task in (answering, dying):
                task.cancel()
            await asyncio.wait((answering, dying))

    async def health(self):
        return Health(up=not self.away, reason="The engine cannot be reached." if self.away else None)


def fails(failure, after=0.0):
    async def mood():
        await asyncio.sleep(after)
        raise failure

    return mood


async def hang():
    await asyncio.sleep(1e6)


def fleet(*engines, **settings):
    """Turn a coroutine function of a tap before these engines into a test."""

    def decorate(function):
        async def body():
            made = [engine() for engine in engines]
            tap = Tap(engines=made, **{"pace_interval": 0} | settings)
            async with tap:
                await function(tap, *made)

        def test():
            run(body())

        test.__name__ = getattr(function, "__name__", "")
        return test

    return decorate


async def crowd(tap, seconds=SECONDS):
    """Clients that ask one after the other for a while. Gives how each ask ended: 200, another status, or `cut`."""
    loop = asyncio.get_running_loop()
    outcomes, waits = Counter(), []
    over = loop.time() + seconds

    async def client(number):
        await asyncio.sleep(number * 0.01)
        while loop.time() < over:
            begun = loop.time()
            reply = await tap.ask(peer=f"10.0.{number}.1")
            whole = reply.status == 200 and reply.end_kind == "end"
            cut = reply.status == 200 and not whole and bool(reply.text)
            outcomes["cut" if cut else reply.status if reply.status != 200 or whole else "failed"] += 1
            waits.extend(at - begun for at, data in reply.writes[:1] if whole and b'"content"' in data)

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number))
    return outcomes, sorted(waits)


def p99(waits):
    return waits[len(waits) * 99 // 100]


THREE = [lambda name=name: Moody(name) for name in "abc"]


@pytest.mark.parametrize(
    "mood",
    [
        *(fails(EngineFailed("no", upstream_status=status)) for status in (401, 404, 500, 502)),
        *(fails(EngineFailed("busy", upstream_status=status, retry_after=seconds))
          for status in (429, 503) for seconds in (None, 5.0, 1e6)),
        fails(EngineFailed("unreadable")),
        fails(EngineBroke("reset"), after=0.1),
        fails(InvalidAsk("It refuses everything.")),
        fails(EngineDown("loading")),
    ],
)  # fmt: skip
def test_with_one_of_three_spoilt_no_ask_is_refused_and_none_fails(mood):
    @fleet(*THREE)
    async def check(tap, spoilt, *_):
        spoilt.mood = mood
        outcomes, waits = await crowd(tap)
        assert set(outcomes) == {200}
        assert outcomes[200] > 200
        assert p99(waits) <= 2 * 0.3
        assert spoilt.asked < 60
        assert tap.center.line.statistics().running == tap.app.fleet.statistics().busy == 0

    check()


@pytest.mark.parametrize("away", [2, 15])
def test_an_engine_that_is_killed_cuts_what_it_had_begun_and_no_more_and_has_its_share_ten_seconds_after_it_is_back(
    away,
):
    fleet(*THREE)(partial(killed, away))()


async def killed(away, tap, victim, *others):
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(crowd(tap, 50.0))
        await asyncio.sleep(5)
        running = victim.busy
        victim.kill()
        await asyncio.sleep(away)
        before = victim.asked
        victim.start()
        await asyncio.sleep(10)
        shares = [engine.asked for engine in (victim, *others)]
        await asyncio.sleep(20)
        shares = [engine.asked - share for engine, share in zip((victim, *others), shares, strict=True)]
    outcomes, _ = asking.result()
    assert set(outcomes) <= {200, "cut"}
    assert outcomes["cut"] <= running
    assert victim.asked > before
    assert min(shares) > 0.9 * max(shares)
    told = [line["event"] for line in tap.lines if line.get("engine") == "a" and line["event"].startswith("engine is")]
    assert told == ["engine is down", "engine is up again"]


@fleet(*THREE, first_token_timeout=20)
async def test_a_stopped_engine_holds_only_what_it_had(tap, stopped, *_):
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(crowd(tap, 40.0))
        await asyncio.sleep(5)
        stopped.mood = hang
        before = stopped.asked
        await asyncio.sleep(1)
        stopped.away = True  # as its health, which does not come
        await asyncio.sleep(30)
        assert stopped.asked - before <= SLOTS
    assert set(asking.result()[0]) == {200}


@fleet(*THREE)
async def test_a_slow_engine_does_not_drag_the_rest(tap, slow, *_):
    async def late():
        await asyncio.sleep(6)

    slow.mood = late
    outcomes, waits = await crowd(tap)
    assert set(outcomes) == {200}
    assert waits[len(waits) * 9 // 10] < 2 * 0.3
    assert outcomes[200] > 200


@fleet(*THREE)
async def test_equal_engines_are_given_equal_shares(tap, *engines):
    await crowd(tap)
    asked = [engine.asked for engine in engines]
    assert min(asked) > 0.9 * max(asked)


@fleet(lambda: Moody("a", slots=4, first=0.05), lambda: Moody("b", slots=8))
async def test_slots_of_an_engine_that_is_not_there_are_granted_to_nobody(tap, *engines):
    """Of 12 that came at once, 7 were refused with 503."""
    engines[1].kill()
    replies = await asyncio.gather(*(tap.ask(peer=f"10.0.{n}.1", stream=False) for n in range(12)))
    assert [reply.status for reply in replies] == [200] * 12
    assert max(float(reply.headers["x-standpipe-waited"]) for reply in replies) > 1.5
    assert tap.center.line.slots == 4


@fleet(lambda: Moody("a"), lambda: Moody("b"))
async def test_the_slots_of_the_line_follow_the_engines_at_once_both_ways(tap, engine, *others):
    assert tap.center.line.slots == 2 * SLOTS
    engine.kill()
    await asyncio.gather(*(tap.ask(peer=f"10.0.{n}.1") for n in range(2)))
    assert tap.center.line.slots == SLOTS
    engine.start()
    await asyncio.sleep(1.5)
    await asyncio.gather(*(tap.ask(peer=f"10.0.{n}.1") for n in range(8)))
    await asyncio.gather(*(tap.ask(peer=f"10.0.{n}.1") for n in range(2)))
    assert tap.center.line.slots > SLOTS


@fleet(lambda: Moody("a", slots=1), wait_limit=30)
async def test_an_engine_that_loads_its_model_is_waited_for_with_a_place_and_then_it_is_a_503(tap, loading):
    loading.kill()
    soon = asyncio.create_task(tap.ask(peer="10.0.1.1"))
    await asyncio.sleep(20)
    loading.start()
    assert (await soon).status == 200
    assert [frame["queue"]["position"] for frame in soon.result().frames[:1]] == [1]
    loading.kill()
    reply = await tap.ask(peer="10.0.2.1", stream=False)
    assert (reply.status, reply.json["error"]["code"]) == (503, "no_engine")
    assert int(reply.headers["retry-after"]) >= 5
    assert float(reply.headers["x-standpipe-waited"]) == pytest.approx(30, abs=0.1)
    begun = asyncio.get_running_loop().time()
    await asyncio.sleep(1)
    reply = await tap.ask(peer="10.0.3.1", stream=False)
    assert (reply.status, asyncio.get_running_loop().time() - begun) == (503, 1)


@fleet(lambda: Moody("a", slots=1), wait_limit=30)
async def test_who_cannot_be_served_before_the_limit_is_told_so_at_once(tap, busy):
    busy.mood = fails(EngineFailed("busy", upstream_status=429, retry_after=50.0))
    first = asyncio.create_task(tap.ask(peer="10.0.1.1", stream=False))
    await asyncio.sleep(1)
    reply = await tap.ask(peer="10.0.2.1", stream=False)
    assert (reply.status, reply.json["error"]["code"]) == (503, "wait_too_long")
    assert asyncio.get_running_loop().time() == 1
    assert int(reply.headers["retry-after"]) >= 19
    busy.mood = None
    await asyncio.sleep(20)
    patient = await tap.ask(peer="10.0.3.1")  # 29 s are left
    assert patient.status == 200
    assert patient.frames[0]["queue"] == {"position": 1, "eta_seconds": None}
    assert (await first).status == 503  # it was there too early


@scene(Script(slots=1, tokens=2))
async def test_a_probe_takes_nothing_that_an_ask_could_use(tap):
    """17.6 s were seen before the first ask of an engine with one slot."""
    probes = []

    class Probing:
        handling = None

        def __getattr__(self, name):
            return getattr(tap.engines[0], name)

        async def probe(self):
            probes.append(asyncio.get_running_loop().time())
            await asyncio.sleep(17.6)
            return Handling.SPELLS

    tap.app.fleet.members[0].engine = Probing()
    await asyncio.sleep(1)
    assert (await tap.ask(stream=False)).headers["x-standpipe-waited"] == "0.000"
    assert asyncio.get_running_loop().time() == 1
    await asyncio.sleep(60)
    assert probes == [0, 1]


class Continuing(Moody):
    """One that goes on with what another one has begun."""

    def continues(self, _, __):
        return True

    async def answer(self, ask, sink):
        if ask.begun is None:
            await super().answer(ask, sink)
        else:
            sink.take(
                [Started(), TextDelta(f" [behind {len(ask.begun.text)}]"), Finished(FinishReason.STOP, Usage(9, 4))]
            )


@pytest.mark.parametrize("continue_streams", [True, False])
def test_a_stream_goes_on_and_that_is_told(continue_streams):
    engines = [partial(Continuing, "dies", slots=9, tokens=50), partial(Continuing, "goes on", slots=1)]

    @fleet(*engines, continue_streams=continue_streams)
    async def dying(tap, dies, _):
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(tap.ask(stream=True))
            await asyncio.sleep(2)
            dies.kill()
        reply = asking.result()
        assert (reply.end_kind == "end") is continue_streams
        assert reply.text.endswith("]") is continue_streams
        assert tap.asks[0].get("continued", 0) == continue_streams
        assert (b"standpipe_continued_total 1.0" in tap.center.metrics.page()) is continue_streams

    dying()
