import pytest

from standpipe.models import catalog
from standpipe.models.catalog import CATALOG, InWheel, ModelUnavailable, OnHub


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_an_entry_agrees_with_itself(entry):
    assert sum(file.bytes for file in entry.files) == entry.shape.bytes
    files = [*entry.files]
    if isinstance(entry.source, InWheel):
        files.append(entry.source.wheel)
        assert entry.source.member.endswith("/" + entry.files[0].name)
    if isinstance(entry.source, OnHub):
        assert len(entry.source.revision) == 40
    for file in files:
        assert len(bytes.fromhex(file.sha256)) == 32
    assert entry.licence
    assert entry.shape.kv_bytes > 0


def test_names_and_checksums_are_unique():
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    files = [file for entry in CATALOG for file in entry.files]
    assert len({file.sha256 for file in files}) == len(files)


def test_the_cost_of_context_is_what_was_measured_for_the_starter():
    assert catalog.STARTER.shape.kv_bytes == 22.5 * 1024


def test_a_name_is_found_whatever_its_case():
    assert catalog.find(" SmolLM2:135M ").name == "smollm2:135m"


def test_an_unknown_name_is_answered_with_what_there_is():
    with pytest.raises(ModelUnavailable) as refused:
        catalog.find("gpt-oss:7b")
    for entry in CATALOG:
        assert entry.name in refused.value.message
    assert "gpt-oss:7b" in refused.value.message
