import msgspec
from hypothesis import given, settings

from standpipe.dialects.quote import quote
from tests.streams import TEXT


@settings(deadline=None)
@given(TEXT)
def test_quoted_text_is_json_and_one_line_to_everybody(text):
    quoted = quote(text)
    assert msgspec.json.decode(quoted) == text
    assert len(quoted.decode().splitlines()) == 1


def test_characters_that_unicode_calls_line_ends_are_escaped():
    assert quote("a\x85b\u2028c\u2029dé") == '"a\\u0085b\\u2028c\\u2029dé"'.encode()
