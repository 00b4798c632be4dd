"""What servers tell of their models: lists in all known shapes, and how much fits into a model's context;
and how much they have to do.

Pure: bytes in, names and cards out. What cannot be read is as good as not told.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from standpipe.dialects.engine_output import count
from standpipe.engines.engine import Card

_WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""vLLM and SGLang; routers of hosted models; Groq; LM Studio."""


def listed(body: bytes) -> dict[str, Card]:
    """The models of a list, in whatever of the known shapes it comes; none in any other."""
    found = _decoded(body)
    if isinstance(found, dict):
        found = found.get("data") or found.get("models")
    if not isinstance(found, list):
        return {}
    return {name: _card(model) for model in found if (name := _name(model))}


def of_llama(body: bytes) -> Card:
    """Of llama-server's GET /props: the context of one slot."""
    found = _decoded(body)
    settings = found.get("default_generation_settings") if isinstance(found, dict) else None
    return Card(window=_tokens(settings.get("n_ctx")) if isinstance(settings, dict) else None)


def of_ollama(body: bytes) -> Card:
    """Of Ollama's POST /api/show: the context that the model is set to, else the most that it can; what it can do."""
    found = _decoded(body)
    if not isinstance(found, dict):
        return Card()
    told = re.search(r"^num_ctx\s+(\d{1,9})", str(found.get("parameters")), re.MULTILINE)
    info = found.get("model_info")
    most = next((v for k, v in info.items() if k.endswith(".context_length")), None) if isinstance(info, dict) else None
    can = found.get("capabilities")
    return Card(_tokens(told[1] if told else most), "completion" in can if isinstance(can, list) and can else None)


def at_work(body: bytes) -> int | None:
    """How many asks a server works on or keeps waiting, whoever sent them: of vLLM's and SGLang's GET /metrics, or of
    llama-server's GET /slots. None where it does not tell."""
    found = _decoded(body)
    if isinstance(found, list):
        return sum(isinstance(slot, dict) and slot.get("is_processing") is True for slot in found)
    told = [int(value) for value in _AT_WORK.findall(body)]
    return sum(told) if told else None


_AT_WORK = re.compile(
    rb"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs)"
    rb"(?:\{[^}\n]*\})? (\d{1,9})(?:\.0*)?\s*$",
    re.MULTILINE,
)


def _card(model: Any) -> Card:
    if not isinstance(model, dict):
        return Card()
    return Card(next((tokens for key in _WINDOWS if (tokens := _tokens(model.get(key)))), None))


def _name(model: Any) -> str | None:
    if isinstance(model, dict):
        model = model.get("id") or model.get("name") or model.get("model")
    return model if isinstance(model, str) else None


def _tokens(told: Any) -> int | None:
    found = count(told)
    return found if found is not None and found > 0 else None


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
