"""Many workers are one tap: one line, one budget of slots, one pace, whatever dies. Each promise has a control that
fails without what keeps it."""

import asyncio
import subprocess
import sys
from contextlib import nullcontext

import pytest

from standpipe.engines.scripted.script import Fault, FaultKind, Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.keeper import claim, desk, frames, messages
from standpipe.keeper.errand import key_of
from standpipe.keeper.keeper import SILENCE, Presence
from standpipe.policy.line import Line
from tests.keeper.rig import Tapped
from tests.serve.driver import Reply
from tests.virtual import run

SLOW = Script(slots=4, tokens=20, first=1, rate=2)
"""An answer of 10.5 seconds."""


class Late(Scripted):
    """An engine that notices a moment later that its client is gone; `most` is how much it had to do at a time."""

    def __init__(self, script, notices=0.2):
        super().__init__(script)
        self.notices, self.at_work = notices, 0

    async def answer(self, ask, sink):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        loop, done = asyncio.get_running_loop(), False
        try:
            await super().answer(ask, sink)
            done = True
        finally:
            loop.call_later(0 if done else self.notices, self._noticed)

    def _noticed(self):
        self.at_work -= 1


def tapped(*scripts, workers=2, engines=(), **settings):
    """Turn a coroutine function of a keeper with workers into a test."""

    def decorate(function):
        async def body():
            made = [make() for make in engines]
            async with Tapped(*scripts, workers=workers, engines=made, **settings) as tap:
                await function(tap)
                assert [line for line in tap.post.log.getvalue().splitlines() if "bug" in line] == []

        def test():
            run(body())

        test.__name__ = function.__name__
        return test

    return decorate


def asked(worker, number, **options):
    """One client's ask, on its way."""
    return asyncio.create_task(worker.ask(f"{number}", peer=f"10.0.{number}.1", **options))


async def after_death(tap, *, gone=0.2):
    """The keeper dies, and another one comes a little later."""
    await tap.post.kill()
    await asyncio.sleep(gone)
    await tap.begin(len(tap.workers))


def left(task):
    task.cancel()
    return task


# One line and one budget


@tapped(engines=[lambda: Late(SLOW)], pace_interval=0)
async def test_workers_share_one_line_and_one_budget_however_asks_are_spread(tap):
    first, second = tap.workers
    asks = [asked(first if i < 7 else second, i) for i in range(9)]
    await asyncio.sleep(1)
    statistics = tap.center.line.statistics()
    assert (statistics.running, statistics.waiting) == (4, 5)
    replies = await asyncio.gather(*asks)
    assert [reply.status for reply in replies] == [200] * 9
    assert tap.engines[0].most == 4
    granted = [round(reply.started_at) for reply in replies]
    assert granted == sorted(granted)


@tapped(SLOW, pace_interval=0)
async def test_one_worker_may_have_all_slots(tap):
    asks = [asked(tap.workers[1], i) for i in range(4)]
    await asyncio.sleep(2)
    assert tap.center.line.running == 4
    assert [reply.status for reply in await asyncio.gather(*asks)] == [200] * 4


@tapped(Script(tokens=2), pace_interval=10, pace_waiting=0)
async def test_a_client_has_one_pace_at_all_workers(tap):
    first, second = tap.workers
    assert (await first.ask()).status == 200
    assert (await second.ask()).status == 429
    assert (await second.send("GET", "/api/limits")).json["rate_limit"]["remaining"] == 0


@tapped(Script(tokens=2), pace_interval=10, pace_waiting=3)
async def test_what_cannot_be_read_counts_at_all_workers(tap):
    first, second = tap.workers
    for _ in range(4):
        assert (await first.send("POST", "/api", b"{")).status == 400
    await asyncio.sleep(1.1)
    assert (await second.send("POST", "/api", b"{")).status == 429


# The death of a worker


def dies(notices):
    @tapped(engines=[lambda: Late(SLOW)], pace_interval=0)
    async def scene(tap):
        first, second = tap.workers
        doomed = [asked(first, i) for i in range(4)]
        await asyncio.sleep(2)
        waiting = [asked(second, i) for i in range(4, 8)]
        await asyncio.sleep(1)
        first.link._transport.abort()
        first.link._dialling.cancel()
        for task in doomed:
            task.cancel()
        await asyncio.sleep(notices + 0.01)
        assert tap.center.line.running == 4
        replies = await asyncio.gather(*waiting)
        assert [reply.status for reply in replies] == [200] * 4
        assert {round(reply.started_at, 2) for reply in replies} == {round(3 + notices + 1, 2)}
        assert tap.engines[0].most == 4
        await asyncio.wait(doomed)

    return scene


