"""A private folder for as long as its process lives, and no longer.

For what an engine's child needs on disk: its socket, and what it has read. A process that is killed cannot tidy up, so
the next one does. The theory: the owner holds a lock on a file inside; the system frees it however the owner ends, and
in whatever container it ran; a folder whose lock can be had is nobody's.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "standpipe-"
_LOCK: Final = "lock"


class Folder:
    """A new folder that nobody else may enter. Raises OSError."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.path / _LOCK, "x")

    def close(self) -> None:
        """Remove it and all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def __repr__(self) -> str:
        return f"<Folder {self.path.name}>"


def _sweep(place: Path) -> None:
    """Remove the folders of owners that are gone. Those that are not ours to enter, or not yet locked, stay."""
    for path in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _locked(path / _LOCK, "r+")
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                lock.close()


def _locked(path: Path, mode: str) -> IO[str] | None:
    """The file, locked; None while somebody else has the lock. Raises OSError."""
    file: IO[str] = path.open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
