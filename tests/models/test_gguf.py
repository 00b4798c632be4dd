import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.models import gguf
from standpipe.models.catalog import ModelUnavailable

U32, TEXT, ARRAY, F32 = 4, 8, 9, 6


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key, kind, payload):
    return text(key) + struct.pack("<I", kind) + payload


def number(key, value):
    return pair(key, U32, struct.pack("<I", value))


def header(*pairs, version=3, count=None):
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs) if count is None else count) + b"".join(pairs)


def model(**over):
    facts = {"context_length": 4096, "block_count": 8, "embedding_length": 512, "attention.head_count": 8} | over
    return [pair("general.architecture", TEXT, text("llama"))] + [number(f"llama.{k}", v) for k, v in facts.items()]


def write(folder: Path, data: bytes, name: str = "m.gguf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_the_facts_of_a_plain_model(tmp_path):
    path = write(tmp_path, header(pair("general.name", TEXT, text("Tiny")), *model(**{"attention.head_count_kv": 2})))
    read = gguf.read(path)
    assert (read.architecture, read.title, read.parts) == ("llama", "Tiny", (path,))
    shape = read.shape
    assert (shape.bytes, shape.context, shape.layers) == (path.stat().st_size, 4096, 8)
    assert (shape.kv_heads, shape.key_length, shape.value_length) == (2, 64, 64)


def test_without_grouped_heads_every_head_has_keys_and_values(tmp_path):
    assert gguf.read(write(tmp_path, header(*model()))).shape.kv_heads == 8


def test_head_sizes_that_are_stated_win(tmp_path):
    stated = model(**{"attention.key_length": 128, "attention.value_length": 96})
    shape = gguf.read(write(tmp_path, header(*stated))).shape
    assert (shape.key_length, shape.value_length) == (128, 96)


def test_heads_that_differ_by_layer_count_as_the_largest(tmp_path):
    heads = pair("llama.attention.head_count_kv", ARRAY, struct.pack("<IQ3I", U32, 3, 2, 6, 4))
    assert gguf.read(write(tmp_path, header(*model(), heads))).shape.kv_heads == 6


def test_facts_behind_a_long_vocabulary_are_found(tmp_path):
    words = pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", TEXT, 2000) + text("word") * 2000)
    scores = pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ", F32, 2000) + bytes(8000))
    kind, *facts = model()
    assert gguf.read(write(tmp_path, header(kind, words, scores, *facts))).shape.layers == 8


def test_the_vocabulary_is_not_read_when_all_is_known(tmp_path):
    cut = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, TEXT, 50_000)
    assert gguf.read(write(tmp_path, header(*model(), cut))).shape.layers == 8


def test_what_a_header_does_not_say_is_nothing(tmp_path):
    shape = gguf.read(write(tmp_path, header(pair("general.architecture", TEXT, text("odd"))))).shape
    assert shape.kv_bytes == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "does not start with GGUF"),
        (b"PK\x03\x04 a zip", "does not start with GGUF"),
        (b"GGUF\x03", "not a readable GGUF"),
        (header(version=9), "version 9"),
        (header(count=1 << 40), "metadata keys"),
        (header(struct.pack("<Q", 1 << 60)), "a text of"),
        (header(pair("a", 77, b"")), "unknown kind 77"),
        (header(pair("a", ARRAY, struct.pack("<IQ", U32, 1 << 50))), "an array of"),
        (header(*model())[:-3], "not a readable GGUF"),
        (header(struct.pack("<Q", 2) + b"\xff\xff"), "not a readable GGUF"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(tmp_path, data, says):
    path = write(tmp_path, data)
    with pytest.raises(ModelUnavailable, match=says) as refused:
        gguf.read(path)
    assert str(path) in refused.value.message


@given(st.binary(max_size=200))
def test_no_bytes_break_it(tmp_path_factory, tail):
    path = write(tmp_path_factory.getbasetemp(), b"GGUF\x03\0\0\0" + tail, "fuzz.gguf")
    with contextlib.suppress(ModelUnavailable):
        gguf.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"nowhere\.gguf cannot be read"):
        gguf.read(tmp_path / "nowhere.gguf")


def test_the_parts_of_a_split_model_are_found_and_summed(tmp_path):
    first = write(tmp_path, header(*model()), "big-00001-of-00003.gguf")
    others = [write(tmp_path, b"x" * 1000, f"big-0000{n}-of-00003.gguf") for n in (2, 3)]
    read = gguf.read(first)
    assert read.parts == (first, *others)
    assert read.shape.bytes == first.stat().st_size + 2000


def test_missing_parts_are_named(tmp_path):
    first = write(tmp_path, header(*model()), "big-00001-of-00002.gguf")
    with pytest.raises(ModelUnavailable, match="big-00002-of-00002"):
        gguf.read(first)


def test_a_later_part_points_to_the_first(tmp_path):
    later = write(tmp_path, b"", "big-00002-of-00002.gguf")
    with pytest.raises(ModelUnavailable, match="big-00001-of-00002"):
        gguf.read(later)
