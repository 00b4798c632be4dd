"""What holds for all tests: none fails because a machine is slow, or because a browser is driven beside it."""

from pathlib import Path

from hypothesis import settings

settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")
_BROWSERS = Path(__file__).parent / "web"


def pytest_collection_modifyitems(items):
    """Whatever drives a browser comes last: it leaves a loop behind that runs until the end of the process."""
    items.sort(key=lambda item: item.path.is_relative_to(_BROWSERS))
