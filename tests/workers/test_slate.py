from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from standpipe.workers.slate import _HEAD, _ROOM, Slate


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_what_was_written_last_is_read(texts):
    slate = Slate()
    assert slate.read() == b""
    for text in texts:
        assert slate.write(text)
        assert slate.read() == text


def test_what_is_too_long_leaves_the_former():
    slate = Slate()
    slate.write(b"short")
    assert not slate.write(b"x" * _ROOM)
    assert slate.read() == b"short"


@given(st.binary(min_size=1, max_size=50), st.binary(min_size=1, max_size=50), st.data())
def test_a_writing_that_was_cut_off_anywhere_leaves_the_former(former, latter, data):
    slate, other = Slate(), Slate()
    for one in (slate, other):
        one.write(former)
    other.write(latter)
    at = slate._written + 1
    half = at % 2 * _ROOM
    whole = other._memory[half : half + _HEAD.size + len(latter)]
    # Memory is written in any order: some bytes of the new half are there, others are not.
    there = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    for n, (byte, is_there) in enumerate(zip(whole, there, strict=True)):
        if is_there:
            slate._memory[half + n] = byte
    assert slate.read() == (latter if slate._memory[half : half + len(whole)] == whole else former)


def test_a_child_writes_and_another_reads():
    slate = Slate()
    for text in (b"one", b"two", b"three"):
        if not (pid := os.fork()):
            slate.write(text)
            os._exit(0)
        os.waitpid(pid, 0)
        assert slate.read() == text
