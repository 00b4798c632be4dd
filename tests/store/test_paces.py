from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Go, Rate, Refuse, Wait
from standpipe.store.paces import MemoryStore
from tests.virtual import run

RATE = Rate(500_000, 2)


def client(number: int) -> ClientKey:
    return ClientKey(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "10.0.0.0/24")


def test_each_client_has_its_own_pace():
    async def scenario() -> None:
        store = MemoryStore()
        assert await store.reserve(client(1), 0, RATE) == Go(500_000)
        assert await store.reserve(client(1), 0, RATE) == Wait(500_000, 1_000_000)
        assert await store.reserve(client(2), 0, RATE) == Go(500_000)

    run(scenario())


def test_a_refused_ask_uses_nothing_and_a_cancelled_one_gives_back():
    async def scenario() -> None:
        store = MemoryStore()
        for _ in range(3):
            await store.reserve(client(1), 0, RATE)
        assert isinstance(await store.reserve(client(1), 0, RATE), Refuse)
        await store.cancel(client(1), 1_000_000, RATE)
        assert await store.reserve(client(1), 0, RATE) == Wait(1_000_000, 1_500_000)
        assert (await store.peek(client(1), 0, RATE)).remaining == 0

    run(scenario())


def test_clients_whose_instant_has_passed_are_forgotten():
    async def scenario() -> None:
        store = MemoryStore()
        for number in range(50_000):
            await store.reserve(client(number), number * 1000, RATE)
        assert store.statistics().clients < 2_100

    run(scenario())
