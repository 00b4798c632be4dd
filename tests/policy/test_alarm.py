from standpipe.policy.alarm import Alarm, ProxyWarning
from standpipe.policy.identity import PEER, ClientKey, Identity, Suspicion


def asks(count, suspicion=None, address=None):
    return [
        Identity(ClientKey(address or f"10.0.0.{number}", "10.0.0.0/24"), PEER, suspicion) for number in range(count)
    ]


def watch(alarm, identities):
    return [found for found in map(alarm.observe, identities) if found]


def test_many_clients_are_nothing_to_warn_of():
    alarm = Alarm(window=10)
    assert watch(alarm, asks(30)) == []


def test_one_address_for_most_asks_is_told_once():
    alarm = Alarm(window=10)
    assert watch(alarm, asks(8, address="10.0.0.9") + asks(2)) == [{ProxyWarning.ONE_ADDRESS}]
    assert watch(alarm, asks(10, address="10.0.0.9")) == []


def test_it_is_told_again_after_it_was_gone():
    alarm = Alarm(window=10)
    watch(alarm, asks(10, address="10.0.0.9"))
    watch(alarm, asks(10))
    assert watch(alarm, asks(10, address="10.0.0.9")) == [{ProxyWarning.ONE_ADDRESS}]


def test_forwarding_headers_that_are_not_trusted_are_told():
    assert watch(Alarm(window=10), asks(10, Suspicion.UNTRUSTED)) == [{ProxyWarning.UNTRUSTED_PROXY}]


def test_a_proxy_that_names_nobody_is_told():
    assert watch(Alarm(window=10), asks(10, Suspicion.UNUSABLE)) == [{ProxyWarning.SILENT_PROXY}]


def test_a_few_are_no_alarm():
    assert watch(Alarm(window=10), asks(7, Suspicion.UNTRUSTED) + asks(3)) == []


def test_an_unfinished_window_says_nothing():
    alarm = Alarm(window=10)
    assert watch(alarm, asks(9, address="10.0.0.9")) == []
    assert watch(alarm, asks(1, address="10.0.0.9")) == [{ProxyWarning.ONE_ADDRESS}]
