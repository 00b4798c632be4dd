"""docs/compatibility.md: what becomes of every field of a request, and what answers hold beyond published formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from standpipe.dialects import bounds, reading
from tools.fields import IGNORED, Row
from tools.specimens import CHAT, EMBEDDINGS, LEGACY, RESPONSES, Section
from tools.specimens_native import ANTHROPIC, OLLAMA_CHAT, OLLAMA_GENERATE

SECTIONS = (CHAT, RESPONSES, LEGACY, EMBEDDINGS, ANTHROPIC, OLLAMA_CHAT, OLLAMA_GENERATE)
BEYOND = {
    "OpenAI Chat Completions": {
        "reasoning": "in a message and in a delta: what the model thought",
        "reasoning_content": "the same once more, because clients look for either",
        "queue": "in a chunk while the ask waits: `position` and `eta_seconds`",
    },
    "OpenAI Responses": {"queue": "in `response.queued`: `position` and `eta_seconds`"},
    "OpenAI Completions": {"queue": "in a chunk while the ask waits: `position` and `eta_seconds`"},
    "OpenAI errors": {"request_id": "beside `error`"},
    "Anthropic Messages": {
        "queue": "in a `ping` while the ask waits: `position` and `eta_seconds`",
        "estimated": "in a count of tokens: true, because no engine was asked",
        "error.details": "`error_code`, and `param` where a field is at fault",
    },
    "Ollama": {
        "queue": "in a line while the ask waits: `position` and `eta_seconds`",
        "request_id": "in an error, beside `error`",
        "standpipe": "in the version: our own",
    },
}
"""Fields of answers that no published format has."""


def page() -> str:
    """The whole page."""
    return "\n".join([*_head(), *(line for section in SECTIONS for line in _section(section)), *_beyond(), ""])


def _head() -> list[str]:
    return [
        "# Compatibility",
        "",
        "What becomes of every field of a request, for each format. This page is made by asking the codecs: each field",
        "of the official packages' request types was sent, and the notes are what Standpipe itself says to values that",
        "are wrong. Run `python -m tools.generate` to make it anew; a test holds it fresh.",
        "",
        "* **supported**: it is read, checked, and acted upon or handed to the engine, which may still refuse it.",
        "* **refused**: a 400 that names the field, because an answer that passes over it would not be what was asked",
        "  for. Null always means that a field was not sent.",
        "* **ignored**: it is accepted, and changes nothing.",
        "",
        "Fields that are in no table are ignored as well, and named in the header `x-standpipe-dropped` (the first",
        f"{reading.DROPPED}).",
        "",
        "| path | format |",
        "|---|---|",
        *(f"| [`{section.path}`](#{_anchor(section.path)}) | {section.title} |" for section in SECTIONS),
        "| `POST /v1/messages/count_tokens` | Anthropic's, estimated |",
        "| `GET /v1/models`, `GET /v1/models/{id}` | OpenAI Models |",
        "| `GET /v1/responses/{id}`, `DELETE /v1/responses/{id}` | OpenAI Responses, where they are kept |",
        "| `GET /api/tags`, `GET /api/ps`, `POST /api/show`, `GET /api/version` | Ollama's |",
        "| `/api/pull`, `/api/push`, `/api/create`, `/api/copy`, `/api/delete`, `/api/blobs/*` | Ollama's: 403 |",
        "",
        "Bounds that hold for every format:",
        "",
        "| what | at most |",
        "|---|---|",
        f"| arrays and objects inside each other, the whole body | {reading.DEPTH} levels, {reading.NODES:,} in all |",
        f"| messages | {bounds.MESSAGES:,} (Responses: items) |",
        f"| stop strings | {bounds.STOPS}, of {bounds.STOP_CHARACTERS} characters |",
        f"| tools | {bounds.TOOLS} |",
        f"| JSON Schemas of one ask | {bounds.SCHEMA_BYTES:,} bytes together |",
        f"| one JSON Schema | {bounds.SCHEMA_LEVELS} levels, {bounds.SCHEMA_NODES:,} values |",
        f"| one array in a JSON Schema | {bounds.SCHEMA_ITEMS} items |",
        "",
    ]


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.path}", "", section.about, "", "| field | | notes |", "|---|---|---|")
    for (_, status, note, kinds), rows in groupby(section.rows(), key=_alike):
        fields = ", ".join(f"`{row.field}`" for row in rows)
        yield f"| {fields}{f' {kinds}' if kinds else ''} | {status} | {note} |"
    yield ""


def _alike(row: Row) -> tuple[str, str, str, str]:
    """Ignored fields of one object share a line; every other field has its own."""
    field = row.field.rpartition(".")[0] if row.status == IGNORED else row.field
    return field, row.status, row.note, row.kinds


def _beyond() -> Iterator[str]:
    yield from ("## Beyond the published formats", "")
    yield from ("Answers hold a few fields that no published format has. Every client that is tested",)
    yield from ("([clients](clients.md)) passes over them.", "", "| format | field | what it is |", "|---|---|---|")
    for name, fields in BEYOND.items():
        yield from (f"| {name} | `{field}` | {meaning} |" for field, meaning in fields.items())


def _anchor(heading: str) -> str:
    """The name under which a heading can be linked to."""
    return "".join(one for one in heading.lower().replace(" ", "-") if one.isalnum() or one in "-_")