def test_a_dead_workers_slots_are_free_when_its_engines_have_noticed():
    dies(desk.NOTICED)()


def test_freed_at_once_they_would_be_taken_twice(monkeypatch):
    monkeypatch.setattr(desk, "NOTICED", 0.0)
    with pytest.raises(AssertionError, match="== 4"):
        dies(0.0)()


@tapped(SLOW, Script(name="b", slots=1, tokens=2), pace_interval=0)
async def test_a_worker_that_comes_back_holds_nothing_twice(tap):
    asks = [asked(tap.workers[0], i) for i in range(5)]
    await asyncio.sleep(2)
    tap.workers[0].link._transport.abort()
    await asyncio.sleep(0.1)
    assert tap.center.line.running == 4
    assert [member.busy for member in tap.center.fleet.members] == [4, 0]
    assert [reply.status for reply in await asyncio.gather(*asks)] == [200] * 5
    await asyncio.sleep(0.1)
    assert tap.center.line.running == sum(member.busy for member in tap.center.fleet.members) == 0


# The death of the keeper


@tapped(engines=[lambda: Late(SLOW)], pace_interval=0)
async def test_when_the_keeper_dies_nothing_is_cut_or_refused_and_who_waits_keeps_place_and_age(tap):
    asks = [asked(tap.workers[i % 2], i) for i in range(10)]
    await asyncio.sleep(3)
    before = [place.number for place in waiting(tap)]
    await after_death(tap)
    late = asked(tap.workers[0], 20)
    await asyncio.sleep(0.5)
    after = waiting(tap)
    assert [place.number for place in after][:6] == before
    assert [round(asyncio.get_running_loop().time() - place.joined_at, 1) for place in after[:6]] == [3.7] * 6
    assert tap.center.line.running == 4
    replies = await asyncio.gather(*asks, late)
    assert [reply.status for reply in replies] == [200] * 11
    assert all(len(reply.text.split()) == 20 for reply in replies)
    assert [reply.end_kind for reply in replies] == ["end"] * 11
    assert replies[-1].started_at == max(reply.started_at for reply in replies)
    assert (tap.engines[0].most, tap.engines[0].asked) == (4, 11)


def waiting(tap):
    """Everybody in line, in order of number."""
    return sorted(tap.center.admission._waiting, key=lambda place: place.number)


@tapped(SLOW, pace_interval=0)
async def test_the_keeper_may_die_again_and_again(tap):
    asks = [asked(tap.workers[i % 2], i, stream=i % 3 > 0) for i in range(12)]
    for _ in range(8):
        await asyncio.sleep(3)
        await after_death(tap, gone=0.1)
    replies = await asyncio.gather(*asks)
    assert [reply.status for reply in replies] == [200] * 12
    await asyncio.sleep(0.1)
    statistics = tap.center.line.statistics()
    assert (statistics.running, statistics.waiting) == (0, 0)
    assert sum(member.busy for member in tap.center.fleet.members) == 0


@tapped(SLOW, pace_interval=30, pace_waiting=2)
async def test_a_pace_outlives_the_keeper(tap):
    ask = asked(tap.workers[0], 1)
    await asyncio.sleep(1)
    await after_death(tap)
    early = asked(tap.workers[0], 1, stream=False)
    await asyncio.sleep(1)
    assert [place.stage for place in waiting(tap)] == ["waiting"]
    assert (await early).started_at >= 30
    assert (await ask).status == 200


def test_without_what_the_worker_remembers_it_would_start_early():
    @tapped(SLOW, pace_interval=30, pace_waiting=2)
    async def scene(tap):
        ask = asked(tap.workers[0], 1)
        await asyncio.sleep(1)
        tap.workers[0].link.paces._tats.clear()
        await after_death(tap)
        early = asked(tap.workers[0], 1, stream=False)
        assert (await early).started_at >= 30
        await ask

    with pytest.raises(AssertionError, match=">= 30"):
        scene()


