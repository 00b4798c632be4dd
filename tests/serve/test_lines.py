"""Asks for models of different engines wait in lines of their own, each fair, and share what they share by turns."""

import asyncio

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from standpipe.engines.member import Member
from standpipe.engines.placed import Placed, Placement
from tests.serve.driver import Reply, Tap
from tests.serve.test_fleet import Moody
from tests.virtual import run


def engine(name, *models, **script):
    script = {"slots": 1, "first": 1.0, "rate": 0, "tokens": 1, "model": models[0]} | script
    return Placed(Moody(name, **script), Placement(models={model: model for model in models}))


async def crowd(tap, peers, model):
    tasks = [tap.leaving(Reply(), peer=peer, model=model, stream=False) for peer in peers]
    await asyncio.sleep(0)
    return tasks


def tap(*engines, **settings):
    return Tap(engines=engines, **{"pace_interval": 0, "queue_per_client": 100, "client_slots": 1} | settings)


def test_nobody_waits_for_the_engines_of_another_model():
    async def body():
        async with tap(engine("a", "m1"), engine("b", "m2", first=0.5)) as it:
            many = await crowd(it, [f"10.0.{n}.1" for n in range(20)], "m1")
            other = await it.ask(peer="10.1.0.1", model="m2", stream=False)
            assert other.json["model"] == "m2"
            assert float(other.headers["x-standpipe-waited"]) == 0
            statistics = it.center.admission.statistics()
            assert (statistics.waiting, statistics.running) == (19, 1)
            for task in many:
                task.cancel()
            await asyncio.gather(*many, return_exceptions=True)
            assert it.center.admission.statistics().running == it.center.admission.statistics().waiting == 0

    run(body())


def test_whoever_waits_for_a_model_is_fair_to_the_others_who_do():
    async def body():
        async with tap(engine("a", "m1"), engine("b", "m2")) as it:
            greedy = await crowd(it, ["10.0.0.1"] * 30, "m1")
            await asyncio.sleep(3.5)
            polite = await it.ask(peer="10.0.9.1", model="m1", stream=False)
            assert float(polite.headers["x-standpipe-waited"]) < 2
            for task in greedy:
                task.cancel()
            await asyncio.gather(*greedy, return_exceptions=True)

    run(body())


def test_two_lines_share_an_engine_by_turns():
    async def body():
        async with tap(engine("a", "m1", "m2"), engine("b", "m2")) as it:
            it.app.fleet.members[1].draining = True
            first = await crowd(it, [f"10.0.{n}.1" for n in range(10)], "m1")
            second = await crowd(it, [f"10.1.{n}.1" for n in range(10)], "m2")
            await asyncio.sleep(10.5)
            done = [sum(task.done() for task in tasks) for tasks in (first, second)]
            assert sum(done) == 10
            assert min(done) >= 4
            await asyncio.gather(*first, *second)

    run(body())


def test_a_client_sees_its_place_whatever_line_it_is_in():
    async def body():
        async with tap(engine("a", "m1"), engine("b", "m2")) as it:
            tasks = await crowd(it, ["10.0.0.1", "10.0.0.1", "10.0.0.1"], "m1")
            limits = await it.send("GET", "/api/limits", peer="10.0.0.1")
            assert [request["position"] for request in limits.json["requests"]] == [1, 2]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(body())


