"""The vocabulary: the frozen values that every other room speaks.

Nothing here does I/O, reads a clock or knows a framework; nothing here knows a public API format either.
"""