@tapped(SLOW, pace_interval=0)
async def test_a_retry_finds_its_place_although_the_keeper_has_died(tap):
    asks = [asked(tap.workers[0], i) for i in range(6)]
    await asyncio.sleep(1)
    (number,) = [place.number for place in waiting(tap)][:1]
    await asyncio.wait([left(asks[4])])
    await after_death(tap)
    await asyncio.sleep(0.4)
    again = asked(tap.workers[0], 4, headers={"x-stainless-retry-count": "1"})
    await asyncio.sleep(0.1)
    assert [place.number for place in waiting(tap)] == [number, number + 1]
    await asyncio.gather(again, *asks[:4], asks[5])


@tapped(SLOW, pace_interval=0, max_tokens=64)
async def test_debts_outlive_the_keeper(tap):
    """Who has had much does not come before who has had nothing, because nobody remembers."""
    first, second = tap.workers
    greedy = [asyncio.create_task(first.ask(f"g{i}", peer="10.1.1.1")) for i in range(7)]
    await asyncio.sleep(6)
    await after_death(tap)
    await asyncio.sleep(0.5)
    polite = asked(second, 7)
    await asyncio.wait([polite])
    assert sum(task.done() for task in greedy) <= 4
    await asyncio.gather(*greedy)


@tapped(SLOW, pace_interval=0)
async def test_secrets_outlive_the_keeper(tap):
    tap_secret, name = tap.post.keeper.tap, tap.center.hash_client("10.0.0.1")
    assert tap.workers[1].outpost.hash_client("10.0.0.1") == name
    await after_death(tap)
    await asyncio.sleep(0.5)
    assert (tap.post.keeper.tap, tap.center.hash_client("10.0.0.1")) == (tap_secret, name)


@tapped(SLOW, pace_interval=0)
async def test_another_keeper_takes_over_in_good_order(tap):
    asks = [asked(tap.workers[i % 2], i) for i in range(6)]
    await asyncio.sleep(2)
    former = tap.post
    await tap.begin(2)
    former.keeper.hand_over()
    await asyncio.sleep(0.2)
    assert (tap.center.line.running, len(waiting(tap))) == (4, 2)
    await former.__aexit__()
    assert [reply.status for reply in await asyncio.gather(*asks)] == [200] * 6


BREAKS = Script(slots=2, tokens=4, rate=2, fault=Fault(FaultKind.CUT, 1), faults=2)


@tapped(engines=[lambda: Late(BREAKS)], pace_interval=0)
async def test_who_goes_on_elsewhere_while_the_keeper_dies_goes_on(tap):
    asks = [asked(tap.workers[0], i, stream=False) for i in range(2)]
    await asyncio.sleep(0.52)
    await after_death(tap)
    assert [reply.status for reply in await asyncio.gather(*asks)] == [200] * 2


# What is charged


def charges(monkeypatch):
    """Tokens as they are charged to the line, and those of its asks whose slots are free again."""
    charged, released = [], []
    charge, release = Line.charge, Line.release

    def charging(line, queued, tokens, now):
        charged.append(tokens)
        charge(line, queued, tokens, now)

    def releasing(line, queued, now):
        released.append(queued.output_tokens)
        release(line, queued, now)

    monkeypatch.setattr(Line, "charge", charging)
    monkeypatch.setattr(Line, "release", releasing)
    return charged, released


@tapped(Script(slots=2, tokens=30, rate=7), pace_interval=0)
async def leaves_in_mid_stream(tap):
    replies = [Reply(), Reply()]
    tasks = [tap.workers[i].leaving(reply, stream=True) for i, reply in enumerate(replies)]
    await asyncio.sleep(2.03)
    await asyncio.wait([left(task) for task in tasks])
    await asyncio.sleep(0.01)
    tap.produced = sum(len(reply.text.split()) for reply in replies)
    assert tap.produced > 10
    assert tap.center.line.running == 0
    assert sum(tap.released) == tap.produced


@pytest.mark.parametrize("told", [True, False])
def test_all_that_was_sent_is_charged_before_the_slot_is_free(monkeypatch, told):
    charged, released = charges(monkeypatch)
    monkeypatch.setattr(Tapped, "released", released, raising=False)
    if not told:  # the control: the last tokens are not in the frame that frees the slot
        end = messages.End
        monkeypatch.setattr(claim.messages, "End", lambda number, _held=0, counted=0: end(number, 0, counted))
    with nullcontext() if told else pytest.raises(AssertionError):
        leaves_in_mid_stream()
    assert sum(charged) == sum(released)


