"""On systems that lack what Linux has, what works works, and what cannot is refused in one sentence."""

import json
import subprocess
import sys
import urllib.request

import pytest

from tests.e2e.conftest import Server
from tests.elsewhere import LACKS


def elsewhere(system, *words):
    command = [sys.executable, "-m", "tests.elsewhere", system, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("system", LACKS)
def test_every_module_can_be_imported(system):
    done = elsewhere(system)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


@pytest.mark.parametrize("system", LACKS)
def test_it_serves_and_ends_in_good_order(system):
    with Server(
        "--engine", "scripted:?tokens=3", first=f"from tests.elsewhere import pretend; pretend({system!r})"
    ) as it:
        body = json.dumps({"messages": [{"role": "user", "content": "Hello!"}], "stream": False}).encode()
        request = urllib.request.Request(f"{it.url}/api", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.load(response)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("serve", "--engine", "embedded", "--port", "0", "--admin-port", "0"), "runs on Linux and macOS"),
        (("serve", "--unix-socket", "x.sock", "--admin-port", "0"), "no UNIX sockets"),
        (("serve", "--reuse-port", "--port", "0", "--admin-port", "0"), "no SO_REUSEPORT"),
        (("engines",), "no UNIX sockets"),
    ],
)
def test_what_windows_cannot_do_is_said_in_one_sentence(words, sentence):
    done = elsewhere("windows", *words)
    assert done.returncode in {1, 2}
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install_before_it_fetches_anything(tmp_path):
    first = "import sys; sys.modules['xllamacpp'] = None"
    program = f"{first}\nfrom standpipe.cli import main\nmain()"
    command = [sys.executable, "-c", program, "serve", "--engine", "embedded", "--port", "0", "--admin-port", "0"]
    command += ["--cache-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'standpipe[embedded]'" in done.stderr
    assert "--engine" in done.stderr
    assert list(tmp_path.iterdir()) == []
