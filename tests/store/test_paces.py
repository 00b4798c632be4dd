from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Go, Rate, Refuse, Wait
from standpipe.store.paces import Paces

RATE = Rate(500_000, 2)


def client(number: int) -> ClientKey:
    return ClientKey(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "10.0.0.0/24")


def test_each_client_has_its_own_pace():
    paces = Paces()
    assert paces.reserve(client(1), 0, RATE) == Go(500_000)
    assert paces.reserve(client(1), 0, RATE) == Wait(500_000, 1_000_000)
    assert paces.reserve(client(2), 0, RATE) == Go(500_000)


def test_a_refused_ask_uses_nothing_and_a_cancelled_one_gives_back():
    paces = Paces()
    for _ in range(3):
        paces.reserve(client(1), 0, RATE)
    assert isinstance(paces.reserve(client(1), 0, RATE), Refuse)
    paces.cancel(client(1), 1_000_000, RATE)
    assert paces.reserve(client(1), 0, RATE) == Wait(1_000_000, 1_500_000)
    assert paces.peek(client(1), 0, RATE).remaining == 0


def test_clients_whose_instant_has_passed_are_forgotten():
    paces = Paces()
    for number in range(50_000):
        paces.reserve(client(number), number * 1000, RATE)
    assert len(paces) < 2_100