# What is known of all


@tapped(Script(tokens=3), pace_interval=0)
async def test_the_status_is_the_whole_taps_whichever_worker_is_asked_and_never_falls(tap):
    for i in range(6):
        await tap.workers[i % 2].ask(peer=f"10.0.{i}.1")
    await asyncio.sleep(2)
    first, second = [(await worker.send("GET", "/api/status")).json for worker in tap.workers]
    assert first == second
    assert (first["hour"]["requests"], first["hour"]["answered"]) == (6, 6)
    assert b'standpipe_requests_total{dialect="api",status="200"} 6.0' in tap.center.metrics.page()
    await tap.workers[1].__aexit__()
    await asyncio.sleep(2)
    assert b'standpipe_requests_total{dialect="api",status="200"} 6.0' in tap.center.metrics.page()
    assert [presence for _, presence in tap.post.seen] == [Presence.CAME, Presence.CAME, Presence.LEFT]


@tapped(Script(tokens=3), pace_interval=0, keep_responses=600)
async def test_what_is_kept_is_found_at_any_worker(tap):
    first, second = tap.workers
    kept = (await first.send("POST", "/v1/responses", {"input": "hi", "store": True})).json["id"]
    await asyncio.sleep(0.1)
    assert (await second.send("GET", f"/v1/responses/{kept}")).json["id"] == kept
    assert (await second.send("GET", f"/v1/responses/{kept}", peer="192.0.2.9")).status == 404
    assert (await second.send("DELETE", f"/v1/responses/{kept}")).status == 200
    await asyncio.sleep(0.1)
    assert (await first.send("GET", f"/v1/responses/{kept}")).status == 404


@tapped(Script(text="echo"), pace_interval=0, hold_answers=60)
async def test_items_of_answers_are_found_at_any_worker_and_held_by_their_use_at_any(tap):
    first, second = tap.workers
    (item,) = (await first.send("POST", "/v1/responses", {"input": "hi"})).json["output"]
    told = {"input": [{"type": "item_reference", "id": item["id"]}, {"role": "user", "content": "on"}]}

    async def held(worker, **more):
        reply = await worker.send("POST", "/v1/responses", told, **more)
        assert reply.status == 200
        return reply.headers.get("x-standpipe-dropped") is None  # which names a note in its place

    for worker in (second, first, second, second):
        await asyncio.sleep(40)
        assert await held(worker)
    await asyncio.sleep(40)
    assert await held(first)
    assert not await held(second, peer="192.0.2.9")
    await asyncio.sleep(61)
    assert [await held(worker) for worker in tap.workers] == [False, False]


@tapped(Script(tokens=1), pace_interval=0)
async def test_what_a_worker_warns_of_is_told_by_all(tap):
    for _ in range(250):
        await tap.workers[0].send("GET", "/api/limits", headers={"x-forwarded-for": "198.51.100.7"})
    await asyncio.sleep(3)
    assert any("trusted_proxies" in warning for warning in (await tap.workers[1].send("GET", "/api")).json["warnings"])


@tapped(Script(tokens=3), pace_interval=0)
async def test_a_worker_that_hangs_is_told(tap):
    tap.workers[0].link.received = lambda _: None
    await asyncio.sleep(SILENCE + 2.5)
    assert Presence.HANGS in [presence for _, presence in tap.post.seen]
    assert "a worker hangs" in tap.post.log.getvalue()


def test_a_bug_in_what_is_told_ends_no_telling():
    async def body():
        async with Tapped(Script(tokens=3)) as tap:
            good = tap.post.keeper._face
            tap.post.keeper._face = lambda: 1 / 0
            await asyncio.sleep(1.5)
            tap.post.keeper._face = good
            await asyncio.sleep(1.5)
            assert "ZeroDivisionError" in tap.post.log.getvalue()
            assert (await tap.ask()).status == 200
            await asyncio.sleep(1.5)
            assert (await tap.send("GET", "/api/status")).json["hour"]["requests"] == 1

    run(body())


def test_a_single_process_loads_nothing_of_this():
    rooms = ("standpipe.keeper", "standpipe.workers", "standpipe.app.processes", "standpipe.app.outpost")
    program = f"import sys, standpipe.app.run; print([m for m in sys.modules if m.startswith({rooms})])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


