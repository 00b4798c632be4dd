"""Identity against an oracle: the truth is known of every hop before it is written down, so nothing is parsed twice."""

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.policy.address import parse
from standpipe.policy.identity import (
    PEER,
    UNIX,
    UNKNOWN,
    ClientKey,
    Identities,
    Identity,
    Suspicion,
    Trust,
    client_key,
    masked,
    pseudonym,
)

PROXY = "10.0.0.1"
PROXY_KEY = ClientKey("10.0.0.1", "10.0.0.0/24")
ALICE = ClientKey("203.0.113.7", "203.0.113.0/24")
BOB = ClientKey("2001:db8:1:2::/64", "2001:db8:1::/48")
TRUST = Trust.parse(["10.0.0.0/8", "fd00::/8"])
RFC7239 = Trust.parse(["10.0.0.0/8", "fd00::/8"], "Forwarded")

# Ways to write down Alice, Bob and two trusted proxies; the first of each is plain.
ALICES = ("203.0.113.7", "203.0.113.7:4711", "::ffff:203.0.113.7", "[::ffff:cb00:7107]:80", "64:ff9b::203.0.113.7")
BOBS = ("2001:db8:1:2::9", "[2001:db8:1:2:ffff::1]", "[2001:db8:1:2::9]:443", "2001:DB8:1:2::a%eth0")
NEAR = ("10.9.9.9", "10.9.9.9:99", "::ffff:10.9.9.9")
FAR = ("fd00::1", "[fd00:0:0:9::1]:80")
NEAR_KEY = ClientKey("10.9.9.9", "10.9.9.0/24")
NOBODY = ("unknown", "_hidden", "", "1.2.3", "1.2.3.4.5", "[::1", "256.1.1.1", "*")

KEYS = {ALICES: ALICE, BOBS: BOB, NEAR: NEAR_KEY}
CLIENTS = [(text, key) for texts, key in ((ALICES, ALICE), (BOBS, BOB)) for text in texts]
LIES = ("", "6.6.6.6, ", "6.6.6.6,7.7.7.7,", "unknown, ", '", ', ", , ,", "for=6.6.6.6;,")


def identify(peer=PROXY, trust=TRUST, **headers):
    lines = {name.replace("_", "-").encode(): values for name, values in headers.items()}
    return Identities(trust).identify(peer, lambda name: lines.get(name, []))


def corpus():
    """(lines, key, suspicion): what the client sent before, then what each trusted proxy added."""
    for lie, (text, key) in product(LIES, CLIENTS):
        yield [lie + text], key, None
        yield [lie, text] if lie else [text], key, None
        yield [f"{lie}{text}, {NEAR[0]}"], key, None
    for (text, key), near, far in product(CLIENTS, NEAR, FAR):
        yield [f"{text} ,\t{near},{far}"], key, None
        yield [text, near, far], key, None
        yield [f"{text},{near}", far], key, None
    for nobody, near in product(NOBODY, ("", *NEAR)):
        before = f"{ALICES[0]}, {nobody}"
        yield [f"{before}, {near}" if near else before], NEAR_KEY if near else PROXY_KEY, Suspicion.UNUSABLE
    for near in NEAR:
        yield [near], NEAR_KEY, None
        yield [f"{near}, {FAR[0]}"], NEAR_KEY, None


CORPUS = list(corpus())


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 200


@pytest.mark.parametrize(("lines", "key", "suspicion"), CORPUS)
def test_the_first_hop_from_the_right_that_is_not_trusted_is_the_client(lines, key, suspicion):
    assert identify(x_forwarded_for=lines) == Identity(key, "x-forwarded-for", suspicion)


def written(text, random):
    """A hop as an element of Forwarded."""
    name = random.choice(("for", "For", "FOR", " for"))
    value = f'"{text}"' if ":" in text or random.random() < 0.3 else text
    others = random.choice(([], ["proto=https"], ['host="a,b;c"'], ['by="[::1]"', 'x="\\"q\\\\"']))
    pairs = [f"{name}={value}", *others]
    random.shuffle(pairs)
    return random.choice(("; ", ";", " ;")).join(pairs)


