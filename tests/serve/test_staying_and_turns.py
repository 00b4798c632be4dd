"""That conversations stay at their engines changes who answers, and nobody's turn."""

from __future__ import annotations

import asyncio
from random import Random

from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Tap
from tests.virtual import run

CLIENTS, ENGINES, TURNS = 12, 3, 6


class Noted(Scripted):
    """Notes whose conversation it answers."""

    def __init__(self, name: str) -> None:
        super().__init__(Script(name=name, slots=2, first=0.25, rate=8, tokens=8))
        self.conversations: list[str] = []

    async def answer(self, ask, sink):
        self.conversations.append(ask.messages[0].text)
        await super().answer(ask, sink)


async def crowd(seed, slack):
    """Clients with a conversation each, more than there are slots. Gives the grants in order, and how often somebody
    came back to the engine of the turn before."""
    engines = [Noted(name) for name in "abc"[:ENGINES]]
    random = Random(seed)
    pauses = [[random.choice((0.25, 1.0, 3.0)) for _ in range(TURNS)] for _ in range(CLIENTS)]
    sizes = [random.randrange(1, 2000) for _ in range(CLIENTS)]
    grants, homes, stayed, waited = [], {}, 0, []
    async with Tap(engines=engines, pace_interval=0, affinity_slack=slack, log_level="error") as tap:
        after = tap.center.line.next

        def noted(now):
            if (place := after(now)) is not None:
                grants.append((now, place.client))
            return place

        tap.center.line.next = noted

        async def client(number):
            nonlocal stayed
            said = [{"role": "user", "content": f"{number} " + "x" * sizes[number]}]
            for pause in pauses[number]:
                await asyncio.sleep(pause)
                reply = await tap.ask(peer=f"10.0.{number}.1", messages=said, stream=False)
                assert reply.status == 200
                waited.append(float(reply.headers["x-standpipe-waited"]))
                home = next(engine for engine in engines if said[0]["content"] in engine.conversations)
                home.conversations.remove(said[0]["content"])
                stayed += homes.get(number) is home
                homes[number] = home
                said += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And?"}]

        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(client(number))
    assert sum(wait > 0 for wait in waited) > 10, "nobody waited"
    return grants, stayed


def test_the_order_of_turns_is_the_same_with_and_without():
    came_back = 0
    for seed in range(3):
        without, strayed = run(crowd(seed, 0.0))
        grants, stayed = run(crowd(seed, 1.0))
        assert len(grants) == CLIENTS * TURNS
        assert grants == without
        came_back += stayed - strayed
    assert came_back > 0, "nothing was tried"
