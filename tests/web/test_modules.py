"""The pages' pure modules under node's own test runner, the vendored files against their checksums, and the budget."""

from __future__ import annotations

import gzip
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from standpipe.site.assets import files, modules, text

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUDGET = 60_000
"""Bytes, gzipped, that a first look at a page may cost, without colours for code and without formulas."""


def vendor():
    loader = importlib.machinery.SourceFileLoader("vendor", str(ROOT / "scripts" / "vendor"))
    spec = importlib.util.spec_from_loader("vendor", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_pure_modules():
    if shutil.which("node") is None:
        assert not os.environ.get("CI"), "CI needs node"
        pytest.skip("node is not installed")
    done = subprocess.run(["node", "--test", str(HERE)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_the_libraries_are_what_their_packages_contain():
    assert vendor().faults() == []


def test_no_script_is_written_into_a_page_and_no_style_either():
    for page in (ROOT / "src" / "standpipe" / "web" / "pages").glob("*.html"):
        content = page.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)", content), page.name
        assert not re.search(r"\sstyle=|<style|\son\w+=", content), page.name


def test_no_page_names_another_host():
    web = ROOT / "src" / "standpipe" / "web"
    for path in [*(web / "js").rglob("*.js"), *(web / "css").rglob("*.css"), *(web / "pages").rglob("*")]:
        hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8"))) - {"www.w3.org"}
        assert not hosts, path.name


@pytest.mark.parametrize("page", ["chat", "docs", "status"])
def test_a_first_look_is_within_the_budget(page):
    scripts = modules(f"js/{page}/main.js")
    assert any(name.startswith("js/page/") for name in scripts)
    styles = ["css/base.css", "css/code.css", f"css/{page}.css", "js/page/theme.js"]
    html = {"chat": "pages/chat.html", "docs": "pages/index.md", "status": "pages/status.html"}[page]
    sizes = {name: len(gzip.compress(text(name).encode(), 6)) for name in [html, *styles, *scripts]}
    assert sum(sizes.values()) <= BUDGET, sorted(sizes.items(), key=lambda item: -item[1])


def test_every_module_that_a_script_imports_exists():
    known = {name for folder in ("js", "vendor") for name in files(folder)}
    for page in ("chat", "docs", "status"):
        assert set(modules(f"js/{page}/main.js")) <= known
