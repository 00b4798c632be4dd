import subprocess
import sys
import tempfile

import pytest

from standpipe.engines.llama.life import Folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_nobody_else_may_enter_it_and_it_goes_with_all_that_is_in_it(place):
    folder = Folder()
    assert folder.path.stat().st_mode & 0o077 == 0
    (folder.path / "something").write_text("")
    folder.close()
    folder.close()
    assert list(place.iterdir()) == []


def test_folders_in_use_are_left_alone(place):
    first, second = Folder(), Folder()
    assert {first.path, second.path} == set(place.iterdir())
    first.close()
    second.close()


def test_what_a_killed_process_left_is_removed(place):
    leave = "import os; from standpipe.engines.llama.life import Folder; f = Folder(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", leave], check=False)
    (left,) = place.iterdir()
    folder = Folder()
    assert list(place.iterdir()) == [folder.path] != [left]
    folder.close()


def test_folders_of_others_and_new_ones_without_a_lock_yet_stay(place):
    (place / "standpipe-new").mkdir()
    (place / "standpipe-file").write_text("")
    Folder().close()
    assert {path.name for path in place.iterdir()} == {"standpipe-new", "standpipe-file"}
