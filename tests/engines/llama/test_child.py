"""The child's program as a real process, with a pretended llama.cpp."""

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from standpipe.engines.llama.llama import COMMAND

PATIENT = 30.0
PRETENDED = """
import json, os, sys
class Box:
    def __getattr__(self, name):
        self.__dict__[name] = Box()
        return self.__dict__[name]
    def plain(self):
        return {k: v.plain() if isinstance(v, Box) else sorted(v) if isinstance(v, set) else v
                for k, v in self.__dict__.items()}
class Named:
    def __class_getitem__(cls, name):
        return name
llama_flash_attn_type = ggml_type = Named
class Kind:
    def __init__(self, name):
        self.name = name
def get_device_info():
    names = {"CPU": "GGML_BACKEND_DEVICE_TYPE_CPU", "Big": "GGML_BACKEND_DEVICE_TYPE_GPU"}
    return [{"description": name, "type": Kind(names[name])} for name in os.environ.get("DEVICES", "CPU").split()]
class CommonParams(Box):
    pass
class Server:
    def __init__(self, params):
        print("loading", os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr, flush=True)
        if params.model.path == "missing":
            raise RuntimeError("Failed to init server")
        open(params.slot_save_path + "params", "w").write(json.dumps(params.plain()))
        self.listening_address = "unix://" + params.hostnames[0]
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    (tmp_path / "xllamacpp.py").write_text(PRETENDED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    return tmp_path


def settings(folder, **over):
    told = {
        "parent": os.getpid(),
        "model": "/models/m.gguf",
        "alias": "tiny:1",
        "address": f"{folder}/engine.sock",
        "key": None,
        "folder": str(folder),
        "slots": 3,
        "context": 6144,
        "threads": 2,
        "batch": 32,
        "predict": 512,
        "cache": 64,
    }
    return json.dumps(told | over).encode() + b"\n"


@pytest.fixture
def child(environment):
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        yield process
        process.kill()


def serving(child, folder, **over):
    child.stdin.write(settings(folder, **over))
    child.stdin.flush()
    return child.stdout.readline()


def test_it_says_where_it_serves_what_it_was_told_to(child, environment):
    assert json.loads(serving(child, environment)) == {
        "address": f"unix://{environment}/engine.sock",
        "gpus": [],
    }
    given = json.loads((environment / "params").read_text())
    assert given["model"]["path"] == "/models/m.gguf"
    assert given["model_alias"] == ["tiny:1"]
    assert (given["n_parallel"], given["n_ctx"], given["n_batch"]) == (3, 6144, 32)
    assert given["cpuparams"]["n_threads"] == given["cpuparams_batch"]["n_threads"] == 2
    assert (given["ctx_shift"], given["kv_unified"], given["ui"]) == (False, False, False)
    assert given["cache_ram_mib"] == 64
    assert given["n_threads_http"] > 3 + 8
    assert "api_keys" not in given


@pytest.mark.parametrize(
    ("devices", "gpu_layers", "gpus", "layers", "fitted"),
    [
        ("CPU", None, [], 0, False),
        ("CPU Big", None, ["Big"], -1, True),
        ("CPU Big Big", 20, ["Big", "Big"], 20, False),
        ("CPU Big", 0, [], 0, False),
    ],
)
def test_layers_go_where_a_gpu_is(environment, monkeypatch, devices, gpu_layers, gpus, layers, fitted):
    monkeypatch.setenv("DEVICES", devices)
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as child:
        ready = json.loads(serving(child, environment, gpu_layers=gpu_layers))
        child.kill()
    assert ready["gpus"] == gpus
    given = json.loads((environment / "params").read_text())
    assert (given["n_gpu_layers"], given["fit_params"]) == (layers, fitted)
    assert not {"flash_attn_type", "cache_type_k", "cache_type_v"} & given.keys()


def test_flash_attention_and_the_cache_are_as_the_operator_says(child, environment):
    serving(child, environment, flash_attention="off", cache_type="q8_0")
    given = json.loads((environment / "params").read_text())
    assert given["flash_attn_type"] == "LLAMA_FLASH_ATTN_TYPE_DISABLED"
    assert given["cache_type_k"] == given["cache_type_v"] == "GGML_TYPE_Q8_0"


def test_a_key_is_passed_on(child, environment):
    serving(child, environment, key="secret")
    assert json.loads((environment / "params").read_text())["api_keys"] == ["secret"]


def test_its_threads_sleep_while_they_wait_unless_the_operator_says_otherwise(child, environment):
    serving(child, environment)
    assert child.stderr.readline() == b"loading passive\n"


def test_a_ctrl_c_is_not_its_business_and_a_term_ends_it_at_once(child, environment):
    serving(child, environment)
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.terminate()
    assert child.wait(PATIENT) == -signal.SIGTERM


def test_it_ends_when_its_input_closes(child, environment):
    serving(child, environment)
    child.stdin.close()
    assert child.wait(PATIENT) == 0


def test_told_nothing_it_loads_nothing(child):
    child.stdin.close()
    assert child.wait(PATIENT) == 0
    assert child.stderr.read() == b""


def test_told_by_a_process_that_is_gone_it_loads_nothing(child, environment):
    assert serving(child, environment, parent=os.getpid() + 1) == b""
    assert child.wait(PATIENT) == 0
    assert not (environment / "params").exists()


def test_a_model_that_does_not_load_ends_it_with_the_reason(child, environment):
    assert serving(child, environment, model="missing") == b""
    assert child.wait(PATIENT) == 1
    assert b"Failed to init server" in child.stderr.read()


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="to watch another's process needs Linux")


def gone_when_killed(parent):
    """The parent prints its child's id and is killed; whether the child goes too."""
    lines = iter(parent.stdout.readline, "")
    watched = os.pidfd_open(next(int(line) for line in lines if line.strip().isdecimal()))
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert not poll.poll(0)
        parent.kill()
        return bool(poll.poll(PATIENT * 1000))
    finally:
        os.close(watched)


PARENT = """
import asyncio, os, sys
from standpipe.engines.llama.process import Child
from standpipe.engines.llama.llama import COMMAND

async def main():
    child = await Child.start(COMMAND, sys.argv[1].replace("PID", str(os.getpid())).encode(), within=30, log=print)
    print(child.pid, flush=True)
    await child.wait()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@needs_pidfd
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_does_not_outlive_a_parent_that_is_killed(environment, loop):
    told = settings(environment, parent="PID").decode().strip().replace('"PID"', "PID")
    command = [sys.executable, "-c", PARENT, told, loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert gone_when_killed(parent)


PLAIN_PARENT = """
import subprocess, sys
from standpipe.engines.llama.llama import COMMAND

with subprocess.Popen(COMMAND, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(child.pid, flush=True)
"""


@needs_pidfd
def test_nor_when_somebody_else_keeps_its_input_open(environment):
    command = [sys.executable, "-c", PLAIN_PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        parent.stdin.write(settings(environment, parent=parent.pid).decode())
        parent.stdin.flush()
        assert gone_when_killed(parent)
