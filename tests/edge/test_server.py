"""The server as a whole: TLS, UNIX sockets, shared and passed sockets, and a system without descriptors."""

from __future__ import annotations

import asyncio
import errno
import resource
import shutil
import socket
import ssl
from pathlib import Path

import pytest
import uvloop

from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import ListenError, Tls, inherited, local_only, open_tcp, open_unix, raise_descriptors
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust
from tests.edge.rig import GET, Client, post, refuse, run, until

PEM = Path(__file__).parent / "tls"
FIRST = Tls(PEM / "first.crt", PEM / "first.key")


async def who(request, reply):
    peer = str(request.peer).encode()
    reply.start(200, [])
    reply.write(peer)
    reply.end()


def trusting(name):
    context = ssl.create_default_context(cafile=str(PEM / f"{name}.crt"))
    return {"ssl": context, "server_hostname": f"{name}.test"}


# TLS


def test_requests_travel_over_tls(loop):
    async def scene(rig):
        client = await rig.connect(**trusting("first"))
        for _ in range(3):
            assert (await client.ask(GET)).body == b"127.0.0.1"
        assert client.writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}

    run(loop, who, scene, tls=FIRST)


def test_a_certificate_is_renewed_without_a_restart(loop, tmp_path):
    tls = Tls(tmp_path / "crt", tmp_path / "key")

    def install(certificate, key):
        shutil.copy(PEM / f"{certificate}.crt", tls.certificate)
        shutil.copy(PEM / f"{key}.key", tls.key)

    async def scene(rig):
        before = await rig.connect(**trusting("first"))
        assert (await before.ask(GET)).status == 200
        install("second", "first")
        with pytest.raises(ListenError, match="cannot use the certificate"):
            rig.server.reload_tls()
        assert (await (await rig.connect(**trusting("first"))).ask(GET)).status == 200
        install("second", "second")
        rig.server.reload_tls()
        assert (await (await rig.connect(**trusting("second"))).ask(GET)).status == 200
        assert (await before.ask(GET)).status == 200

    install("first", "first")
    run(loop, who, scene, tls=tls)


def test_whoever_does_not_finish_a_handshake_is_cut_and_forgotten(loop):
    async def scene(rig):
        silent, plain = await rig.connect(), await rig.connect()
        plain.send(GET)
        await until(lambda: rig.server.limiter.total == 2)
        await silent.rest()
        await plain.rest()
        await until(lambda: rig.server.limiter.total == 0)

    run(loop, who, scene, tls=FIRST, config=EdgeConfig(header_timeout=0.04))


def test_handshakes_count_for_their_client(loop):
    async def scene(rig):
        for _ in range(5):
            await rig.connect()
        cut = await rig.connect()
        assert await cut.rest() == b""
        assert rig.server.limiter.total == 5

    run(loop, who, scene, tls=FIRST, config=EdgeConfig(connections_per_client=4))


def test_half_an_answer_until_close_is_not_whole_over_tls(loop):
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"half")

    async def scene(rig):
        client = await rig.connect(**trusting("first"))
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionError):
            assert await client.reader.read() == b"an error"

    run(loop, handler, scene, tls=FIRST, config=EdgeConfig(linger=0.02))


@pytest.mark.parametrize("name", ["no/such.crt", "first.key"])
def test_a_bad_certificate_is_an_error_that_names_it(name):
    with pytest.raises(ListenError, match=name):
        Tls(PEM / name, PEM / "first.key").context()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        (("-tls1_3",), True),
        (("-tls1_2", "-cipher", "ECDHE+AESGCM"), True),
        (("-tls1_2", "-cipher", "ECDHE+CHACHA20"), True),
        (("-tls1_2", "-cipher", "ECDHE+AES:!AESGCM:!AESCCM"), False),  # CBC
        (("-tls1_2", "-cipher", "AESGCM:!ECDHE:!DHE"), False),  # no forward secrecy
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), False),
    ],
)
def test_tls_speaks_authenticated_encryption_with_forward_secrecy_alone(loop, offer, taken):
    async def scene(rig):
        command = ("openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{rig.port}", *offer)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        _, said = await process.communicate(b"")
        assert (b"CONNECTION ESTABLISHED" in said) is taken

    run(loop, who, scene, tls=FIRST)


