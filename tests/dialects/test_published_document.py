"""OpenAI's published API document, held against what is really written: whole answers, and every event of every stream.

The package's types (`test_published_schemas`) are made from that document, but let pass what they do not know. The
document is large and not ours: it is looked for as `shared/specs/openai.json` beside the repository, and the tests are
skipped where it is not.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from standpipe.dialects.framing import SseFrames
from tests import golden, openai_schema

_URI = "urn:openai"


@functools.cache
def _document() -> dict[str, Any]:
    for folder in Path(__file__).parents:
        path = folder / "shared" / "specs" / "openai.json"
        if path.exists():
            return {**_with_nulls(msgspec.json.decode(path.read_bytes()))}
    pytest.skip("shared/specs/openai.json is not here")


def _with_nulls(value: Any) -> Any:
    """`nullable` is OpenAPI's older word; in the newer one a null is a type."""
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {name: _with_nulls(one) for name, one in value.items()}
    return {"anyOf": [made, {"type": "null"}]} if value.get("nullable") is True else made


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    resource = Resource.from_contents(_document(), default_specification=DRAFT202012)
    registry = Registry().with_resource(_URI, resource)
    return Draft202012Validator({"$ref": f"{_URI}#/components/schemas/{name}"}, registry=registry)


def _hold(name: str, data: bytes) -> None:
    value = msgspec.json.decode(data)
    response = value.get("response", value)
    if response.get("object") == "response" and response["usage"] is None:
        del response["usage"]  # as in the document's own examples, and required by Open Responses
    error = next(_validator(name).iter_errors(value), None)
    assert error is None, f"{error.json_path}: {error.message}"


def _event_schemas() -> dict[str, str]:
    """The schema of each event of a stream, by its type."""
    found = {}
    for name, schema in _document()["components"]["schemas"].items():
        if name.startswith("Response") and name.endswith("Event"):
            for kind in schema.get("properties", {}).get("type", {}).get("enum", ()):
                found[kind] = name
    return found


def _transcripts(folder: str, ending: str) -> list[str]:
    return sorted(path.relative_to(golden.FOLDER).as_posix() for path in (golden.FOLDER / folder).glob(f"*{ending}"))


@pytest.mark.parametrize("path", _transcripts("openai_responses", ".json"))
def test_a_response_is_by_the_document(path):
    _hold("Response", golden.read(path))


@pytest.mark.parametrize("path", _transcripts("openai_responses", ".sse"))
def test_every_event_of_a_response_is_by_the_document(path):
    schemas = _event_schemas()
    for kind, data in openai_schema.events(golden.read(path)):
        _hold(schemas[kind], data)


@pytest.mark.parametrize("path", _transcripts("openai_chat", ".json"))
def test_a_chat_completion_is_by_the_document(path):
    _hold("CreateChatCompletionResponse", golden.read(path))


@pytest.mark.parametrize("path", _transcripts("openai_completions", ".json"))
def test_a_completion_is_by_the_document(path):
    _hold("CreateCompletionResponse", golden.read(path))


@pytest.mark.parametrize("path", _transcripts("openai_chat", ".sse"))
def test_every_chunk_of_a_chat_is_by_the_document(path):
    for data in SseFrames().feed(golden.read(path)):
        if data != b"[DONE]" and not data.startswith(b'{"error"'):
            _hold("CreateChatCompletionStreamResponse", data)
