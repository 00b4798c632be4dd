"""What a user can see is documented, and the documentation tells the truth."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(generator().PAGES))
def test_a_generated_page_is_fresh(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == generator().PAGES[name](), "run: python docs/generate.py"


def test_every_link_between_pages_leads_somewhere():
    import re

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
