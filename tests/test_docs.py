"""What a user can see is documented, and the documentation tells the truth."""

import re
from functools import cache
from pathlib import Path

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from ollama._types import ChatRequest, GenerateRequest, Options
from openai.types.chat import completion_create_params as chat_params
from openai.types.completion_create_params import CompletionCreateParamsStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.ollama import request as ollama
from standpipe.dialects.openai.request import COMPLETIONS
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tools import compatibility, generate
from tools.fields import IGNORED, REFUSED, SUPPORTED
from tools.specimens import CHAT, EMBEDDINGS, LEGACY, RESPONSES
from tools.specimens_native import ANTHROPIC, OLLAMA_CHAT, OLLAMA_GENERATE

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_a_generated_page_is_fresh(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == generate.PAGES[name](), "run: python -m tools.generate"


def test_every_link_between_pages_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def in_code(page):
    """What a page sets as code, without its fenced blocks."""
    content = re.sub(
        r"^```.*?^```", "", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return re.findall(r"`([^`\n]+)`", content)


@pytest.mark.parametrize("page", ["design.md", "glossary.md"])
def test_every_path_that_is_named_exists(page):
    source = ROOT / "src" / "standpipe"
    for name in in_code(page):
        path, _, test = name.partition("::")
        if not re.fullmatch(r"[\w./-]+(\.(py|md|toml)|/)", path):
            continue
        found = next((base / path for base in (source, ROOT) if (base / path).exists()), None)
        assert found or list(source.rglob(path)), f"{page} names {path}"
        if test:
            assert found, path
            assert re.search(rf"^ *(async )?def {test}\b", found.read_text(encoding="utf-8"), re.MULTILINE), name


def test_each_promise_is_held_by_tests():
    rows = re.findall(r"^\| (\d) \w.*\|$", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list("123456")


def test_a_word_of_the_glossary_occurs_where_it_is_said_to():
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| `([^`]+)` \|$", page, re.MULTILINE)
    assert len(rows) >= 25
    for word, path in rows:
        assert re.search(rf"\b{word}", (ROOT / path).read_text(encoding="utf-8"), re.IGNORECASE), f"{word} in {path}"


def test_every_word_of_the_house_is_in_the_glossary():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    words = re.findall(r"\*(\w+)\*", design.partition("## Words")[2].partition("\n## ")[0])
    assert len(words) >= 10
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert {word for word in words if f"\n| {word} |" not in page} == set()


@cache
def table(path):
    """Making one takes a while."""
    return next(section for section in compatibility.SECTIONS if section.path == path).rows()


PUBLISHED = {
    "chat": (
        CHAT,
        chat_params.CompletionCreateParamsNonStreaming.__annotations__
        | chat_params.CompletionCreateParamsStreaming.__annotations__,
    ),
    "responses": (RESPONSES, ResponseCreateParamsStreaming.__annotations__),
    "legacy": (LEGACY, CompletionCreateParamsStreaming.__annotations__),
    "embeddings": (EMBEDDINGS, EmbeddingCreateParams.__annotations__),
    "anthropic": (
        ANTHROPIC,
        MessageCreateParamsNonStreaming.__annotations__ | MessageCreateParamsStreaming.__annotations__,
    ),
    "ollama_chat": (OLLAMA_CHAT, {*ChatRequest.model_fields, *(f"options.{name}" for name in Options.model_fields)}),
    "ollama_generate": (
        OLLAMA_GENERATE,
        {*GenerateRequest.model_fields, *(f"options.{name}" for name in Options.model_fields)},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_field_that_official_clients_can_send_is_in_the_table_once(name):
    section, published = PUBLISHED[name]
    rows = [row.field for row in table(section.path) if not row.kinds]
    assert len(published) >= 5
    assert set(published) <= set(rows)
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("section", "ignored", "refused"),
    [
        (CHAT, COMPLETIONS.reader.ignored, COMPLETIONS.reader.refused),
        (RESPONSES, OpenAIResponses.reader.ignored, OpenAIResponses.reader.refused),
        (ANTHROPIC, MESSAGES.reader.ignored, MESSAGES.reader.refused),
        (OLLAMA_GENERATE, ollama.IGNORED, ollama.REFUSED),
    ],
    ids=["chat", "responses", "anthropic", "ollama"],
)
def test_the_table_says_what_the_dialect_was_meant_to_do(section, ignored, refused):
    rows = {row.field: row for row in table(section.path) if not row.kinds}
    assert {rows[name].status for name in ignored} == {IGNORED}
    assert {rows[name].status for name in refused} == {REFUSED}
    taken = set(section.struct.__struct_fields__) - refused.keys()
    assert {rows[name].status for name in taken} == {SUPPORTED}


def test_the_table_has_ranges_and_reasons():
    rows = {(row.field, row.kinds): row for row in table(CHAT.path)}
    assert rows["temperature", ""].note == "between 0 and 2"
    assert rows["functions", ""].note == "`functions` is not supported: use `tools`"
    assert rows["verbosity", ""].note == ""
    assert rows["messages[].content[]", "of type `file`, `input_audio`"].status == REFUSED
