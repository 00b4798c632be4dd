"""The process: its first lines, its end, and what it lets in."""

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from standpipe.cli import main
from tests.e2e.conftest import STDLIB_LOOP


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def post(url, body, headers=None):
    request = urllib.request.Request(f"{url}/api", json.dumps(body).encode(), headers or {})
    return urllib.request.urlopen(request, timeout=30)


ASK = {"messages": [{"role": "user", "content": "Hello!"}]}


def test_the_first_lines_tell_where_who_and_to_whom(serve):
    server = serve("--engine", "scripted:?model=gpt-oss:latest")
    server.stop()
    assert server.url in server.said
    assert "gpt-oss:latest" in server.said
    assert "this machine only" in server.said
    assert "curl" in server.said


def test_the_curl_line_works_when_pasted(serve, tmp_path):
    server = serve("--engine", "scripted:?tokens=3")
    assert server.process.stdout is not None
    line = next(line for line in server.process.stdout if "curl" in line)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.rstrip().endswith("data: [DONE]")


def test_a_running_stream_finishes_while_the_server_drains(serve):
    server = serve("--engine", "scripted:?tokens=20&rate=20")
    with post(server.url, ASK) as response:
        first = response.readline()
        server.process.send_signal(signal.SIGTERM)
        rest = response.read()
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert server.stop() == 0


def test_a_second_signal_leaves_at_once(serve):
    server = serve("--engine", "scripted:?tokens=1000&rate=1")
    with post(server.url, ASK) as response:
        response.readline()
        server.process.send_signal(signal.SIGINT)
        assert server.process.stderr is not None
        next(line for line in server.process.stderr if "draining" in line)
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=10)
    assert server.process.returncode == 0


def test_load_balancers_look_elsewhere_before_the_doors_close(serve):
    server = serve("--engine", "scripted:?tokens=3", "--drain-delay", "3600", "--admin-port", str(port := free_port()))
    ready = f"http://127.0.0.1:{port}/readyz"
    assert urllib.request.urlopen(ready, timeout=30).status == 200
    server.process.send_signal(signal.SIGTERM)
    next(line for line in server.process.stderr if "not ready any more" in line)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(ready, timeout=30)
    assert refused.value.code == 503
    refused.value.close()
    with post(server.url, ASK | {"stream": False}) as response:
        assert json.load(response)["object"] == "chat.completion"
    assert server.stop() == 0  # the second signal waits for nothing


def test_the_other_loop_serves_too(serve):
    server = serve("--engine", "scripted:?tokens=3", first=STDLIB_LOOP)
    with post(server.url, ASK | {"stream": False}) as response:
        assert json.load(response)["object"] == "chat.completion"


def test_a_wrong_setting_is_named_and_nothing_starts():
    command = [sys.executable, "-m", "standpipe", "serve", "--pace-interval", "soon"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "pace_interval" in done.stderr
    assert "'soon'" in done.stderr
    assert "from 0 to 3600" in done.stderr


@pytest.mark.parametrize("taken", ["--port", "--admin-port"])
def test_a_port_in_use_is_said_before_anybody_is_let_in(serve, taken):
    server = serve("--engine", "scripted:")
    port = server.url.rpartition(":")[2]
    flags = {"--port": "0", "--admin-port": "0"} | {taken: port}
    command = [sys.executable, "-m", "standpipe", "serve", "--engine", "scripted:", "--log-format", "json"]
    command += [word for flag in flags.items() for word in flag]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"standpipe: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_a_foreign_host_name_is_refused_on_loopback(serve):
    server = serve("--engine", "scripted:")
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server.url, ASK, {"Host": "evil.example"})
    assert refused.value.code == 403
    refused.value.close()


def test_check_says_whether_engines_are_well(serve):
    server = serve("--engine", "scripted:")
    command = [sys.executable, "-m", "standpipe", "check", "--engine"]
    well = subprocess.run([*command, f"{server.url}/v1"], capture_output=True, text=True, timeout=30, check=False)
    assert well.returncode == 0, well.stdout
    assert "scripted" in well.stdout
    wrong = subprocess.run([*command, "http://127.0.0.1:9/v1"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 1
    assert "http://127.0.0.1:9" in wrong.stdout


def test_a_conversation_in_the_terminal(tap):
    command = [sys.executable, "-m", "standpipe", "chat", tap.url]
    done = subprocess.run(command, input="hello\nagain\n", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert [len(line.split()) for line in done.stdout.partition("quits.")[2].splitlines() if line] == [12, 12]


def test_many_at_once_are_all_answered(tap):
    statuses = []

    def ask():
        with post(tap.url, ASK | {"stream": False}) as response:
            statuses.append(response.status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8


def test_settings_are_read_again_on_sighup_and_wrong_ones_are_refused(serve, tmp_path):
    file = tmp_path / "tap.toml"
    file.write_text('name = "Spring"')
    server = serve("--engine", "scripted:?tokens=3", "--config", str(file))

    def hang_up():
        """Gives the log's next line, and the name that the server then has."""
        server.process.send_signal(signal.SIGHUP)
        line = json.loads(server.process.stderr.readline())
        with urllib.request.urlopen(f"{server.url}/api", timeout=30) as response:
            return line, json.load(response)["name"]

    file.write_text('name = "Fountain"\nport = 1')
    line, name = hang_up()
    assert (line["event"], line["changed"], name) == ("settings reloaded", "name", "Fountain")
    file.write_text('name = "Well"\npace = 1')
    line, name = hang_up()
    assert "the former ones stay" in line["event"]
    assert "sets pace, which is not a setting" in line["reason"]
    assert name == "Fountain"


def test_an_operator_changes_the_engines_over_the_control_socket(serve, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    server = serve("--engine", "scripted:?name=a&tokens=200&rate=100")
    path = next(json.loads(line)["path"] for line in server.lines if "control socket" in line)
    with post(server.url, ASK | {"stream": True}) as stream:
        stream.readline()
        for words in (["add", "scripted:?name=b&tokens=3#slots=9"], ["remove", "a"], ["drain", "c"]):
            with pytest.raises(SystemExit) as end:
                main(["engines", *words, "--socket", path])
            assert end.value.code == (words[1] == "c")
        assert "no engine is called c" in capsys.readouterr().err
        assert b"[DONE]" in stream.read()
    with urllib.request.urlopen(f"{server.url}/api", timeout=30) as response:
        assert [(engine["name"], engine["slots"]) for engine in json.load(response)["engines"]] == [("b", 9)]
    assert server.stop() == 0
    assert not list((tmp_path / "standpipe").iterdir())


def test_an_operator_sees_inside_on_sigusr1(serve):
    server = serve("--engine", "scripted:?tokens=3")
    server.process.send_signal(signal.SIGUSR1)
    lines = [json.loads(server.process.stderr.readline()) for _ in range(4)]
    assert [line["event"] for line in lines] == ["dump connections", "dump queue", "dump engine", "dump tasks"]
