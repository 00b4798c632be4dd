"""What holds for all tests: none fails because a machine is slow."""

from hypothesis import settings

settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")
