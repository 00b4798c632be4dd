"""A short run of what `scripts/chaos` plays at length: real processes, every byte checked, no times judged."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.chaos.__main__ import faults
from tests.chaos.clients import Outcome
from tests.chaos.scenarios import play


@pytest.mark.parametrize("name", ["killed", "stopped", "401", "429", "503 loading", "odd 400", "mixed"])
def test_nobody_is_refused_or_lied_to_while_two_of_three_engines_are_well(name):
    verdict = asyncio.run(play(name, 2.0, clients=30))
    assert faults(verdict) == [], verdict.faults
    assert verdict.outcomes[Outcome.WHOLE] > 30


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
@pytest.mark.parametrize("name", ["keeper ends", "worker ends", "replaced", "killed"])
def test_several_processes_are_one_whatever_ends(name):
    verdict = asyncio.run(play(name, 3.0, "--workers=3", clients=30))
    assert faults(verdict) == [], verdict.faults
    assert verdict.outcomes[Outcome.WHOLE] > 30


def test_a_crowd_that_must_be_refused_is_seen_to_be():
    """The control: a queue that takes nobody in is found."""
    verdict = asyncio.run(play("healthy", 1.0, "--wait-limit=0.001", "--streams=1", clients=10))
    assert any("refused" in fault for fault in faults(verdict))