async def ended(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def join(tap, engine):
    member = Member(engine)
    await member.refresh()
    tap.app.fleet.join(member)
    return member


def test_who_waits_in_any_line_gets_the_slots_of_an_engine_that_joins():
    async def body():
        async with tap(engine("a", "m1", first=5.0), engine("b", "m2", first=5.0)) as it:
            crowds = [await crowd(it, [f"10.{n}.{i}.1" for i in range(4)], f"m{n}") for n in (1, 2)]
            await asyncio.sleep(1)
            await join(it, engine("c", "m1", "m2", slots=6, first=1.0))
            statistics = it.center.admission.statistics()
            assert (statistics.running, statistics.waiting) == (8, 0)
            await asyncio.sleep(1.5)
            assert [sum(task.done() for task in tasks) for tasks in crowds] == [3, 3]
            await ended(*crowds[0], *crowds[1])

    run(body())


def test_who_waits_for_an_engine_that_leaves_goes_on_in_another_line_in_the_same_order():
    async def body():
        async with tap(engine("a", "m1"), engine("b", "m1", "m2", slots=1)) as it:
            a, b = it.app.fleet.members
            done = []
            tasks = []
            for n in range(6):
                (task,) = await crowd(it, [f"10.0.{n}.1"], "m1" if n % 2 else "m2")
                task.add_done_callback(lambda _, n=n: done.append(n))
                tasks.append(task)
            it.app.fleet.leave(a)
            await asyncio.gather(*tasks)
            assert it.app.fleet.members == (b,)
            assert all(task.result().status == 200 for task in tasks)
            for model in (0, 1):
                assert [n for n in done if n % 2 == model] == [*range(model, 6, 2)]
            statistics = it.center.admission.statistics()
            assert (statistics.running, statistics.waiting, statistics.granted) == (0, 0, 6)
            it.app.fleet.join(Member(engine("c", "m1")))
            assert it.center.admission.statistics().granted == 6

    run(body())


def test_an_ask_whose_model_leaves_gets_the_default_or_where_names_are_strict_a_404():
    async def body(strict):
        async with tap(engine("a", "m1", first=5.0), engine("b", "m2"), strict_models=strict) as it:
            tasks = await crowd(it, ["10.0.0.1", "10.0.1.1", "10.0.2.1"], "m1")
            it.app.fleet.leave(it.app.fleet.members[0])
            replies = await asyncio.gather(*tasks)
            return [reply.status for reply in replies], [reply.json.get("model") for reply in replies]

    assert run(body(strict=True)) == ([200, 404, 404], ["m1", None, None])
    assert run(body(strict=False)) == ([200, 200, 200], ["m1", "m2", "m2"])


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "ask", "ask", "add", "drain", "resume", "leave", "hang up", "wait"]),
            st.integers(0, 1000),
        ),
        max_size=40,
    )
)
def test_the_fleet_may_change_in_any_way_at_any_time(steps):
    """No slot is lost, nobody is refused, nobody waits while an engine has room, and no answer is cut."""
    models = ("m1", "m2")

    async def body():
        async with tap(engine("e0", *models, slots=2), wait_limit=3600, streams=4096) as it:
            fleet, admission = it.app.fleet, it.center.admission
            every, tasks, left = list(fleet.members), [], []
            for step, n in steps:
                member = fleet.members[n % len(fleet.members)]
                match step:
                    case "ask":
                        tasks += await crowd(it, [f"10.0.{len(tasks) + len(left)}.1"], models[n % 2])
                    case "add":
                        offered = (models, models[:1], models[1:])[n % 3]
                        every.append(await join(it, engine(f"e{len(every)}", *offered, slots=1 + n % 3)))
                    case "drain":
                        fleet.drain(member)
                    case "resume":
                        fleet.resume(member)
                    case "leave" if any(not m.leaving for m in fleet.members if m is not member):
                        fleet.leave(member)
                    case "hang up" if tasks:
                        left.append(tasks.pop(n % len(tasks)))
                        left[-1].cancel()
                    case "wait":
                        await asyncio.sleep(n / 500)
                await asyncio.sleep(0.001)
                now = asyncio.get_running_loop().time()
                for members, line in admission.lines.in_turn():
                    assert not line.statistics().waiting or not any(member.room(now) for member in members)
                assert admission.lines.running == sum(member.busy for member in every)
            for member in fleet.members:
                fleet.resume(member)
            for model in models:
                await join(it, engine("last", model))
            replies = await asyncio.gather(*tasks)
            await asyncio.gather(*left, return_exceptions=True)
            assert [reply.status for reply in replies] == [200] * len(replies)
            assert all(member.busy == 0 for member in every)
            statistics = admission.statistics()
            assert (statistics.running, statistics.waiting) == (0, 0)

    run(body())
