import pytest

from tests.edge.rig import LOOPS


@pytest.fixture(params=LOOPS)
def loop(request):
    """The name of each event loop that can be chosen."""
    return request.param
