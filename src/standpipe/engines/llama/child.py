"""The program inside the embedded engine's process: loads one model with llama.cpp, serves it, and outlives nobody.

    python -m standpipe.engines.llama.child  < settings

It reads one line of JSON (`ChildSettings`) from its standard input, prints one line when it serves, and logs to its
standard error. It ends with the process that started it, by two means: on Linux the kernel kills it, and everywhere
the other end of its standard input is that process's, so it closes when that process is gone, however that came about.
Imports no more than it needs, because it is started in a hurry after a crash.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

_SET_PARENT_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG, from linux/prctl.h."""


class ChildSettings(Struct, frozen=True):
    """What the child is told. `context` is in tokens and for all slots together, `cache` in MiB. `gpu_layers` None
    means: as many as fit onto a GPU, if there is one.

    `address` is the path of a UNIX socket, or a host on which the system chooses a port; then `key` guards it. What a
    slot has read can be saved into `folder`, and put back from there.
    """

    parent: int
    model: str
    alias: str
    address: str
    key: str | None
    folder: str
    slots: int
    context: int
    threads: int
    batch: int
    predict: int
    cache: int
    gpu_layers: int | None = None
    flash_attention: Literal["auto", "on", "off"] = "auto"
    cache_type: str = "f16"
    raw: bool = False
    """Whether the model's text is handed over as it is, its own markup included."""


class Ready(Struct, frozen=True):
    """What the child prints when it serves. `address` is `unix:///path` or `http://127.0.0.1:port`, `gpus` are the
    names of those that compute."""

    address: str
    gpus: tuple[str, ...] = ()


def main() -> None:
    """Serve until killed."""
    if sys.platform == "linux":
        # Tied to the thread that started us, so that thread must be one that stays: the event loop's.
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's business, and would wait for running asks
    line = _line()
    if not line:
        return
    settings = msgspec.json.decode(line, type=ChildSettings)
    if os.getppid() != settings.parent:
        return  # it died before we asked to be told
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server, gpus = _serve(settings)
    print(msgspec.json.encode(Ready(server.listening_address, gpus)).decode(), flush=True)  # noqa: T201  # it is the protocol
    while True:
        signal.pause()


def _line() -> bytes:
    """The first line of standard input, read without a buffer that would keep a lock."""
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(0, 65_536)):
        line += piece
    return line


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _serve(settings: ChildSettings) -> tuple[Any, tuple[str, ...]]:
    """Load the model and listen; returns when both are done, with the names of the GPUs that compute.

    Raises RuntimeError, its reason on standard error.
    """
    # Threads that wait for each other spin by default. Where they have not all cores to themselves, as beside a busy
    # gateway, that costs most of the speed (a factor of ten was seen); asleep they lose next to nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp  # noqa: PLC0415  # an extra; not before the parent lives and the line above is done

    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.model_alias = {settings.alias}  # its default is the path, which is nobody's business
    params.hostnames = [settings.address]
    if settings.key is not None:
        params.api_keys = [settings.key]
    params.n_ctx = settings.context
    params.n_parallel = settings.slots
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    # A caller who left is noticed once per batch, so small ones free a slot soon; they cost next to nothing.
    params.n_batch = settings.batch
    params.n_ubatch = settings.batch
    params.n_predict = settings.predict
    params.cache_ram_mib = settings.cache
    params.cache_prompt = True
    params.kv_unified = False  # else one greedy ask makes all others fail
    params.ctx_shift = False  # else an answer may have no end
    params.n_threads_http = settings.slots + 16
    params.sse_ping_interval = 10
    params.endpoint_slots = True
    params.slot_save_path = os.path.join(settings.folder, "")  # noqa: PTH118  # it must end with a slash
    params.endpoint_metrics = True
    params.ui = False
    params.cors_origins = "http://localhost"  # its default lets any web page in
    gpus = () if settings.gpu_layers == 0 else _gpus(xllamacpp)
    # llama.cpp counts what fits onto a GPU; without one there is nothing to count.
    params.fit_params = bool(gpus) and settings.gpu_layers is None
    params.n_gpu_layers = (-1 if gpus else 0) if settings.gpu_layers is None else settings.gpu_layers
    if settings.flash_attention != "auto":
        enabled = "ENABLED" if settings.flash_attention == "on" else "DISABLED"
        params.flash_attn_type = xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{enabled}"]
    if settings.cache_type != "f16":
        kind = xllamacpp.ggml_type[f"GGML_TYPE_{settings.cache_type.upper()}"]
        params.cache_type_k = params.cache_type_v = kind
    params.warmup = True
    params.verbosity = 2
    params.use_jinja = True
    params.force_pure_content_parser = settings.raw
    params.prefill_assistant = not settings.raw
    return xllamacpp.Server(params), gpus


def _gpus(xllamacpp: Any) -> tuple[str, ...]:
    """The GPUs that llama.cpp finds, by the names of their makers; none in a build for processors alone."""
    return tuple(
        device["description"]
        for device in xllamacpp.get_device_info()
        if device["type"].name.endswith(("_GPU", "_IGPU"))
    )


if __name__ == "__main__":
    main()
