"""Who is let in by what browsers say: hosts, origins, and pages that would read what is not theirs."""

import pytest

from standpipe.serve.door import EXPOSED, is_local
from tests.serve.driver import Reply, Request, Tap
from tests.virtual import run

ELSEWHERE = "https://elsewhere.example"
REBOUND = {"host": "rebound.example:8081"}


def asked(path, headers, *, admin=False, method="GET", local=True, body=b"", **settings):
    async def body_of_scene():
        async with Tap(local=local, **settings) as tap:
            front = tap.center.admin if admin else tap.app.guard
            reply = Reply()
            await front(Request(method, path, body, {"host": "127.0.0.1:8081"} | headers, "192.0.2.1"), reply)
            return reply

    return run(body_of_scene())


def cors(reply):
    return {name for name in reply.headers if name.startswith("access-control")}


ADMIN = ("/healthz", "/readyz", "/metrics", "/top")


@pytest.mark.parametrize("path", ADMIN)
@pytest.mark.parametrize("host", ["10.1.2.3:8081", "[fd00::1]:8081", "localhost", "standpipe.localhost:1", ""])
def test_kubelet_and_prometheus_reach_the_admin_listener_by_address(path, host):
    reply = asked(path, {"host": host}, admin=True)
    assert reply.status == 200
    assert not cors(reply)
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("path", [*ADMIN, "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        REBOUND,
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": ELSEWHERE},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},  # another program's page on this machine
        {"origin": "http://["},
        {"origin": ""},
    ],
)
def test_no_web_page_reaches_the_admin_listener(path, headers, local):
    reply = asked(path, headers, admin=True, local=local)
    assert reply.status == 403
    assert not cors(reply)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"host": "localhost:8081", "origin": "http://localhost:8081"},
    ],
)
def test_the_operator_may_look_with_a_browser(headers):
    assert asked("/metrics", headers, admin=True).status == 200


def test_the_admin_listener_serves_the_names_of_its_setting_and_names_it():
    assert (
        asked(
            "/metrics", {"host": "Standpipe.monitoring:8081"}, admin=True, admin_hosts=("standpipe.monitoring",)
        ).status
        == 200
    )
    refused = asked("/metrics", REBOUND, admin=True, hosts=("rebound.example",))
    assert "`admin_hosts`" in refused.json["error"]["message"]


def test_the_admin_listener_answers_no_preflight():
    headers = {"access-control-request-method": "GET", "access-control-request-private-network": "true"}
    for more in ({}, {"origin": ELSEWHERE}):
        reply = asked("/metrics", headers | more, admin=True, method="OPTIONS")
        assert reply.status in {403, 405}
        assert not cors(reply)


# The public side ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("https://[::1]", True),
        ("http://app.localhost", True),
        ("vscode-webview://1abc", True),
        ("tauri://localhost", True),
        (ELSEWHERE, False),
        ("http://192.0.2.7", False),
        ("http://localhost.evil.example", False),
        ("http://", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_pages_of_this_machine_are_told_from_others(origin, local):
    assert is_local(origin) == local


PAGE = {"origin": ELSEWHERE}
ASK = b'{"messages":[{"role":"user","content":"Hello!"}]}'


def test_a_server_for_its_own_machine_is_not_used_by_pages_from_elsewhere():
    for method, body in (("POST", ASK), ("GET", b""), ("OPTIONS", b"")):
        reply = asked("/api", PAGE, method=method, body=body)
        assert reply.status == 403, method
        assert not cors(reply)
    own = asked("/api", {"origin": "http://localhost:3000"}, method="POST", body=ASK)
    assert (own.status, own.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    "settings",
    [{"local": False}, {"hosts": ("chat.example.org",)}, {"trusted_proxies": ("127.0.0.1",)}, {"trusted_hops": 1}],
    ids=["network", "hosts", "proxy", "hops"],
)
def test_a_public_server_is_open_to_pages_of_any_origin(settings):
    reply = asked("/api", PAGE, method="POST", body=ASK, **settings)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-expose-headers"] == EXPOSED


def test_a_page_that_points_a_name_of_its_own_here_is_refused():
    reply = asked("/api", REBOUND)
    assert (reply.status, cors(reply)) == (403, set())
    assert "`hosts`" in reply.json["error"]["message"]
    assert asked("/api", REBOUND, local=False).status == 200
    assert asked("/api", REBOUND, local=False, hosts=("chat.example.org",)).status == 403


def test_a_public_page_is_never_granted_a_private_network():
    headers = PAGE | {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
    reply = asked("/api", headers, method="OPTIONS", local=False)
    assert reply.status == 204
    assert "access-control-allow-private-network" not in reply.headers
