"""JSON text that survives being cut into lines by anybody.

JSON leaves three characters unescaped that Unicode calls line ends: U+0085, U+2028 and U+2029. The framings do not
see them as such, but clients that cut a stream with a Unicode-aware `splitlines` do, and then fail on half a frame.
Escaped they mean the same to every JSON parser.
"""

from __future__ import annotations

from msgspec.json import Encoder

_encode = Encoder().encode


def quote(value: object) -> bytes:
    """Any value that msgspec can encode, as JSON on one line by anybody's reckoning."""
    encoded = _encode(value)
    if encoded.isascii():
        return encoded
    # Outside of strings JSON is ASCII, so these bytes are characters of a string.
    return (
        encoded.replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
        .replace(b"\xc2\x85", b"\\u0085")
    )
