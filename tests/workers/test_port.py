"""The port: connections through a keeper's port to workers' servers, all in one loop, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from standpipe.edge.config import EdgeConfig
from standpipe.edge.limiter import Verdict
from standpipe.edge.listen import open_tcp
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust
from standpipe.workers import port as port_module
from standpipe.workers import visits as visits_module
from standpipe.workers.channel import Channel, pair
from standpipe.workers.port import Closed, FromWorker, Port, Visit
from standpipe.workers.visits import Visits
from tests.edge.rig import GET, PATIENCE, Client, refuse, until
from tests.edge.test_behaviour import hello

LOCAL = Trust.parse(["127.0.0.0/8"])


class Worker:
    """A worker's server and its visits."""

    def __init__(self, handler, config, trust, *, proxied):
        self.server = Server(handler, refuse, config, trust, proxied=proxied)
        self.drained = asyncio.Event()
        self.visits = Visits(self.server.take, self.drained.set, self.server.statistics, id(self))
        self.lost = 0

    def attach(self, port):
        here, there = pair()
        port.attach(here)
        self.visits.attach(there, self._lose)

    def _lose(self):
        self.lost += 1

    def die(self):
        """As the kernel ends a process: its sockets are closed, and nobody is told anything."""
        self.visits.close()


class Rig:
    """Two to four workers behind one port."""

    def __init__(self, handler=hello, workers=3, config=None, trust=None, *, proxied=False):
        self.config, self.trust, self.proxied = config or EdgeConfig(), trust or Trust(), proxied
        self.workers = [Worker(handler, self.config, self.trust, proxied=proxied) for _ in range(workers)]
        self.clients = []

    async def __aenter__(self):
        (sock,) = open_tcp("127.0.0.1", 0)
        self.listening = sock
        self.number = sock.getsockname()[1]
        self.open(len(self.workers))
        for worker in self.workers:
            worker.attach(self.port)
        return self

    def open(self, wanted):
        """A keeper opens its port; it has the listening socket from the supervisor, as any other has."""
        self.port = Port(self.config, self.trust, proxied=self.proxied)
        self.port.start([self.listening.dup()], wanted)

    async def __aexit__(self, *_):
        for client in self.clients:
            client.leave()
        for worker in self.workers:
            await worker.server.abort()
            worker.visits.close()
        self.port.close()
        self.listening.close()

    async def connect(self, source="127.0.0.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, local_addr=(source, 0))
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def status(self, source="127.0.0.1"):
        """What one more connection is answered; None if it is cut."""
        client = await self.connect(source)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            return (await client.ask(GET)).status
        return None

    @property
    def open_visits(self):
        return [len(worker.visits) for worker in self.workers]


def play(scene, **options):
    async def run():
        async with asyncio.timeout(PATIENCE), Rig(**options) as rig:
            return await scene(rig)

    return asyncio.run(run())


def test_every_worker_gets_its_share_of_the_connections():
    async def scene(rig):
        for _ in range(30):
            assert await rig.status() == 200
        assert rig.open_visits == [10, 10, 10]
        for client in rig.clients[:15]:
            client.leave()
        await until(lambda: sum(rig.open_visits) == 15)
        await until(lambda: sum(rig.port.workers) == 15)
        for _ in range(15):
            assert await rig.status() == 200
        assert rig.open_visits == [10, 10, 10]

    play(scene, config=EdgeConfig(connections_per_client=100))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_clients_cap_is_exact_however_many_workers_there_are(workers):
    async def scene(rig):
        assert [await rig.status() for _ in range(9)] == [*[200] * 8, 429]
        rig.clients[0].leave()
        await until(lambda: rig.port.limiter.total == 8)

    play(scene, workers=workers, config=EdgeConfig(connections_per_client=8))


def test_the_cap_of_all_is_exact_and_those_above_are_told_or_cut():
    async def scene(rig):
        statuses = [await rig.status(f"127.0.{n}.1") for n in range(9)]
        assert statuses == [*[200] * 6, 503, None, None]

    play(scene, config=EdgeConfig(connections=6))


async def answers_at_leave(request, reply):
    """Whole requests whose answers take for ever, but for GET."""
    if request.method == "GET":
        await hello(request, reply)
    else:
        await asyncio.Event().wait()


def test_a_neighbours_idle_connection_gives_way_in_another_worker():
    async def scene(rig):
        for _ in range(4):
            assert await rig.status("127.0.0.1") == 200
        assert await rig.status("127.0.0.2") == 200
        assert rig.port.limiter.displaced == 1
        assert await rig.clients[0].rest() == b""  # the oldest of who has most
        await until(lambda: sum(rig.open_visits) == 4)
        assert rig.port.limiter.total == 4

    play(scene, config=EdgeConfig(connections_per_block=4, connections_per_client=4))


def test_who_is_being_answered_does_not_give_way_and_the_newcomer_is_told():
    async def scene(rig):
        for _ in range(4):
            client = await rig.connect("127.0.0.1")
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await until(lambda: sum(worker.server.statistics().requests for worker in rig.workers) == 4)
        assert await rig.status("127.0.0.2") == 429
        assert sum(rig.open_visits) == 5  # the refused one lingers
        assert rig.port.limiter.displaced == 0

    play(scene, handler=answers_at_leave, config=EdgeConfig(connections_per_block=4, connections_per_client=4))


def test_the_next_keeper_knows_every_open_connection_before_it_accepts_anybody():
    async def scene(rig):
        for _ in range(7):
            assert await rig.status() == 200
        rig.port.close()
        await until(lambda: all(worker.lost for worker in rig.workers))
        waiting = asyncio.ensure_future(rig.status("127.0.1.1"))  # nobody accepts now: the kernel keeps it
        assert (await rig.clients[0].ask(GET)).status == 200  # who is in is served on
        rig.clients[1].leave()
        await until(lambda: sum(rig.open_visits) == 6)
        rig.open(3)
        for worker in rig.workers[:2]:
            worker.attach(rig.port)
        await until(lambda: sum(rig.port.workers) > 0)
        assert not waiting.done()
        rig.workers[2].attach(rig.port)
        assert await waiting == 200
        assert rig.port.limiter.total == 7
        assert [await rig.status() for _ in range(3)] == [200, 200, 429]

    play(scene, config=EdgeConfig(connections_per_client=8))


def test_a_keeper_does_not_wait_for_a_worker_that_never_comes(monkeypatch):
    monkeypatch.setattr(port_module, "PATIENCE", 0.02)

    async def scene(rig):
        rig.port.close()
        rig.open(9)
        rig.workers[0].attach(rig.port)
        assert await rig.status() == 200

    play(scene)


def test_thousands_of_visits_are_told_in_several_messages():
    async def scene(rig):
        (worker,) = rig.workers
        for number in range(1000):
            worker.visits._open[number] = worker.visits._open.get(number) or Fake(
                f"10.0.{number // 250}.{number % 250}"
            )
        rig.port.close()
        rig.open(1)
        worker.attach(rig.port)
        await until(lambda: rig.port.workers == (1000,))
        assert rig.port.limiter.total == 1000
        worker.visits._open.clear()

    class Fake:
        def __init__(self, peer):
            self.peer = peer

    play(scene, workers=1)


def test_a_worker_that_dies_frees_what_its_connections_counted_for():
    async def scene(rig):
        assert [await rig.status() for _ in range(7)] == [*[200] * 6, 429]
        rig.workers[0].die()
        await until(lambda: len(rig.port.workers) == 2)
        assert [await rig.status() for _ in range(2)] == [200, 200]

    play(scene, config=EdgeConfig(connections_per_client=6))


def test_without_any_worker_connections_wait_for_one():
    async def scene(rig):
        for worker in rig.workers:
            worker.die()
        await until(lambda: rig.port.workers == ())
        waiting = [asyncio.ensure_future(rig.status()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        rig.workers[0].attach(rig.port)
        assert await asyncio.gather(*waiting) == [200, 200, 200]

    play(scene)


def test_a_leaving_worker_gets_no_more_and_serves_those_it_has():
    async def scene(rig):
        assert await rig.status() == 200
        at = next(n for n, worker in enumerate(rig.workers) if len(worker.visits))
        rig.workers[at].visits.leave()
        await asyncio.sleep(0.01)
        for _ in range(6):
            assert await rig.status() == 200
        assert rig.open_visits[at] == 1
        assert sorted(rig.open_visits) == [1, 3, 3]
        assert (await rig.clients[0].ask(GET)).status == 200

    play(scene)


def test_a_worker_that_does_not_read_gets_no_more_while_others_do():
    async def scene(rig):
        stuck = rig.workers[0].visits._channel
        asyncio.get_running_loop().remove_reader(stuck._socket)
        rig.port._workers[0].visits.update({-n: Lease() for n in range(1)})
        statuses = []
        for _ in range(60):
            client = await rig.connect()
            statuses.append(client)
        # Those that went to the stuck one wait; everybody else is served.
        served = [asyncio.ensure_future(client.ask(GET)) for client in statuses]
        await until(lambda: sum(task.done() for task in served) >= 40)
        asyncio.get_running_loop().add_reader(stuck._socket, stuck._read)
        assert {answer.status for answer in await asyncio.gather(*served)} == {200}
        rig.port._workers[0].visits.pop(0, None)

    class Lease:
        def release(self):
            pass

    play(scene, config=EdgeConfig(connections_per_client=100))


# A proxy in front


V1 = b"PROXY TCP4 %s 192.0.2.99 1234 80\r\n"


def test_a_proxys_connections_count_for_its_clients_exactly():
    async def scene(rig):
        async def status(address):
            client = await rig.connect()
            client.send(V1 % address)
            return (await client.ask(GET)).status

        assert [await status(b"198.51.100.1") for _ in range(4)] == [200, 200, 200, 429]
        assert await status(b"198.51.100.2") == 200

    play(scene, proxied=True, trust=LOCAL, config=EdgeConfig(connections_per_client=3))


def test_a_header_in_pieces_is_read_and_what_is_none_is_refused_by_a_worker():
    async def scene(rig):
        client = await rig.connect()
        for byte in V1 % b"198.51.100.1":
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.ask(GET)).status == 200
        stranger = await rig.connect()
        assert (await stranger.ask(GET)).status == 400
        silent = await rig.connect()
        assert await silent.rest() == b""

    play(scene, proxied=True, trust=LOCAL, config=EdgeConfig(first_byte_timeout=0.2))


def test_a_drain_passes_on_who_is_at_the_door_and_tells_the_workers():
    async def scene(rig):
        rig.port._acceptor.hold()
        waiting = [await rig.connect() for _ in range(6)]
        rig.port.drain()
        for worker in rig.workers:
            await worker.drained.wait()
            worker.server.begin_drain()
        for client in waiting:
            assert (await client.ask(GET)).status == 200
            assert await client.rest() == b""

    play(scene)


def test_counts_are_those_of_all_workers_and_never_fall(monkeypatch):
    monkeypatch.setattr(visits_module, "_COUNTED", 0.01)

    async def scene(rig):
        for _ in range(6):
            assert await rig.status() == 200
        rig.clients[0].send(b"NONSENSE\r\n\r\n")
        await rig.clients[0].answer()
        await until(lambda: rig.port.statistics().requests == 6)
        await until(lambda: rig.port.statistics().rejected == {400: 1})
        assert sum(rig.port.statistics().phases.values()) == 6
        for worker in rig.workers[:2]:
            worker.die()
        await until(lambda: len(rig.port.workers) == 1)
        assert rig.port.statistics().requests == 6
        assert rig.port.statistics().rejected == {400: 1}
        assert rig.port.statistics().connections == 2

    play(scene)


def test_a_visit_whose_descriptor_was_lost_is_over():
    async def run():
        here, there = pair()
        said = []
        keeper = Channel(here, FromWorker, lambda message, _: said.append(message), lambda: None)
        visits = Visits(lambda *_: None, lambda: None)
        visits.attach(there, lambda: None)
        keeper.send(Visit(7, "192.0.2.1", Verdict.ADMIT, trusted=False))  # as the kernel tells it without one to spare
        await until(lambda: Closed([7]) in said)
        visits.close()
        keeper.close()

    asyncio.run(run())


def test_counts_outlive_a_keeper_and_workers_that_end_with_it(monkeypatch):
    monkeypatch.setattr(visits_module, "_COUNTED", 0.01)

    async def scene(rig):
        for _ in range(6):
            assert await rig.status() == 200
        await until(lambda: rig.port.statistics().requests == 6)
        counted = rig.port.counted
        rig.port.close()
        rig.workers[0].die()
        await until(lambda: all(worker.lost for worker in rig.workers[1:]))
        rig.open(2)
        rig.port.counted = counted
        assert rig.port.statistics().requests == 6

    play(scene)


def test_a_worker_that_says_nothing_comes_last():
    async def scene(rig):
        await until(lambda: all(worker.told and worker.counts.pid for worker in rig.port._workers))
        rig.port._workers[0].heard -= 10
        for _ in range(6):
            assert await rig.status() == 200
        assert rig.open_visits == [0, 3, 3]

    play(scene)


def test_a_message_of_a_newer_version_is_skipped():
    async def scene():
        here, there = pair()
        heard = []
        channel = Channel(here, FromWorker, lambda message, _: heard.append(message), lambda: None)
        there.setblocking(False)
        from msgspec import msgpack

        for message in (["zz", 1, 2], ["k", 7, "and a field that came later"], ["k"], 5):
            there.send(msgpack.encode(message))
        await until(lambda: heard)
        assert [message.number for message in heard] == [7]
        channel.close()
        there.close()

    asyncio.run(scene())
