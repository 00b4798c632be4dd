"""Every sample of the documentation runs as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from standpipe.serve.assets import text
from standpipe.serve.documents import LABELS, fill

_FENCE = re.compile(r"^```(\w+) (\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAMPLES = [(found[1], found[2], found[3]) for found in _FENCE.finditer(text("pages/index.md"))]
COMMANDS = {"sh": ["sh"], "python": [sys.executable, "-"], "javascript": ["node", "--input-type=module", "-"]}
NEEDS = {
    "openai": "openai",
    "responses": "openai",
    "anthropic": "anthropic",
    "ollama": "ollama",
    "requests": "requests",
}


@pytest.fixture(scope="module")
def tap(serving):
    return serving("--engine", "scripted:?tokens=12&model=gpt-oss:latest", "--pace-interval", "0")


def test_there_are_samples_of_every_kind():
    assert {kind for _, kind, _ in SAMPLES} == set(LABELS)
    assert len(SAMPLES) > 20


@pytest.mark.parametrize("index", range(len(SAMPLES)), ids=lambda i: f"{i}-{SAMPLES[i][1]}")
def test_it_runs(tap, index):
    language, kind, code = SAMPLES[index]
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    if language == "javascript" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    code = fill(code, {"address": tap.url, "model": "gpt-oss:latest"})
    done = subprocess.run(COMMANDS[language], input=code, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused" not in done.stdout
    assert done.stdout.strip()
