"""Reproducible measurements of Standpipe beside its peers. Nothing here is a test, and no test is timed."""
