"""The bodies of the paths on which Ollama's clients look for models. Which names there are is not known here.

A tap knows its models' names and nothing of their files, so sizes are 0 and details empty. A digest stands for the
name alone: clients insist on 64 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.json import encode

from standpipe.chat.ask import JsonObject
from standpipe.dialects.ollama.wire import timestamp

API_VERSION = "0.13.0"
"""The version of Ollama whose paths and fields these are. Clients refuse to talk to one that is too old."""

_NEVER = "9999-12-31T23:59:59Z"
_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def tags(names: Sequence[str], since: int) -> bytes:
    """The body of GET /api/tags. `since` is when the tap began to serve, in Unix seconds."""
    return encode({"models": [{**_model(name), "modified_at": timestamp(since)} for name in names]})


def running(names: Sequence[str]) -> bytes:
    """The body of GET /api/ps: every model is there, and stays."""
    return encode({"models": [{**_model(name), "expires_at": _NEVER, "size_vram": 0} for name in names]})


def show(name: str, since: int) -> bytes:
    """The body of POST /api/show. Any ask may have tools; only of gpt-oss it is known that it thinks."""
    thinks = ["thinking"] if is_gpt_oss(name) else []
    return encode(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _DETAILS,
            "model_info": {},
            "capabilities": ["completion", "tools", *thinks],
            "modified_at": timestamp(since),
        }
    )


def version(own: str) -> bytes:
    """The body of GET /api/version. `own` is our own version."""
    return encode({"version": API_VERSION, "standpipe": own})


def is_gpt_oss(name: str) -> bool:
    """Whether a model's name says so: `gpt-oss:20b`, `someone/gpt-oss-120b`."""
    return name.rpartition("/")[2].lower().startswith("gpt-oss")


def _model(name: str) -> JsonObject:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": 0, "digest": digest, "details": _DETAILS}
