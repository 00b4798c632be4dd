import pytest

from tests.edge.rig import OURS, SHELLS


@pytest.fixture(params=SHELLS)
def shell(request):
    """Every shell, each on a loop that it is used with."""
    return request.param


@pytest.fixture(params=OURS)
def ours(request):
    """Our own protocol, for what ASGI servers have no words for."""
    return request.param
