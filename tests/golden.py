"""Golden transcripts: what was written once, read by a person, and must come out the same ever after.

They are in `tests/transcripts`. `UPDATE_TRANSCRIPTS=1 pytest` writes them anew; read the difference before you commit
it.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "transcripts"


def check(name: str, written: bytes) -> None:
    """Hold some bytes against the transcript of that name."""
    path = FOLDER / name
    if os.environ.get("UPDATE_TRANSCRIPTS") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
    assert written.decode() == path.read_bytes().decode()


def read(name: str) -> bytes:
    """A transcript that a test takes as its input."""
    return (FOLDER / name).read_bytes()
