"""The package as others get it: built, held against the rules, and tried alone. `scripts/package [FOLDER]`.

1. What is committed is built twice, the wheel once of the source and once of its archive: the bytes are the same.
2. twine and check-wheel-contents find nothing to say; pyroma misses a home page, and nothing else.
3. For each Python here, a fresh environment gets the wheel and nothing else of ours: it tells its version, says what is
   missing where nothing can be embedded, serves, answers, and ends in good order.

What is built lies in FOLDER afterwards, by default `dist`. Installs its own tools into a folder that goes again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("build==1.6.1", "hatchling==1.33.0", "pyroma==5.0.1", "twine==7.0.0", "check-wheel-contents==0.6.3")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
_PATIENCE = 60.0
"""Seconds that anything may take but an installation."""


def main() -> None:
    """Do all of it. Raises CalledProcessError or AssertionError where something is wrong."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        python = environment(scratch / "tools", sys.executable, *TOOLS)
        archive, wheel = build(python, scratch)
        _run(python, "-m", "twine", "check", "--strict", archive, wheel)
        _run(python.parent / "check-wheel-contents", "--ignore=W002", wheel)  # one licence, for us and for a library
        # 10 once there is a public home whose address can be told.
        rating = _run(python.parent / "pyroma", "--min=9", archive)
        _say(rating.strip().splitlines()[-2])
        for interpreter in interpreters():
            _say(try_alone(wheel, interpreter, scratch / "alone"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in (archive, wheel):
            _say(f"{shutil.copy(path, folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}")


def environment(folder: Path, interpreter: str, *packages: str) -> Path:
    """A new virtual environment with these. Gives its Python."""
    if folder.exists():
        shutil.rmtree(folder)
    _run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return python


def build(python: Path, scratch: Path) -> tuple[Path, Path]:
    """The source archive and the wheel, after both were made twice. Times inside are the last change's."""
    moment = _run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    source = scratch / "source"
    source.mkdir()
    _run("git", "-C", ROOT, "archive", "--output", scratch / "source.tar", "HEAD")
    with tarfile.open(scratch / "source.tar") as committed:
        committed.extractall(source, filter="data")
    made = []
    for how in ((), ("--sdist", "--wheel")):  # by default the wheel is made of the archive
        out = scratch / f"built-{len(made)}"
        _run(python, "-m", "build", "--no-isolation", "--outdir", out, *how, source, SOURCE_DATE_EPOCH=moment)
        made.append(tuple(sorted(out.iterdir())))
    for first, second in zip(*made, strict=True):
        assert first.read_bytes() == second.read_bytes(), f"{first.name} is not the same when it is built again"
    wheel, archive_path = made[0]
    _say(f"{archive_path.name} and {wheel.name}: the same bytes, however they are built")
    return archive_path, wheel


def interpreters() -> Iterator[str]:
    """A Python of each version that is here, on the path or of pyenv."""
    for version in VERSIONS:
        found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
        if path := found[-1] if found else shutil.which(f"python{version}"):
            yield str(path)


def try_alone(wheel: Path, interpreter: str, folder: Path) -> str:
    """Install the wheel into a fresh environment, and use it from another folder. Gives what was seen, in a line."""
    python = environment(folder, interpreter, str(wheel))
    command = python.parent / "standpipe"
    version = _run(command, "--version").strip()
    serve = [str(command), "serve", "--port", "0", "--admin-port", "0", "--log-format", "json"]
    missing = subprocess.run(  # noqa: S603 - our own words
        [*serve, "--engine", "embedded"], capture_output=True, text=True, timeout=_PATIENCE, check=False, cwd=folder
    )
    assert missing.returncode == 1, missing
    assert re.fullmatch(r"standpipe: .*standpipe\[embedded\].*\n", missing.stderr), missing.stderr
    tokens = answer([*serve, "--engine", "scripted:?tokens=3"], folder)
    with_python = _run(python, "--version").strip()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000
    return f"{version} on {with_python}: answers with {tokens} tokens, ends with 0; {size} MB in all"


def answer(command: list[str], folder: Path) -> int:
    """Serve, ask once, stop. Gives how many tokens the answer had."""
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder)  # noqa: S603
    try:
        assert server.stderr is not None
        events = (json.loads(line) for line in server.stderr)
        address = next(event["address"] for event in events if event["event"] == "serving")
        body = json.dumps({"messages": [{"role": "user", "content": "Hello!"}], "stream": False}).encode()
        request = urllib.request.Request(f"{address}/api", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:  # noqa: S310 - our own server
            tokens = json.load(response)["usage"]["completion_tokens"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(_PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
    return int(tokens)


def _run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own words
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | variables
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
