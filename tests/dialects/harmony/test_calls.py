from __future__ import annotations

import json

import pytest

from standpipe.dialects.harmony.calls import guess_call, is_object, parallel_calls, read_arguments, signatures
from tests.gptoss.corpus import tool

DECLARED = signatures(
    [tool("bash", ["command"]), tool("shell", ["command"]), tool("grep", ["path", "pattern"]), tool("now")]
)


def arguments(text: str, name: str = "bash", *, says_json: bool = True, whole: bool = True) -> str | None:
    return read_arguments(text, name, DECLARED[name], says_json=says_json, whole=whole)


@pytest.mark.parametrize("text", ['{"command":"ls"}', '{\n  "command": "ls {}"\n}', '{"command":"a\\u00e9\\""}', "{}"])
def test_an_object_is_given_as_it_was_written(text: str) -> None:
    assert arguments(text) == text
    assert arguments(f"\n {text} ] and more") == text


@pytest.mark.parametrize("unit", ["'", "\\'", '"', '\\"', ",", ", ", "{'a':", "[", "True", "'a',", '{"a":"'])
def test_mending_takes_time_in_proportion_to_the_text(unit: str) -> None:
    """Steps are bounded by the text's length: a hundred thousand characters are read at once, or never."""
    arguments("{" + unit * (100_000 // len(unit)))


def test_several_calls_in_one_envelope_are_those_of_declared_tools() -> None:
    uses = [("functions.bash", {"command": "ls"}), ("nothing", {}), ("now", {})]
    named = [{"recipient_name": name, "parameters": parameters} for name, parameters in uses]
    envelope = {"tool_uses": [{}, 3, *named]}
    assert parallel_calls(json.dumps(envelope), DECLARED, whole=True) == [("bash", '{"command":"ls"}'), ("now", "{}")]
    for none in ("", "{}", "[]", '{"tool_uses":3}', json.dumps(envelope)[:60]):
        assert parallel_calls(none, DECLARED, whole=False) == []


def test_half_of_a_surrogate_pair_stays_the_escape_that_it_was() -> None:
    for text in ('{"command":"\\ud800"}', '[{"command":"\\ud800\\u00e9"}]', '{"command":"\\udfff\n"}'):
        mended = arguments(text)
        assert mended is not None
        assert mended.encode()
        assert json.loads(mended)["command"][0] in "\ud800\udfff"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ('{"command":"ls"]', '{"command":"ls"}'),
        ('{"command":["a","b"}]', '{"command":["a","b"]}'),
        ('[{"command":"ls"}]', '{"command":"ls"}'),
        ('```json\n{"command":"ls"}\n```', '{"command":"ls"}'),
        ('json{"command":"ls"}', '{"command":"ls"}'),
        ('{"name":"bash","parameters":{"command":"ls"}}', '{"command":"ls"}'),
        ('{"name":"functions.bash","arguments":"{\\"command\\":\\"ls\\"}"}', '{"command":"ls"}'),
        ('{"command":"two\nlines"}', '{"command":"two\\nlines"}'),
    ],
)
def test_what_can_only_mean_one_thing_is_mended(text: str, mended: str) -> None:
    assert arguments(text) == mended


@pytest.mark.parametrize(
    "text", ['{"command":"l', '{"command":', "{", '{"command":NaN}', "[1,2]", '"ls"', "3", "[" * 9999]
)
def test_what_is_no_whole_object_is_no_arguments(text: str) -> None:
    assert arguments(text) is None


def test_bare_code_is_wrapped_for_a_tool_that_takes_one_text() -> None:
    assert arguments("ls -l", says_json=False) == '{"command": "ls -l"}'
    assert arguments("ls -l") is None
    assert arguments("ls -l", says_json=False, whole=False) is None
    assert arguments("x", "grep", says_json=False) is None


def test_nothing_is_enough_for_a_tool_that_needs_nothing() -> None:
    assert arguments(" ", "now") == "{}"
    assert arguments(" ", "bash") is None
    assert arguments("", "now", whole=False) is None


def test_a_call_without_a_recipient_is_of_the_one_tool_that_fits() -> None:
    assert guess_call('{"path":"/","pattern":"x"}', DECLARED) == ("grep", '{"path":"/","pattern":"x"}')
    assert guess_call('{"name":"shell","arguments":{"command":"ls"}}', DECLARED) == ("shell", '{"command":"ls"}')
    for text in ('{"command":"ls"}', "{}", '{"other":1}', "no", '{"path":"/"}'):
        assert guess_call(text, DECLARED) is None


def test_schemas_of_any_shape_are_taken() -> None:
    from standpipe.chat.ask import Tool

    odd = [Tool("a"), Tool("b", None, {"properties": 3, "required": "x"}), Tool("c", None, {"required": [1, "k"]})]
    assert signatures(odd)["c"].needed == {"k"}


def test_brackets_nested_beyond_reason_are_refused_not_crashed_on() -> None:
    deep = '{"a":' * 100_000
    assert not is_object(deep)
    assert json.loads(arguments('{"command":' + "[" * 50 + "]" * 50 + "}") or "")
