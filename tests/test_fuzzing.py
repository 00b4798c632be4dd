from __future__ import annotations

import sys

import pytest

from tests import fuzzing


def refuse_bangs(data, cuts):
    assert b"!" not in data, "a bang"


def test_what_fails_is_kept_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "FINDINGS", tmp_path / "fuzz")
    monkeypatch.setattr(sys, "argv", ["fuzzing", "--seconds", "5", "--seed", "1"])
    with pytest.raises(AssertionError, match="a bang") as caught:
        fuzzing.main(fuzzing.Target("bangs", (b"quiet",), (b"!",), refuse_bangs))
    (path,) = (tmp_path / "fuzz").iterdir()
    data = path.read_bytes()
    assert b"!" in data
    call, kept = caught.value.__notes__
    assert repr(data) in call
    assert str(path) in kept


def test_what_holds_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "FINDINGS", tmp_path / "fuzz")
    monkeypatch.setattr(sys, "argv", ["fuzzing", "--seconds", "0.01", "--seed", "1"])
    assert fuzzing.main(fuzzing.Target("any", (b"quiet",), (b"!",), lambda data, cuts: None)) == 0
    assert not (tmp_path / "fuzz").exists()
