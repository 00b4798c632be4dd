"""What `scripts/matrix` asks of real engines, asked of a pretended one behind another Standpipe."""

from __future__ import annotations

import pytest

from tests.matrix import cases, table
from tests.matrix.engines import Recipe, tier
from tests.matrix.play import Found, play

SCRIPTED = "scripted:?tokens=40"
ENDLESS = {"a prompt too long is refused"}
"""What a scripted engine has no use for: it reads nothing, so all fits into its window."""
WAYS = {
    "openai": Recipe(title="a tier", command=lambda place: tier(place, SCRIPTED)),
    "ollama": Recipe(
        title="a tier",
        command=lambda place: tier(place, SCRIPTED),
        url=lambda place: f"ollama://127.0.0.1:{place.port}",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_wrong_with_a_standpipe_behind_a_standpipe(way):
    found = {}
    play(way, WAYS[way], found.__setitem__, cases.CASES.keys() - ENDLESS)
    assert {case: result for case, result in found.items() if result.found is Found.WRONG} == {}
    cannot = {case for case, result in found.items() if result.found is Found.NO}
    assert cannot == {"a wrong schema is refused", "reasoning", "embeddings"}


def test_the_page_has_the_results_that_are_kept():
    page = table.PAGE.read_text(encoding="utf-8")
    assert page == table.page(page, table.kept()), "run: scripts/matrix ENGINE --keep"
    wrong = {
        (name, case): result.remark
        for name, engine in table.kept().items()
        for case, result in engine.results.items()
        if result.found is Found.WRONG
    }
    assert wrong == {}
