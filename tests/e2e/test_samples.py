"""What the README shows runs as it stands there, but for the address."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")


def sample(language: str) -> str:
    section = README.partition("## Three samples")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None, f"the README has no {language} sample"
    return found.group(1)


def run(command: list[str], stdin: str, url: str) -> str:
    text = stdin.replace("http://127.0.0.1:8080", url)
    assert url in text
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(tap):
    assert '"object":"chat.completion"' in run(["sh"], sample("sh"), tap.url)


def test_python(tap):
    assert len(run([sys.executable, "-"], sample("python"), tap.url).split()) == 12


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript(tap):
    assert len(run(["node", "--input-type=module", "-"], sample("javascript"), tap.url).split()) == 12
