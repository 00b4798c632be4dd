"""A real browser on real servers: Debian's Chromium through Playwright.

Nothing that a page does may pass unseen: errors, violations of the policy, and requests to anywhere else fail the test
that made them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.conftest import Server

ARTIFACTS = Path(__file__).parent.parent.parent / "artifacts"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP chat.test 127.0.0.1",  # a name that is not localhost, so no secure context
)
_TELL = """addEventListener('securitypolicyviolation', (event) =>
    console.error(`violation of ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));"""


def _needed(what: str) -> None:
    """Skip, and say so; but CI must have everything."""
    assert not os.environ.get("CI"), f"CI needs {what}"
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        _needed("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _needed("playwright")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield opened
        opened.close()


class Visit:
    """One visitor: a context of its own, and what went wrong in it."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        self.url = server.url
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.context.set_default_timeout(10_000)
        self.context.add_init_script(_TELL)
        self.wrong: list[str] = []
        self.context.on("console", self._heard)
        self.context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        self.context.on("request", self._asked)
        self.context.on("dialog", self._opened)
        self.page = self.context.new_page()

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def _opened(self, dialog: Any) -> None:
        self.wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.wrong.append(f"asked {request.url}")

    def open(self, path: str = "/chat") -> Any:
        """Go to a page, and wait until it lives."""
        self.page.goto(self.url + path)
        if path.startswith("/chat"):
            self.page.wait_for_selector(".live .dot[data-up], .live .dot[data-down]")
        return self.page

    def ask(self, text: str, *, wait: bool = True) -> Any:
        """Ask in the chat page; gives the last answer's place."""
        self.page.fill("#draft", text)
        self.page.press("#draft", "Enter")
        if wait:  # the question is taken: what is busy and what can be sent is from now on this answer's
            self.until("document.querySelector('#draft').value === ''")
        return self.answered() if wait else self.page.locator(".answer").last

    def until(self, expression: str) -> None:
        """Wait until an expression of the page is true. Playwright's own way needs `eval`, which the policy forbids."""
        for _ in range(200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    def answered(self) -> Any:
        """Wait for the end of the answer."""
        self.page.wait_for_selector(".answer[aria-busy=false] >> nth=-1")
        self.page.wait_for_selector("button[aria-label=Send]")
        return self.page.locator(".answer").last


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visit]]:
    """Open visits; nothing may have gone wrong in any of them."""
    visits: list[Visit] = []

    def start(server: Server, **options: Any) -> Visit:
        visits.append(Visit(browser, server, **options))
        return visits[-1]

    yield start
    wrong = []
    for one in visits:
        wrong += one.wrong
        one.context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., Server]]:
    """Servers by their flags, each started once for all tests that want the same."""
    servers: dict[tuple[str, ...], Server] = {}

    def start(*flags: str) -> Server:
        if flags not in servers:
            servers[flags] = Server(*flags)
        return servers[flags]

    yield start
    for server in servers.values():
        server.process.terminate()
    for server in servers.values():
        server.close()


@pytest.fixture
def behind() -> Iterator[Callable[[str, str], str]]:
    """A proxy that serves a server below a path, and says nothing of it: gives its address."""
    running: list[ThreadingHTTPServer] = []

    def start(upstream: str, prefix: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.startswith(prefix + "/"):
                    self.send_error(404)
                    return
                body = self.rfile.read(int(self.headers.get("content-length") or 0)) or None
                headers = {"Content-Type": "application/json", "Accept": self.headers.get("accept", "*/*")}
                request = Request(upstream + self.path[len(prefix) :], body, headers, method=self.command)
                try:
                    answer = urlopen(request, timeout=30)
                except HTTPError as error:
                    answer = error
                with answer:  # also when the browser leaves in the middle
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        if name.lower() not in {"connection", "transfer-encoding", "date"}:
                            self.send_header(name, value)
                    self.end_headers()
                    while piece := answer.read1(65_536):
                        self.wfile.write(piece)
                        self.wfile.flush()

            do_POST = do_GET  # noqa: N815  # as the base class names them

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}{prefix}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def quick(serving: Callable[..., Server]) -> Server:
    """Sixty tokens and some thoughts, as fast as they can be shown; no pace."""
    return serving("--engine", "scripted:?tokens=60&reasoning=12&rate=400&model=gpt-oss:latest", "--pace-interval", "0")


@pytest.fixture
def slow(serving: Callable[..., Server]) -> Server:
    """One slot, and an answer that takes long."""
    return serving("--engine", "scripted:?tokens=600&rate=30&slots=1", "--pace-interval", "0")


@pytest.fixture
def echo(serving: Callable[..., Server]) -> Server:
    """An engine that says what it was told."""
    return serving("--engine", "scripted:?text=echo", "--pace-interval", "0")
