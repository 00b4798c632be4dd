"""The client over TLS, with a certificate that is made for the occasion."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from standpipe.http_client.client import Client
from standpipe.http_client.transport import ConnectFailed, ConnectionBroken
from tests.engines.peers import CHUNKED, PLAIN, Received, answers_plainly, asked, counts, engine, run_on_uvloop, using
from tests.virtual import run as run_virtually


@pytest.fixture(params=[run_virtually, run_on_uvloop], ids=["stdlib", "uvloop"])
def run(request):
    return request.param


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program here to make a certificate with")
    path: Path = tmp_path_factory.mktemp("tls") / "engine.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=engine"
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    made = subprocess.run(["openssl", *command.split(), *name, "-keyout", str(path)], check=True, capture_output=True)
    with path.open("ab") as file:
        file.write(made.stdout)
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_carries_answers_reuse_and_cancelling(run, certificate):
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def script(peer):
        await peer.request()
        peer.send(PLAIN)
        await peer.request()
        peer.send(CHUNKED + b"1\r\na\r\n")
        await peer.gone()

    async def scene() -> Any:
        tls = server_side(certificate)
        async with engine(script, tls=tls) as it, using(Client(it.url, ssl_context=trusting)) as client:
            assert (await client.fetch("GET", "/models")).body == b"hello"
            into = Received()
            task = asyncio.ensure_future(asked(client, into))
            await into.first.wait()
            into.flow.pause()
            into.flow.resume()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await it.gone.wait()
            return counts(client)

    stats = run(scene())
    assert (stats.opened, stats.reused) == (1, 1)


def test_tls_body_until_close_and_truncated_body(run, certificate):
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def script(peer):
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello" if peer.number == 0 else CHUNKED + b"1\r\na\r\n")
        await peer.sent()

    async def scene() -> Any:
        tls = server_side(certificate)
        async with engine(script, tls=tls) as it, using(Client(it.url, ssl_context=trusting)) as client:
            assert (await client.fetch("GET", "/")).body == b"hello"
            with pytest.raises(ConnectionBroken):
                await client.fetch("GET", "/")

    run(scene())


def test_tls_verifies_by_default(run, certificate):
    async def scene() -> Any:
        async with engine(answers_plainly, tls=server_side(certificate)) as it:
            with pytest.raises(ConnectFailed, match="certificate"):
                await Client(it.url).fetch("GET", "/models")

    run(scene())
