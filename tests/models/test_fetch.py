import hashlib
import http.server
import threading
from contextlib import contextmanager
from typing import cast

import pytest

from standpipe.models.catalog import File
from standpipe.models.fetch import Route, Unfetched, digest, fetch

DATA = bytes(range(256)) * 4000
FILE = File("thing.bin", len(DATA), hashlib.sha256(DATA).hexdigest())


class Shown:
    """A Progress that remembers."""

    def __init__(self):
        self.stretches = []

    @contextmanager
    def __call__(self, title, total):
        self.done = 0
        yield self.advance
        self.stretches.append((title, total, self.done))

    def advance(self, n):
        assert n > 0
        self.done += n


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA as the server's `faults` say, one for each request, then faultlessly."""

    def do_GET(self):
        server = cast(Server, self.server)
        server.asked.append(self.headers.get("Range"))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
        body = DATA if fault == "no ranges" else DATA[start:]
        if fault == "other":
            body = bytes(len(body))
        if fault == "long":
            body += b"more"
        self.send_response(206 if len(body) < len(DATA) else 200)
        self.send_header("Content-Length", str(len(body)))
        if len(body) < len(DATA):
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else b"" if fault == "empty" else body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    """What it shall do wrong, and which ranges it was asked for."""

    faults: list[str | int]
    asked: list[str | None]
    url: str


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.faults, server.asked = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/thing.bin"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def scene(tmp_path, server):
    class Scene:
        def __init__(self):
            self.part = tmp_path / "thing.part"
            self.shown = Shown()
            self.paused = []

        def fetch(self, url=server.url, **route):
            fetch(url, self.part, FILE, self.shown, route=Route(**route), pause=self.paused.append)
            return self.part.read_bytes()

    return Scene()


def test_all_of_it_comes_and_is_counted(scene, server):
    assert scene.fetch() == DATA
    assert scene.shown.stretches == [("fetching thing.bin", len(DATA), len(DATA))]
    assert server.asked == [None]


def test_it_goes_on_from_what_is_there(scene, server):
    scene.part.write_bytes(DATA[:1000])
    assert scene.fetch() == DATA
    assert server.asked == ["bytes=1000-"]
    assert scene.shown.done == len(DATA)


def test_what_is_whole_already_is_not_asked_for(scene, server):
    scene.part.write_bytes(DATA)
    assert scene.fetch() == DATA
    assert server.asked == []


def test_a_server_that_knows_no_ranges_begins_anew(scene, server):
    server.faults = ["no ranges"]
    scene.part.write_bytes(b"?" * 1000)
    assert scene.fetch() == DATA


def test_a_cut_connection_is_resumed_for_as_long_as_something_comes(scene, server):
    server.faults = ["cut"] * 8
    assert scene.fetch() == DATA
    assert len(server.asked) == 9
    assert server.asked[1] == f"bytes={len(DATA) // 2}-"
    assert scene.shown.done == len(DATA)


def test_an_unwell_server_is_asked_again_ever_more_slowly(scene, server):
    server.faults = [503, 429, 500]
    assert scene.fetch() == DATA
    assert scene.paused == [1, 2, 4]


def test_a_server_that_stays_unwell_is_given_up_and_what_came_is_kept(scene, server):
    server.faults = ["cut", *[503] * 20]
    with pytest.raises(Unfetched, match="status 503"):
        scene.fetch()
    assert scene.part.read_bytes() == DATA[: len(DATA) // 2]
    assert len(server.asked) < 8


def test_a_refusal_is_final(scene, server):
    server.faults = [404]
    with pytest.raises(Unfetched, match="status 404"):
        scene.fetch()
    assert scene.paused == []


def test_a_wrong_beginning_is_thrown_away_once(scene, server):
    scene.part.write_bytes(b"?" * 1000)
    assert scene.fetch() == DATA
    assert server.asked == ["bytes=1000-", None]


def test_more_than_there_can_be_is_thrown_away(scene):
    scene.part.write_bytes(b"?" * (len(DATA) + 1))
    assert scene.fetch() == DATA


@pytest.mark.parametrize(
    ("fault", "says"), [("other", "checksum"), ("long", "more than"), ("empty", "connection was lost")]
)
def test_another_file_is_never_taken_for_this_one(scene, server, fault, says):
    server.faults = [fault] * 20
    with pytest.raises(Unfetched, match=says):
        scene.fetch()
    assert not scene.part.exists() or scene.part.stat().st_size == 0


def test_nobody_there_is_said_without_the_address(scene, server):
    with pytest.raises(Unfetched) as failed:
        scene.fetch("http://name:secret@127.0.0.1:1/thing.bin")
    assert "secret" not in str(failed.value)
    assert scene.paused == [1, 2, 4]


def test_a_file_of_this_machine_will_do(scene, tmp_path):
    (tmp_path / "source").write_bytes(DATA)
    assert scene.fetch((tmp_path / "source").as_uri()) == DATA


def test_a_file_that_is_not_there_is_not_waited_for(scene, tmp_path):
    with pytest.raises(Unfetched, match="No such file"):
        scene.fetch((tmp_path / "nowhere").as_uri())
    assert scene.paused == []


def test_other_kinds_of_address_are_refused(scene):
    with pytest.raises(Unfetched, match="neither http"):
        scene.fetch("ftp://127.0.0.1/thing.bin")


def test_a_proxy_is_used_when_one_is_set(scene, server):
    assert scene.fetch("http://nowhere.invalid/thing.bin", proxy=f"http://127.0.0.1:{server.server_port}") == DATA


def test_certificates_that_cannot_be_read_are_named(scene, tmp_path):
    with pytest.raises(Unfetched, match=r"none\.pem"):
        scene.fetch(certificates=str(tmp_path / "none.pem"))


def test_a_digest_reports_its_own_progress(tmp_path):
    path = tmp_path / "thing"
    path.write_bytes(DATA)
    shown = Shown()
    with shown("checking", len(DATA)):
        assert digest(path, shown.advance) == FILE.sha256
    assert shown.done == len(DATA)
