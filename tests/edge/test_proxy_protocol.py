from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.edge.proxy_protocol import Malformed, Vouched, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 65535 80\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 1]) + b"\x13\x88\x00\x50"


@pytest.mark.parametrize("header", [V1, V2])
def test_a_header_is_whole_only_with_its_last_byte(header):
    for end in range(1, len(header)):
        assert parse(header[:end]) is None
    assert parse(header + b"GET /") == Vouched(len(header), "192.0.2.7")


def test_addresses_come_out_in_one_form():
    line = b"PROXY TCP6 2001:DB8:0:0::0007 ::1 1 2\r\n"
    assert parse(line) == Vouched(len(line), "2001:db8::7")


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x20\x11\x00\x0c" + V2[16:],
        SIGNATURE + b"\x21\x31\x00\x02ab",
    ],
)
def test_a_proxy_may_speak_for_itself(header):
    assert parse(header + b"GET /") == Vouched(len(header), None)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\nGET",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 80\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 80\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.777 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n",
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY " + b"x" * 101,
        SIGNATURE + b"\x11\x11\x00\x0c" + V2[16:],
        SIGNATURE + b"\x22\x11\x00\x0c" + V2[16:],
        SIGNATURE + b"\x21\x11\x00\x04\x00\x00\x00\x00",
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_anything_else_is_malformed(data):
    with pytest.raises(Malformed):
        parse(data)


@given(st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 "]), st.binary(max_size=120))
def test_no_bytes_do_anything_else(start, data):
    with contextlib.suppress(Malformed):
        result = parse(start + data)
        assert result is None or 0 < result.size <= len(start + data)