@pytest.mark.parametrize(("lines", "key", "suspicion"), [case for case in CORPUS if '"' not in "".join(case[0])])
def test_forwarded_tells_the_same(lines, key, suspicion):
    random = Random(repr(lines))
    rewritten = [", ".join(written(hop.strip(), random) for hop in line.split(",")) for line in lines]
    assert identify(trust=RFC7239, forwarded=rewritten) == Identity(key, "forwarded", suspicion)


@pytest.mark.parametrize(
    "lie", ['for=6.6.6.6;host="', 'host="\\', "for=6.6.6.6", '"', 'for="6.6.6.6\\"', "=;=;,;", 'for=1.1.1.1, x="a\\"b']
)
def test_what_a_client_wrote_cannot_swallow_what_the_proxy_added(lie):
    assert identify(trust=RFC7239, forwarded=[f'{lie}, for="203.0.113.7:80"']).key == ALICE
    assert identify(trust=RFC7239, forwarded=[lie, "for=203.0.113.7"]).key == ALICE


@pytest.mark.parametrize(
    "element", ["proto=https", "for=a;for=203.0.113.7", 'for="203.0.113.7', "for", "for=", 'for="']
)
def test_an_element_without_exactly_one_address_is_nobody(element):
    assert identify(trust=RFC7239, forwarded=[element]) == Identity(PROXY_KEY, "forwarded", Suspicion.UNUSABLE)


@pytest.mark.parametrize("peer", ["203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::cb00:7107"])
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_sends(peer):
    plain = Identity(ALICE, PEER)
    told = Identity(ALICE, PEER, Suspicion.UNTRUSTED)
    assert identify(peer) == plain
    assert identify(peer, x_forwarded_for=["6.6.6.6"]) == told
    assert identify(peer, forwarded=["for=6.6.6.6"]) == told
    assert identify(peer, cf_connecting_ip=["6.6.6.6"]) == plain
    assert identify(peer, Trust.parse([], "CF-Connecting-IP"), cf_connecting_ip=["6.6.6.6"]) == told


@pytest.mark.parametrize("lie", ["", *LIES])
@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize(("text", "key"), CLIENTS)
def test_by_number_the_client_is_so_many_entries_from_the_right(lie, hops, text, key):
    added = [text, "100.64.0.1", "2001:db8:9::9"][:hops]
    for peer in ("198.51.100.7", "fd12::1", None):
        for lines in ([", ".join([lie + added[0], *added[1:]])], [lie, *added] if lie else added):
            assert identify(peer, Trust.parse([], hops=hops), x_forwarded_for=lines) == Identity(key, "x-forwarded-for")


@pytest.mark.parametrize("lines", [["203.0.113.7"], ["unknown, 203.0.113.7"], [""], []])
def test_by_number_whoever_came_another_way_is_whoever_connected_and_noticed(lines):
    found = identify(PROXY, Trust.parse([], hops=2), x_forwarded_for=lines)
    assert (found.key, found.suspicion) == (PROXY_KEY, Suspicion.UNUSABLE)


def test_by_number_only_the_named_header_counts():
    trust = Trust.parse([], "Forwarded", hops=1)
    assert not trust.unread
    found = identify(PROXY, trust, forwarded=["for=6.6.6.6, for=203.0.113.7"], x_forwarded_for=["6.6.6.6"])
    assert found == Identity(ALICE, "forwarded")


def test_a_trusted_proxy_that_tells_nothing_is_the_client_itself_and_noticed():
    assert identify() == Identity(PROXY_KEY, PEER, Suspicion.UNUSABLE)


BESIDE = ("forwarded", "x_real_ip", "x_client_ip", "client_ip", "cf_connecting_ip", "x_forwarded", "via")


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("lie", ["6.6.6.6", "for=6.6.6.6", "for=10.9.9.9", "unknown", "203.0.113.7", ""])
def test_no_other_header_is_looked_at(name, lie):
    plain = identify(x_forwarded_for=["203.0.113.7"])
    assert identify(x_forwarded_for=["203.0.113.7"], **{name: [lie]}) == plain == Identity(ALICE, "x-forwarded-for")
    assert identify(**{name: [lie]}) == Identity(PROXY_KEY, PEER, Suspicion.UNUSABLE)