def test_idle_connections_make_room_for_a_neighbour(loop):
    async def scene(rig):
        async def connect(n):
            return await rig.connect(local_addr=(f"127.0.0.{n}", 0))

        heavy = [await connect(2) for _ in range(4)]
        for client in heavy:
            await client.ask(GET)
        busy = await connect(3)
        busy.send(GET[:-2])
        await busy.ask(b"\r\n")
        newcomer = await connect(4)
        assert (await newcomer.ask(GET)).status == 200
        assert await heavy[0].rest() == b""
        assert (await heavy[1].ask(GET)).status == 200
        assert rig.server.statistics().displaced == 1
        assert rig.server.limiter.total == 5

    run(loop, who, scene, config=EdgeConfig(connections_per_client=4, connections_per_block=5))


def test_bodies_that_never_end_make_room_for_all_neighbours(loop):
    """To their handlers the clients have left; who has asked in full stays, however heavy its client."""
    outcomes = []
    waits = asyncio.Event()

    async def handler(request, reply):
        try:
            body = await request.body(1000)
        except asyncio.CancelledError:
            outcomes.append(reply.gone)
            raise
        if body == b"wait":
            await waits.wait()
        await who(request, reply)

    async def scene(rig):
        async def connect(n):
            return await rig.connect(local_addr=(f"127.0.0.{n}", 0))

        whole = [await connect(n) for n in (2, 3)]
        for client in whole:
            client.send(post(b"wait"))
        halves = [await connect(n) for n in (2, 3) for _ in range(4)]
        for client in halves:
            client.send(post(b"wait")[:-1])
        await until(lambda: rig.server.statistics().requests == 10)
        neighbours = [await connect(n) for n in range(4, 9)]
        assert [(await client.ask(post(b"go"))).status for client in neighbours] == [200] * 5
        await until(lambda: len(outcomes) == 5)
        assert outcomes == [True] * 5
        assert rig.server.statistics().displaced == 5
        waits.set()
        assert [(await client.answer()).status for client in whole] == [200] * 2

    run(loop, handler, scene, config=EdgeConfig(connections_per_client=5, connections_per_block=10))


def test_an_answer_that_has_begun_before_its_body_came_does_not_make_room(loop):
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"early")
        await asyncio.Event().wait()

    async def scene(rig):
        heavy = [await rig.connect(local_addr=("127.0.0.2", 0)) for _ in range(2)]
        for client in heavy:
            client.send(post(b"whole")[:-1])
            assert (await client.head())[0] == 200
        newcomer = await rig.connect(local_addr=("127.0.0.3", 0))
        assert (await newcomer.ask(GET)).status == 429
        assert rig.server.statistics().displaced == 0

    run(loop, handler, scene, config=EdgeConfig(connections_per_client=2, connections_per_block=2))


# UNIX sockets


async def serving(sockets, **caps):
    server = Server(who, refuse, EdgeConfig(**caps), Trust())
    server.start(sockets)
    return server


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_unix_socket_has_no_peer_and_no_share(tmp_path, loop):
    async def scene():
        path = tmp_path / "socket"
        server = Server(who, refuse, EdgeConfig(connections_per_client=1, connections_per_block=1), Trust())
        server.start([open_unix(path, mode=0o600)])
        assert path.stat().st_mode & 0o777 == 0o600
        assert server.addresses == (str(path),)
        clients = [Client(*await asyncio.open_unix_connection(path)) for _ in range(3)]
        for client in clients:
            assert (await client.ask(GET)).body == b"None"
            client.leave()
        await server.abort()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())


def test_a_forgotten_socket_file_is_replaced_but_nothing_else_is(tmp_path):
    path, other = tmp_path / "socket", tmp_path / "file"
    open_unix(path).close()
    first = open_unix(path)
    with pytest.raises(ListenError, match="in use"):
        open_unix(path)
    first.close()
    other.write_text("precious")
    with pytest.raises(ListenError, match=str(other)):
        open_unix(other)
    assert other.read_text() == "precious"
    with pytest.raises(ListenError, match="nowhere"):
        open_unix(tmp_path / "nowhere" / "socket")


# TCP sockets


def test_a_port_in_use_is_an_error_that_names_it():
    (sock,) = open_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    with pytest.raises(ListenError, match=f"127.0.0.1 port {port}"):
        open_tcp("127.0.0.1", port)
    sock.close()


def test_an_unknown_address_is_an_error_that_names_it():
    with pytest.raises(ListenError, match="not an address"):
        open_tcp("not an address", 0)


