"""`[[engine]]` tables: what they say, and that a wrong one is told by its number, its name and its key."""

import re
from pathlib import Path

import pytest

from standpipe.configuration import load
from standpipe.engine_tables import EngineTable
from standpipe.settings import SettingsError, fields

SAMPLE = Path(__file__).parent.parent / "docs" / "engines.md"


def read(tmp_path, text):
    file = tmp_path / "standpipe.toml"
    file.write_text(text, encoding="utf-8")
    return load({}, {}, file).engine


def test_the_documented_sample_is_read_as_it_is_meant(tmp_path):
    sample, front, _ = re.findall(r"```toml\n(.*?)```", SAMPLE.read_text(encoding="utf-8"), re.DOTALL)
    (tier,) = read(tmp_path, front)
    assert tier.forward_clients
    a, b, rented = read(tmp_path, sample)
    assert (a.name, a.slots, a.weight, a.priority) == ("gpu-a", 32, 2.0, 0)
    assert b.models == {"gpt-oss:latest": "openai/gpt-oss-20b", "qwen3": "Qwen/Qwen3-8B"}
    assert (rented.priority, rented.models, rented.window) == (1, {"qwen3": "qwen3"}, 32768)
    assert rented.secret({"RENTED_KEY": "s"}) == "s"


def test_tables_and_urls_may_stand_side_by_side(tmp_path):
    one, other = read(tmp_path, 'engine = ["scripted:", { url = "http://a/v1", drain = true }]')
    assert one == "scripted:"
    assert other == EngineTable(url="http://a/v1", drain=True)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("slots = -1", r"slots is -1; allowed: auto, or an integer from 0 to 4096"),
        ("slots = 'x'", r"slots is 'x'"),
        ("weight = 0", r"weight is 0; allowed: a number from 0.01"),
        ("slot = 1", r"slot, which no engine has: did you mean slots\?"),
        ("port = 1", r"port, which is a setting: put it above the first \[\[engine\]\]"),
        ("models = { a = 1 }", r"models is .*; allowed: a list of names"),
        ("models = ['a', 1]", r"models is .*; allowed: a list of names"),
        ("name = 'b c'", r"name is 'b c'; allowed"),
        ("key = 'a'\nkey_env = 'B'", r"key and key_env are given"),
        ("headers = 'x'", r"headers is wrong; allowed"),
        ("drain = 'yes'", r"drain is 'yes'; allowed: true or false"),
    ],
)
def test_a_wrong_table_is_told_by_number_and_key(tmp_path, keys, told):
    with pytest.raises(SettingsError, match=f"engine 2.*in .*standpipe.toml.*{told}"):
        read(tmp_path, f"[[engine]]\nurl = 'scripted:'\n[[engine]]\nurl = 'http://a/v1'\n{keys}\n")


def test_a_table_without_a_url_is_told_by_its_name(tmp_path):
    with pytest.raises(SettingsError, match=r"engine 1 \(a\).*has no url"):
        read(tmp_path, "[[engine]]\nname = 'a'\n")


def test_no_secret_is_repeated(tmp_path):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "[[engine]]\nurl = 'http://a/v1'\nkey = ['hush']\n")
    assert "hush" not in str(caught.value)
    assert "secret" not in repr(EngineTable(url="http://secret@a", key="secret", headers={"a": "secret"}))


def test_a_key_is_a_text_a_variable_or_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert EngineTable(url="x").secret({}) is None
    assert EngineTable(url="x", key="k").secret({}) == "k"
    assert EngineTable(url="x", key_env="A").secret({"A": "v"}) == "v"
    assert EngineTable(url="x", key_file=str(file)).secret({}) == "from-file"
    with pytest.raises(ValueError, match="key_env names A, which is not set"):
        EngineTable(url="x", key_env="A").secret({})
    with pytest.raises(ValueError, match="key_file cannot be read: No such file"):
        EngineTable(url="x", key_file=str(tmp_path / "none")).secret({})
    file.write_text(" \n")
    with pytest.raises(ValueError, match="key_file is empty"):
        EngineTable(url="x", key_file=str(file)).secret({})


def test_every_row_is_complete():
    for field in fields(EngineTable):
        assert field.help, field.name
        assert field.allowed, field.name
