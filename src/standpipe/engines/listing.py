"""What servers tell of their models: lists in all known shapes, how much fits into a model's context, and whether it
sees images; and how much they have to do.

Pure: bytes in, names and cards out. What cannot be read is as good as not told.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from standpipe.chat.ask import JsonObject
from standpipe.dialects.engine_output import count
from standpipe.engines.engine import Card

_WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""vLLM and SGLang; routers of hosted models; Groq; LM Studio."""
SHOWN: list[JsonObject] = [
    {
        "role": "user",
        "content": [
            {
                "type": "image_url",
                "image_url": {
                    "url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAD0lEQVR42mNgGAWjgHwA"
                    "AAJAAAHgTR1EAAAAAElFTkSuQmCC"
                },
            }
        ],
    }
]
"""A conversation that shows an image, a black square of 64 pixels, to try whether a server takes one."""
_EYES = frozenset({"image", "image_input", "multimodal", "vision"})


def listed(body: bytes) -> dict[str, Card]:
    """The models of a list, in whatever of the known shapes it comes; none in any other."""
    found = _decoded(body)
    if isinstance(found, dict):
        found = found.get("data") or found.get("models")
    if not isinstance(found, list):
        return {}
    return {name: _card(model) for model in found if (name := _name(model))}


def of_llama(body: bytes) -> Card:
    """Of llama-server's GET /props: the context of one slot, and whether it has a projector for images."""
    found = _decoded(body)
    if not isinstance(found, dict):
        return Card()
    settings, modes = found.get("default_generation_settings"), found.get("modalities")
    window = _tokens(settings.get("n_ctx")) if isinstance(settings, dict) else None
    return Card(window, sees=_switch(modes.get("vision")) if isinstance(modes, dict) else None)


def of_sglang(body: bytes) -> Card:
    """Of SGLang's GET /get_model_info."""
    found = _decoded(body)
    return Card(sees=_switch(found.get("has_image_understanding")) if isinstance(found, dict) else None)


def of_ollama(body: bytes) -> Card:
    """Of Ollama's POST /api/show: the context that the model is set to, else the most that it can; what it can do."""
    found = _decoded(body)
    if not isinstance(found, dict):
        return Card()
    told = re.search(r"^num_ctx\s+(\d{1,9})", str(found.get("parameters")), re.MULTILINE)
    info = found.get("model_info")
    most = next((v for k, v in info.items() if k.endswith(".context_length")), None) if isinstance(info, dict) else None
    can = found.get("capabilities")
    can = can if isinstance(can, list) and can else None
    return Card(
        _tokens(told[1] if told else most),
        chats=None if can is None else "completion" in can,
        sees=None if can is None else "vision" in can,
    )


def at_work(body: bytes) -> tuple[int, int] | None:
    """How many asks a server has, whoever sent them, and how many of these it keeps waiting: of vLLM's and SGLang's GET
    /metrics, or of llama-server's GET /slots. None where it does not tell."""
    found = _decoded(body)
    if isinstance(found, list):
        return sum(isinstance(slot, dict) and slot.get("is_processing") is True for slot in found), 0
    told = [(which, int(value)) for which, value in _AT_WORK.findall(body)]
    queued = sum(value for which, value in told if which != b"running")
    return (sum(value for _, value in told), queued) if told else None


_AT_WORK = re.compile(
    rb"^(?:vllm:num_requests_|sglang:num_)(running|waiting|queue)(?:_reqs)?"
    rb"(?:\{[^}\n]*\})? (\d{1,9})(?:\.0*)?\s*$",
    re.MULTILINE,
)


def _card(model: Any) -> Card:
    if not isinstance(model, dict):
        return Card()
    window = next((tokens for key in _WINDOWS if (tokens := _tokens(model.get(key)))), None)
    return Card(window, sees=_sees(model))


def _sees(model: dict[str, Any]) -> bool | None:
    """By a list of what goes in (OpenRouter, llama-server, a Standpipe), or a list or a table of what it can do."""
    built, can = model.get("architecture"), model.get("capabilities")
    for told in (model.get("input_modalities"), built.get("input_modalities") if isinstance(built, dict) else None):
        if isinstance(told, list):
            return "image" in told
    if isinstance(can, dict):
        return _switch(can.get("vision"))
    return None if not isinstance(can, list) or _EYES.isdisjoint(map(str, can)) else True


def _name(model: Any) -> str | None:
    if isinstance(model, dict):
        model = model.get("id") or model.get("name") or model.get("model")
    return model if isinstance(model, str) else None


def _switch(told: Any) -> bool | None:
    return told if isinstance(told, bool) else None


def _tokens(told: Any) -> int | None:
    found = count(told)
    return found if found is not None and found > 0 else None


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
