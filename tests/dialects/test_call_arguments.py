import msgspec
import pytest

from standpipe.chat.errors import EngineFailed
from standpipe.dialects.call_arguments import as_object, is_object


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ("", b"{}"),
        ("{}", b"{}"),
        ('{\n "city": "Oslo\\n",\r\n "n": [1, 2.50, 123456789012345678901234567890]\n}',
         b'{"city":"Oslo\\n","n":[1,2.50,123456789012345678901234567890]}'),
        (' {"a": "b  c"} ', b'{"a":"b  c"}'),
    ],
)  # fmt: skip
def test_an_object_goes_out_on_one_line_as_it_is(arguments, written):
    assert msgspec.json.encode(as_object(arguments)) == written


@pytest.mark.parametrize("arguments", ["{", "[]", "null", '"{}"', "{'a': 1}", '{"a":1}}', "[" * 100_000, "city=Oslo"])
def test_anything_else_is_a_failure(arguments):
    assert not is_object(arguments)
    with pytest.raises(EngineFailed, match="JSON object"):
        as_object(arguments)


def test_nothing_is_no_whole_object():
    assert not is_object("")
