"""Asks for models of different engines wait in lines of their own, each fair, and share what they share by turns."""

import asyncio

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
            statistics = it.app.admission.statistics()
            assert (statistics.waiting, statistics.running) == (19, 1)
            for task in many:
                task.cancel()
            await asyncio.gather(*many, return_exceptions=True)
            assert it.app.admission.statistics().running == it.app.admission.statistics().waiting == 0

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
