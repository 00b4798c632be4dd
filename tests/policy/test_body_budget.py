from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from standpipe.policy.body_budget import BodyBudget, Scarce
from standpipe.policy.identity import ClientKey

CLIENTS = [ClientKey(f"192.0.{n // 6}.{n}", f"192.0.{n // 6}.0/24") for n in range(12)]


@given(st.lists(st.tuples(st.sampled_from(CLIENTS), st.integers(1, 60)), max_size=60))
def test_whatever_comes_and_goes_no_budget_is_exceeded_by_more_than_one_body(steps):
    budget = BodyBudget(total=200, client=50)
    held = []
    for client, size in steps:
        if budget.scarce(client, size) is None:
            budget.charge(client, size)
            held.append((client, size))
        elif held:
            budget.charge(held[0][0], -held.pop(0)[1])
        clients = {one: [size for other, size in held if other == one] for one in CLIENTS}
        blocks = {one.block: [size for other, size in held if other.block == one.block] for one in CLIENTS}
        assert budget.held == sum(size for _, size in held)
        assert all(budget.of(one) == sum(sizes) for one, sizes in clients.items())
        assert all(sum(sizes) <= 50 or len(sizes) == 1 for sizes in clients.values())
        assert all(sum(sizes) <= 200 or len(sizes) == 1 for sizes in blocks.values())
        assert budget.held <= 200 or len(held) == 1


def test_the_narrowest_budget_is_told():
    budget = BodyBudget(total=100, client=20)
    assert budget.scarce(CLIENTS[0], 1000) is None  # who holds nothing may take something
    for client in CLIENTS[:4]:
        budget.charge(client, 20)
    assert budget.scarce(CLIENTS[0], 1) is Scarce.CLIENT
    assert budget.scarce(CLIENTS[4], 1) is Scarce.BLOCK
    assert budget.scarce(CLIENTS[7], 21) is Scarce.TOTAL
    assert budget.scarce(CLIENTS[7], 20) is None