def test_where_forwarded_is_named_it_alone_counts():
    told = identify(trust=RFC7239, forwarded=["for=203.0.113.7"], x_forwarded_for=["6.6.6.6"])
    assert told == Identity(ALICE, "forwarded")
    told = identify(trust=RFC7239, x_forwarded_for=["6.6.6.6"])
    assert told == Identity(PROXY_KEY, PEER, Suspicion.UNUSABLE)


class TestOneNamedHeader:
    trust = Trust.parse(["10.0.0.0/8"], "CF-Connecting-IP")

    @pytest.mark.parametrize(("text", "key"), CLIENTS)
    def test_is_the_client_and_no_other_header_counts(self, text, key):
        found = identify(trust=self.trust, cf_connecting_ip=[text], x_forwarded_for=["6.6.6.6"])
        assert found == Identity(key, "cf-connecting-ip")

    @pytest.mark.parametrize("lines", [["6.6.6.6, 203.0.113.7"], ["6.6.6.6", "203.0.113.7"], ["", "203.0.113.7"]])
    def test_is_read_from_the_right_like_any_other(self, lines):
        assert identify(trust=self.trust, cf_connecting_ip=lines).key == ALICE

    @pytest.mark.parametrize("lines", [[""], ["unknown"], ["203.0.113.7,"], ["203.0.113.7 6.6.6.6"]])
    def test_that_ends_in_no_address_is_the_proxy(self, lines):
        found = identify(trust=self.trust, cf_connecting_ip=lines, x_forwarded_for=["203.0.113.7"])
        assert found == Identity(PROXY_KEY, "cf-connecting-ip", Suspicion.UNUSABLE)

    def test_that_is_missing_is_the_proxy(self):
        found = identify(trust=self.trust, x_forwarded_for=["203.0.113.7"])
        assert found == Identity(PROXY_KEY, PEER, Suspicion.UNUSABLE)


class TestUnixSockets:
    def test_are_one_client(self):
        assert identify(None) == Identity(UNIX, PEER)

    def test_may_be_trusted(self):
        assert identify(None, Trust.parse(["unix"]), x_forwarded_for=["203.0.113.7"]).key == ALICE

    def test_are_not_trusted_by_themselves(self):
        assert identify(None, x_forwarded_for=["203.0.113.7"]) == Identity(UNIX, PEER, Suspicion.UNTRUSTED)


def test_a_peer_that_cannot_be_read_is_one_client_too():
    assert identify("no address").key == UNKNOWN
    assert identify("").key == UNKNOWN


class TestTrust:
    @pytest.mark.parametrize(
        "text", ["10.0.0.0/33", "10.0.0.1/8", "proxy.example", "", "*", "10.0.0.0/255.0.255.0", "fd00::/129"]
    )
    def test_names_what_is_wrong(self, text):
        with pytest.raises(ValueError, match="is not an address, a network") as raised:
            Trust.parse(["10.0.0.0/8", text])
        assert repr(text) in str(raised.value)

    @pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "::ffff:0:0/96"])
    def test_never_holds_everybody(self, text):
        with pytest.raises(ValueError, match="whole internet"):
            Trust.parse([text])

    def test_reads_mapped_networks_as_what_they_are(self):
        assert Trust.parse(["::ffff:10.0.0.0/104"]).proxies == Trust.parse(["10.0.0.0/8"]).proxies

    def test_knows_whether_a_header_is_named_for_nobody(self):
        assert not Trust.parse([]).unread
        assert Trust.parse([], "CF-Connecting-IP").unread
        assert not Trust.parse(["unix"], "CF-Connecting-IP").unread
        assert not Trust.parse(["10.0.0.1"], "CF-Connecting-IP").unread

    def test_a_single_address_is_a_network_of_one(self):
        assert identify("10.0.0.2", Trust.parse(["10.0.0.1"]), x_forwarded_for=["203.0.113.7"]).via == PEER


