"""What is typed, and what comes of it."""

import pytest

from standpipe import __version__
from standpipe.cli import main, template
from standpipe.settings import fields


def said(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(words)
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_it_says_which_version_it_is(capsys):
    assert said(capsys, "--version") == (0, f"standpipe {__version__}\n", "")


def test_help_shows_every_setting_in_its_group(capsys):
    code, out, _ = said(capsys, "serve", "--help")
    assert code == 0
    at = [out.index(f"{field.group}:") for field in fields()]
    assert at == sorted(at)
    assert all(field.flag in out for field in fields())


def test_init_writes_a_settings_file_once(capsys, tmp_path):
    file = tmp_path / "tap.toml"
    assert said(capsys, "init", str(file))[0] == 0
    assert file.read_text() == template()
    file.write_text("mine")
    code, _, err = said(capsys, "init", str(file))
    assert (code, file.read_text()) == (1, "mine")
    assert "File exists" in err
    assert said(capsys, "init", "-")[1] == template()


def test_a_wrong_setting_ends_with_2_and_a_sentence(capsys):
    code, _, err = said(capsys, "check", "--port", "x")
    assert code == 2
    assert err.startswith("standpipe: port (from --port)")
