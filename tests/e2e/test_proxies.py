"""The samples for nginx, Caddy and HAProxy, as the README and docs/edge.md have them, in front of a real server.

Whatever a visitor writes into its headers, it stays the one client that its address makes it: behind each proxy it is
told so by `GET /api/limits`. Nothing here leaves loopback; a proxy that is not installed is skipped.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.conftest import Server

ROOT = Path(__file__).parent.parent.parent
HOST = "chat.example.org"
VISITOR = "127.9.9.9"
"""Not in the network of the proxy's own 127.0.0.1, so that the two can be told apart even where they are masked."""

FORGED = [
    [],
    [("Forwarded", "for=6.6.6.6")],
    [("Forwarded", 'for="127.0.0.1:80";proto=https, for=127.0.0.1')],
    [("Forwarded", 'for=6.6.6.6;host="')],
    [("X-Forwarded-For", "6.6.6.6")],
    [("X-Forwarded-For", "127.0.0.1")],
    [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7, unknown")],
    [("X-Forwarded-For", "")],
    [("X-Forwarded-For", ",, ,")],
    [("X-Forwarded-For", '"')],
    [("X-Forwarded-For", "_hidden, [::1]:80, 6.6.6.6:99")],
    [("x-forwarded-FOR", "6.6.6.6"), ("Forwarded", "for=7.7.7.7")],
    [("X_Forwarded_For", "6.6.6.6")],
    [("X-Real-IP", "6.6.6.6"), ("X-Client-IP", "6.6.6.6"), ("CF-Connecting-IP", "6.6.6.6"), ("Client-IP", "6.6.6.6")],
    [("Connection", "X-Forwarded-For")],
    [("Connection", "close, x-forwarded-for"), ("X-Forwarded-For", "6.6.6.6")],
    [("Via", "1.1 6.6.6.6"), ("X-Forwarded", "for=6.6.6.6"), ("X-Forwarded-Host", "6.6.6.6")],
]


def sample(page: str, language: str, holds: str) -> str:
    """The code block of a page in this language that holds these words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if holds in block]
    return str(found)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def nginx(folder: Path, port: int, server: str) -> list[str]:
    location = sample("README.md", "nginx", "proxy_pass").replace("http://127.0.0.1:8080", f"http://{server}")
    scratch = "\n".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {scratch}\nserver {{ listen 127.0.0.1:{port}; {location} }} }}\n"
    )
    return ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]


def caddy(folder: Path, port: int, server: str) -> list[str]:
    site = sample("README.md", "caddy", "reverse_proxy").replace("127.0.0.1:8080", server)
    site = site.replace(HOST, f"http://{HOST}:{port}")
    config = folder / "Caddyfile"
    config.write_text(f"{{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\n}}\n{site}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


def haproxy(folder: Path, port: int, server: str, holds: str) -> list[str]:
    listen = sample("docs/edge.md", "haproxy", holds).replace("127.0.0.1:8080", server)
    config = folder / "haproxy.cfg"
    config.write_text(re.sub(r"bind :443.*", f"bind 127.0.0.1:{port}", listen))
    return ["haproxy", "-db", "-f", str(config)]


PROXIES = {
    "nginx": (nginx, "x-forwarded-for", ()),
    "caddy": (caddy, "x-forwarded-for", ()),
    "haproxy": (lambda *given: haproxy(*given, "option forwardfor"), "x-forwarded-for", ()),
    "haproxy with PROXY protocol": (lambda *given: haproxy(*given, "send-proxy-v2"), "peer", ("--proxy-protocol",)),
}


class Proxy:
    """A proxy in front of a server. As a context manager it is there until it is left."""

    def __init__(self, name: str, folder: Path, server: Server) -> None:
        command, self.seen_in, _ = PROXIES[name]
        self.port = free_port()
        self._process = subprocess.Popen(
            command(folder, self.port, "127.0.0.1:" + server.url.rpartition(":")[2]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self._process.kill()
        raise AssertionError(f"the proxy did not start: {self._process.communicate()[1]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)

    def limits(self, headers: list[tuple[str, str]]) -> tuple[str, str]:
        """What the visitor is known as, and where its address was seen."""
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(VISITOR, 0))
        ) as connection:
            connection.putrequest("GET", "/api/limits", skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", HOST)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
        assert response.status == 200, body
        client = json.loads(body)["client"]
        return client["address"], client["seen_in"]


@contextmanager
def behind(name: str, folder: Path, *flags: str) -> Iterator[Proxy]:
    """A server behind this proxy."""
    program = name.partition(" ")[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    fixed = ["--engine", "scripted:", "--trusted-proxies", "127.0.0.1", "--hosts", HOST, *PROXIES[name][2]]
    with Server(*fixed, *flags) as server, Proxy(name, folder, server) as proxy:
        yield proxy


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request, tmp_path_factory):
    with behind(request.param, tmp_path_factory.mktemp("proxy")) as found:
        yield found


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_a_visitor_is_one_client_whatever_its_headers_say(proxy, headers):
    assert proxy.limits(headers) == ("127.9.9.x", proxy.seen_in)


@pytest.mark.parametrize("name", ["nginx", "caddy", "haproxy"])
def test_a_header_that_the_proxy_does_not_write_is_the_visitors(name, tmp_path):
    # The control: all of them pass on `Forwarded`, so whoever read it would believe anything.
    with behind(name, tmp_path, "--client-header", "Forwarded") as proxy:
        assert proxy.limits([("Forwarded", "for=6.6.6.6")]) == ("6.6.6.x", "forwarded")
        assert proxy.limits([]) == ("127.0.0.x", "peer")