def test_every_address_of_a_name_gets_the_same_port(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 0)) for n in (1, 2, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    sockets = open_tcp("both", 0)
    names = [sock.getsockname() for sock in sockets]
    assert [name[0] for name in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({name[1] for name in names}) == 1
    for sock in sockets:
        sock.close()


def test_two_servers_share_a_port():
    async def scene():
        (first,) = open_tcp("127.0.0.1", 0, reuse_port=True)
        port = first.getsockname()[1]
        (second,) = open_tcp("127.0.0.1", port, reuse_port=True)
        old, new = await serving([first]), await serving([second])
        assert await old.drain(1)
        for _ in range(8):
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            assert (await client.ask(GET)).status == 200
            client.leave()
        await new.abort()

    asyncio.run(scene())


def test_a_drain_takes_in_everybody_who_is_at_the_door():
    async def scene():
        (door,) = open_tcp("127.0.0.1", 0)
        server = await serving([door], connections_per_client=200, connections_per_block=200)
        port = door.getsockname()[1]
        # The loop does not turn meanwhile.
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for client in clients:
            client.setblocking(False)
        draining = asyncio.ensure_future(server.drain(5))
        await asyncio.sleep(0)
        for client in clients:
            await asyncio.get_running_loop().sock_sendall(client, GET)
        answers = [await asyncio.get_running_loop().sock_recv(client, 4096) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        for client in clients:
            client.close()
        assert await draining

    asyncio.run(scene())


def test_only_this_machine_reaches_loopback_and_unix_sockets(tmp_path):
    here, there, file = socket.socket(), socket.socket(), socket.socket(socket.AF_UNIX)  # unbound is everywhere
    with here, there, file:
        here.bind(("127.0.0.2", 0))
        file.bind(str(tmp_path / "s"))
        assert local_only([here, file])
        assert not local_only([here, there])


def test_a_server_that_is_not_ready_takes_nobody_from_the_other_on_a_shared_port():
    (first,) = open_tcp("127.0.0.1", 0, reuse_port=True)
    port = first.getsockname()[1]
    (second,) = open_tcp("127.0.0.1", port, reuse_port=True)
    with first, second:
        first.listen()
        for _ in range(16):
            with socket.create_connection(("127.0.0.1", port)), first.accept()[0]:
                pass


def test_accepted_sockets_send_small_pieces_at_once():
    (sock,) = open_tcp("127.0.0.1", 0)
    with sock, socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Passed sockets


def test_passed_sockets_are_taken_over():
    async def scene():
        (sock,) = open_tcp("127.0.0.1", 0)
        port, descriptor = sock.getsockname()[1], sock.detach()
        sockets = inherited({"LISTEN_FDS": "1", "LISTEN_PID": "42"}, 42, first=descriptor)
        server = await serving(sockets)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        assert (await client.ask(GET)).status == 200
        client.leave()
        await server.abort()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "41"}, {"LISTEN_FDS": "x", "LISTEN_PID": "42"}],
)
def test_sockets_that_were_passed_to_nobody_or_somebody_else_are_left_alone(environ):
    assert inherited(environ, 42) == []


def test_a_passed_descriptor_must_listen(tmp_path):
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "42"}
    sock = socket.socket()
    with pytest.raises(ListenError, match="does not listen"):
        inherited(environ, 42, first=sock.detach())
    with (tmp_path / "file").open("w") as file, pytest.raises(ListenError, match="no socket"):
        inherited(environ, 42, first=file.fileno())


# A system at its end


def test_descriptors_are_raised_as_far_as_the_system_allows(monkeypatch):
    limits = [(1024, 20_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    assert raise_descriptors(500) == 1024
    assert raise_descriptors(10_000) == 10_000
    assert raise_descriptors(50_000) == 20_000
    assert limits == [(1024, 20_000), (10_000, 20_000), (20_000, 20_000)]


class Exhausted:
    """A listening socket whose first accept finds out of file descriptors."""

    def __init__(self, sock):
        self._sock = sock
        self.refusals = 1

    def accept(self):
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_a_server_without_descriptors_says_so_rests_and_goes_on(monkeypatch):
    monkeypatch.setattr("standpipe.edge.acceptor._PAUSE", 0.02)

    async def scene():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"].errno))
        (sock,) = open_tcp("127.0.0.1", 0)
        exhausted = Exhausted(sock)
        server = await serving([exhausted])
        client = Client(*await asyncio.open_connection("127.0.0.1", sock.getsockname()[1]))
        assert (await client.ask(GET)).status == 200
        assert reported == [errno.EMFILE]
        client.leave()
        await server.abort()

    asyncio.run(scene())
