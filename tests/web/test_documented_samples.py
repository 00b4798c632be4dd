"""Every sample of the documentation runs as it stands there."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from standpipe.site.assets import text
from standpipe.site.documents import LABELS, fill

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
PROGRAMS = {"sh": "curl", "javascript": "node"}


def lacking(language: str, kind: str) -> str | None:
    """What is not installed that this sample needs."""
    module, program = NEEDS.get(kind), PROGRAMS.get(language)
    if module and importlib.util.find_spec(module) is None:
        return module
    return program if program and shutil.which(program) is None else None


@pytest.fixture(scope="module")
def done(serving):
    """All samples, run two at a time."""
    tap = serving("--engine", "scripted:?tokens=12&model=gpt-oss:latest", "--pace-interval", "0")

    def run(sample):
        language, kind, code = sample
        if lacking(language, kind):
            return None
        code = fill(code, {"address": tap.url, "model": "gpt-oss:latest"})
        return subprocess.run(COMMANDS[language], input=code, capture_output=True, text=True, timeout=60, check=False)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, SAMPLES))


def test_there_are_samples_of_every_kind():
    assert {kind for _, kind, _ in SAMPLES} == set(LABELS)
    assert len(SAMPLES) > 20


@pytest.mark.parametrize("index", range(len(SAMPLES)), ids=lambda i: f"{i}-{SAMPLES[i][1]}")
def test_it_runs(done, index):
    ran = done[index]
    if ran is None:
        pytest.skip(f"{lacking(*SAMPLES[index][:2])} is not installed")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "refused" not in ran.stdout
