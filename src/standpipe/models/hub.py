"""The Hugging Face hub, through its own package.

Files go where that package keeps all of them, so that other programs on this machine share them. It resumes, and
shows its own progress.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from standpipe.models.catalog import Entry, ModelUnavailable, OnHub


def cached(entry: Entry, source: OnHub) -> tuple[Path, ...] | None:
    """All files of the model, when this machine has them. Touches no network."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  # an extra, and slow to import

    found = [try_to_load_from_cache(source.repository, file.name, revision=source.revision) for file in entry.files]
    paths = tuple(Path(path) for path in found if isinstance(path, str))
    return paths if len(paths) == len(entry.files) else None


def download(entry: Entry, source: OnHub) -> tuple[Path, ...]:
    """Bring all files of the model. Raises ModelUnavailable."""
    names = ", ".join(file.name for file in entry.files)
    instead = (
        f"Or fetch {names} from {source.repository} (revision {source.revision[:7]}) on another machine and name the "
        "file, as in --engine embedded:/path/model.gguf. Or use another engine: --engine http://host:8000/v1."
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
            f"{entry.title} could not be fetched from the Hugging Face hub: "
            f"{reason[0] if reason else type(error).__name__} {instead}"
        ) from error