class TestTiers:
    TRUST = Trust.parse(["10.0.0.0/8", "fd00::/8"], "CF-Connecting-IP", ["192.0.2.1"])
    PACED = ClientKey("203.0.113.7", "203.0.113.0/24", paced=True)

    def test_whom_a_tier_names_it_has_paced_and_so_it_has_itself(self):
        assert identify("192.0.2.1", self.TRUST, x_forwarded_for=["203.0.113.7"]).key == self.PACED
        own = identify("192.0.2.1", self.TRUST)
        assert own.key.paced
        assert own.suspicion is Suspicion.UNUSABLE

    def test_a_tier_writes_one_header_whatever_proxies_write(self):
        lines = {"x_forwarded_for": ["203.0.113.7"], "cf_connecting_ip": ["6.6.6.6"]}
        assert identify("192.0.2.1", self.TRUST, **lines) == Identity(self.PACED, "x-forwarded-for")
        assert identify(PROXY, self.TRUST, **lines).key == ClientKey("6.6.6.6", "6.6.6.0/24")

    def test_a_tier_behind_a_proxy_counts_too_and_no_claim_to_be_one(self):
        trust = Trust.parse(["10.0.0.0/8"], tiers=["192.0.2.1"])
        assert identify(trust=trust, x_forwarded_for=["203.0.113.7, 192.0.2.1"]).key == self.PACED
        assert identify(trust=trust, x_forwarded_for=["fd00::1, 192.0.2.1, 203.0.113.7"]).key == ALICE
        assert identify("6.6.6.6", trust, x_forwarded_for=["203.0.113.7, 192.0.2.1"]).key.address == "6.6.6.6"

    def test_a_socket_may_be_a_tiers(self):
        assert identify(None, Trust.parse([], tiers=["unix"]), x_forwarded_for=["203.0.113.7"]).key == self.PACED

    @given(st.lists(st.ip_addresses(), min_size=2, max_size=8), st.binary(min_size=32, max_size=32))
    def test_pseudonyms_tell_clients_and_blocks_apart_and_nothing_else(self, addresses, secret):
        keys = [client_key(parse(str(address))) for address in addresses]
        named = [identify("192.0.2.1", self.TRUST, x_forwarded_for=[pseudonym(key, secret)]).key for key in keys]
        for key, name in zip(keys, named, strict=True):
            assert name.paced
            for other, its_name in zip(keys, named, strict=True):
                assert (key.block == other.block) == (name.block == its_name.block)
                assert key != other or name == its_name

    def test_neighbours_have_pseudonyms_of_their_own_that_another_key_changes(self):
        keys = [client_key(parse(f"203.0.113.{number}")) for number in range(40)]
        assert len({pseudonym(key, secret) for key in keys for secret in (b"a" * 32, b"b" * 32)}) == 80


def test_addresses_are_shown_masked():
    assert masked(ALICE) == "203.0.113.x"
    assert masked(BOB) == "2001:db8:1:2::/64"
    assert masked(UNIX) == "unix"


def test_what_is_remembered_is_bounded_and_changes_nothing():
    identities = Identities(TRUST, remember=3)
    for number in range(50):
        found = identities.identify(f"203.0.113.{number % 7}", lambda _: [])
        assert found.key.address == f"203.0.113.{number % 7}"
    assert "3 peers remembered" in repr(identities)


def test_a_huge_header_is_read_no_further_than_needed():
    line = "6.6.6.6, " * 20_000 + "203.0.113.7"
    assert identify(x_forwarded_for=[line]).key == ALICE
    assert identify(trust=RFC7239, forwarded=['x="' * 20_000 + ", for=203.0.113.7"]).key == ALICE


@settings(deadline=None)
@given(st.lists(st.text(max_size=80), max_size=4), st.lists(st.text(max_size=80), max_size=4))
def test_whatever_comes_somebody_is_identified(first, second):
    assert isinstance(identify(x_forwarded_for=first, forwarded=second).key, ClientKey)
    assert identify(x_forwarded_for=first, forwarded=second) == identify(x_forwarded_for=first)
    assert isinstance(identify(trust=RFC7239, forwarded=second).key, ClientKey)


@settings(deadline=None)
@given(st.text(max_size=100), st.sampled_from(CLIENTS))
def test_no_text_of_the_client_moves_what_a_proxy_appended(lie, client):
    text, key = client
    assert identify(x_forwarded_for=[f"{lie},{text}"]).key == key
    assert identify(trust=RFC7239, forwarded=[f'{lie},for="{text}"']).key == key
