import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.policy.address import Address, parse, parse_node

V4 = Address(4, 0xCB007107)
V6 = Address(6, 0x20010DB8_00010002_00000000_00000009)

SPELLED = {
    "203.0.113.7": V4,
    "203.0.113.7:1": V4,
    "203.0.113.7:65535": V4,
    " 203.0.113.7\t": V4,
    "203.0.113.7:_hidden": V4,
    "::ffff:203.0.113.7": V4,
    "::ffff:cb00:7107": V4,
    "::FFFF:CB00:7107": V4,
    "[::ffff:203.0.113.7]:99": V4,
    "64:ff9b::203.0.113.7": V4,
    "64:ff9b::cb00:7107": V4,
    "0064:ff9b:0:0:0:0:203.0.113.7": V4,
    "[64:ff9b::cb00:7107]": V4,
    "2001:db8:1:2::9": V6,
    "2001:DB8:1:2::9": V6,
    "2001:0db8:0001:0002:0000:0000:0000:0009": V6,
    "[2001:db8:1:2::9]": V6,
    "[2001:db8:1:2::9]:443": V6,
    "[2001:db8:1:2::9]:_x": V6,
    "2001:db8:1:2::9%eth0": V6,
    "[2001:db8:1:2::9%25eth0]:80": V6,
}

GARBAGE = [
    "", " ", "unknown", "_hidden", "localhost", "example.com", "*", "-", "null", "0", "127.1", "1.2.3", "1.2.3.4.5",
    "256.1.1.1", "1.2.3.04", "01.2.3.4", "0x7f.0.0.1", "1.2.3.4/24", "1.2.3.4 5.6.7.8", "1.2.3.4;5.6.7.8", "1,2",
    "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:123456", "1.2.3.4:-1", "1.2.3.4: 80", "1.2.3.4:80:90", "1.2.3.4:_",
    "1.2.3.4x", "[1.2.3.4]", "[1.2.3.4]:80", "[", "]", "[]", "[::1", "::1]", "[::1]x", "[::1]:", "[::1]:99999",
    "[::1]80", "[[::1]]", ":", ":::", "::1::2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::1", "12345::1",
    "::ffff:1.2.3", "::1/64", '"1.2.3.4"', "'1.2.3.4'", "for=1.2.3.4", "http://1.2.3.4", "1.2.3.4\x00", "1.2.3.4\n",
    "\u0661.2.3.4", "\uff11.2.3.4", "1\u30022.3.4", "1.2.3.4" + " " * 200 + "x", "a" * 100_000, "1." * 30_000,
    ":" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("text", SPELLED)
def test_one_host_is_one_address_however_it_is_spelled(text):
    assert parse_node(text) == SPELLED[text]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: repr(text[:20]))
def test_what_is_not_one_address_is_nobody(text):
    assert parse_node(text) is None


def test_a_socket_reports_no_brackets_and_no_port():
    assert parse("203.0.113.7") == V4
    assert parse("fe80::1%eth0") == Address(6, 0xFE80 << 112 | 1)
    assert parse("203.0.113.7:80") is None
    assert parse("[::1]") is None
    assert parse("1" * 200) is None


@pytest.mark.parametrize(
    "text", ["::1", "::", "2002:cb00:7107::1", "2001::1", "64:ff9b:1::1", "::cb00:7107", "::fffe:1"]
)
def test_other_addresses_of_ipv6_stay_what_they_are(text):
    address = parse(text)
    assert address is not None
    assert address.version == 6


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_nobody(text):
    assert parse_node(text) is None or isinstance(parse_node(text), Address)