# The wire


class Wire:
    """A worker of nothing but messages, at a keeper's desk."""

    def __init__(self, keeper):
        self.desk, self.said = desk.Desk(keeper), []
        self.desk.send = self.said.append
        keeper.desks.add(self.desk)
        self.say(messages.Hello(1, 1), messages.Ready())

    def say(self, *said):
        self.desk.data_received(frames.pack(said))

    def kinds(self):
        return [type(one).__name__ for one in self.said]


JOIN = messages.Join(1, messages.Client("10.0.0.1", "10.0.0.0/24"), 5, 9, 99, b"f" * 16, messages.Wish())


@tapped(Script(slots=1, tokens=3))
async def test_messages_that_cross_or_come_twice_change_nothing(tap):
    wire, line = Wire(tap.post.keeper), tap.center.line
    wire.say(JOIN, JOIN)
    assert wire.kinds().count("Granted") == line.running == 1
    wire.say(messages.End(1), messages.End(1), messages.Over(1, "answered"), messages.Charge([(1, 5)]))
    assert (line.running, tap.center.fleet.members[0].busy) == (0, 0)
    wire.say(messages.Look(7), messages.Swap(7, "busy", messages.Way()), messages.Seek(7, messages.Way()))
    wire.say(messages.Spoke(7), messages.End(7))
    again = messages.Join(2, JOIN.client, 5, 9, 99, b"g" * 16, messages.Wish(), age=3.0)
    again.stood = messages.Stood(number=9, eligible_in=-3.0, granted=2.0, output=4, engine="scripted")
    wire.say(again, again)
    assert (line.running, tap.center.fleet.members[0].busy) == (1, 1)
    wire.say(messages.End(2, 1, 5))
    assert (line.running, tap.center.fleet.members[0].busy) == (0, 0)
    tap.post.keeper.desks.discard(wire.desk)


@tapped(SLOW, pace_interval=10, pace_waiting=2)
async def test_an_instant_is_given_back_once(tap):
    """A refusal and a client that leaves may cross: both let go."""
    wire = Wire(tap.post.keeper)
    client, line = JOIN.client, tap.center.line
    wire.say(*(messages.Join(i, client, 5, 9, 99, bytes([i]) * 16, messages.Wish()) for i in (1, 2)))
    stay = wire.desk.errands[2]
    wire.say(messages.End(2))
    wire.say(messages.Join(3, client, 5, 9, 99, b"3" * 16, messages.Wish()))
    stay.end()
    wire.say(messages.Join(4, client, 5, 9, 99, b"4" * 16, messages.Wish()))
    instants = [place.eligible_at for place in line.asks(key_of(client))]
    assert instants == [pytest.approx(10, abs=0.5), pytest.approx(20, abs=0.5)]
    wire.say(*map(messages.End, (1, 3, 4)))
    tap.post.keeper.desks.discard(wire.desk)


@tapped(Script(tokens=3))
async def test_who_cannot_be_understood_is_cut_and_comes_back(tap):
    link = tap.workers[0].link
    link._transport.write(b"\x00\x00\x00\x01\xc1")
    await asyncio.sleep(0.2)
    assert "cannot be understood" in tap.post.log.getvalue()
    assert link.connected
    assert (await tap.ask()).status == 200


@tapped(Script(slots=1, tokens=4, rate=1))
async def test_a_grant_for_an_ask_that_has_left_is_given_back(tap):
    first = asked(tap.workers[0], 1)
    await asyncio.sleep(0.5)
    for i in range(2, 5):
        await asyncio.wait([left(asked(tap.workers[1], i))])
    await first
    await asyncio.sleep(0.1)
    assert (tap.center.line.running, tap.center.line.statistics().waiting) == (0, 0)
    tap.workers[0].link._take(messages.Granted(99, "scripted"))  # nobody here has this number
    await asyncio.sleep(0.1)
    assert (await tap.ask(peer="10.0.9.1")).status == 200


def test_it_works_on_the_loop_that_servers_use():
    uvloop = pytest.importorskip("uvloop")

    async def body():
        async with Tapped(Script(tokens=3)) as tap:
            assert (await tap.ask()).status == 200

    uvloop.run(body())
