"""A gpt-oss of less than a megabyte, written from nothing, so that the real engine can be driven end to end.

It does two things. Left alone it is a Markov chain: analysis, then final, then `<|return|>`, with words that depend on
the seed. Asked with a *script* it replays an exact sequence of tokens, so that any damaged Harmony can be pushed
through the whole engine:

    {"role": "user", "content": script("<|channel|>final<|message|>Hi.<|return|>")}

Theory. The residual stream is a set of labelled places: one-hot classes of the current token, a payload carried by
script characters, a payload taken from D positions ago, and two flags. The router and the experts are zero, all norms
are one, so only attention and the output matrix speak. For a residual of length 1 the final norm multiplies by
r = sqrt(n_embd); `ln p / r` in the output matrix therefore is exactly the chain's log-probability.

Layer 0 remembers that the words *analysis* and *final* were written: a key on the slowest rotary pair, which hardly
turns, against a sink that takes all when there is no hit. Layer 1 is a delay line: query and key are biases only, and
their rotary phases agree exactly D positions back, so it copies the payload of the token D ago, whatever that is.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

N_EMBD, N_LAYER, N_HEAD, HEAD, N_FF, N_EXPERT = 192, 2, 1, 64, 32, 4
ROPE_BASE = 150_000.0
CONTEXT = 32_768
R = math.sqrt(N_EMBD)

PAYLOAD, TAKEN, FLAG_ANALYSIS, FLAG_FINAL = 64, 112, 160, 161
PAYLOAD_DIMS = 48

SCRIPT_LENGTH = 512
"""Characters of a script, filler included. `<|end|><|start|>assistant` stand between it and the answer."""
DELAY = SCRIPT_LENGTH + 2

CONTROL = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>",
    "<|start|>", "<|end|>", "<|message|>", "<|call|>", "<|endofprompt|>",
)  # fmt: skip
HEADER_WORDS = ("analysis", "commentary", "final", " to", "=functions", "json")
FIRST_WORDS = ("The", "Well", "So")
WORDS = (" user", " asks", " for", " a", " short", " answer", " so", " we", " reply", " café", " 🙂", " ok")
SPELLED = (
    "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>", "<|endoftext|>",
    "assistant", "analysis", "commentary", "final", " to", "=functions", "json", ".",
)  # fmt: skip
"""Whole tokens that a script can ask for; anything else is replayed byte by byte."""
CLASSES = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "assistant", "analysis", "final", *FIRST_WORDS, *WORDS)
OTHER = len(CLASSES)

# A call's message is rendered as the published template does it: what it says or thought is analysis.
TEMPLATE = """\
{%- set sysm = messages[0].role in ("system","developer") -%}
<|start|>system<|message|>You are a helpful model.
Reasoning: {{ reasoning_effort|default("medium") }}

# Valid channels: analysis, commentary, final.{% if tools %}
Calls to these tools must go to the commentary channel: 'functions'.{% endif %}<|end|>
{%- if sysm or tools %}<|start|>developer<|message|>{% if sysm %}# Instructions

{{ messages[0].content }}{% endif %}{% if tools %}

# Tools
{% for t in tools %}{{ t.function|tojson }}
{% endfor %}{% endif %}<|end|>{% endif -%}
{%- for m in (messages[1:] if sysm else messages) -%}
{%- if m.role == "user" %}<|start|>user<|message|>{{ m.content }}<|end|>
{%- elif m.role == "tool" %}<|start|>functions.tool to=assistant<|channel|>commentary<|message|>{{ m.content|tojson }}\
<|end|>
{%- elif m.tool_calls %}{% if m.content or m.thinking %}<|start|>assistant<|channel|>analysis<|message|>\
{{ m.content or m.thinking }}<|end|>{% endif %}<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}\
<|channel|>commentary json<|message|>{{ m.tool_calls[0].function.arguments|tojson }}<|call|>
{%- else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|start|>assistant{% endif -%}
"""


def pieces(text: str) -> list[str | int]:
    """Cut a completion into what a script spells: whole tokens (their text) and bytes (their value)."""
    out: list[str | int] = []
    at = 0
    while at < len(text):
        token = next((t for t in SPELLED if len(t) > 1 and text.startswith(t, at)), None)
        if token is None:
            out += text[at].encode()
            at += 1
        else:
            out.append(token)
            at += len(token)
    return out


def script(completion: str, *, in_tool_result: bool = False) -> str:
    """The message text that makes the model answer with exactly `completion`.

    A tool result is quoted by the template, which adds one character behind it. Raises ValueError when it is too long.
    """
    spelled = "".join(
        chr(0xE000 + piece) if isinstance(piece, int) else chr(0xE100 + SPELLED.index(piece))
        for piece in pieces(completion)
    )
    if len(spelled) > SCRIPT_LENGTH:
        raise ValueError(f"a script has at most {SCRIPT_LENGTH} tokens, this one has {len(spelled)}")
    return spelled.ljust(SCRIPT_LENGTH - in_tool_result, chr(0xE200))


def _byte_names() -> list[str]:
    """GPT-2's spelling of each byte as one printable character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names = {byte: chr(byte) for byte in printable}
    for offset, byte in enumerate(byte for byte in range(256) if byte not in names):
        names[byte] = chr(256 + offset)
    return [names[byte] for byte in range(256)]


def _vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Tokens as they stand in the file, their types, and the merges."""
    names = _byte_names()

    def spell(word: str) -> str:
        return "".join(names[byte] for byte in word.encode())

    chain = ["assistant"[:length] for length in range(2, 10)]
    merges = [f"{'assistant'[: length - 1]} {'assistant'[length - 1]}" for length in range(2, 10)]
    normal = [*names, *chain, *map(spell, (*HEADER_WORDS, *FIRST_WORDS, *WORDS))]
    alphabet = [*(chr(0xE000 + b) for b in range(256)), *(chr(0xE100 + k) for k in range(16)), chr(0xE200)]
    kinds = [gguf.TokenType.NORMAL] * len(normal) + [gguf.TokenType.USER_DEFINED] * len(alphabet)
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL)
    return [*normal, *alphabet, *CONTROL], [int(kind) for kind in kinds], merges


class _Ids:
    """Token ids by what they mean."""

    def __init__(self, tokens: list[str]) -> None:
        self._names = _byte_names()
        self._index = {token: at for at, token in enumerate(tokens)}

    def __getitem__(self, word: str) -> int:
        if word in CONTROL:
            return self._index[word]
        return self._index["".join(self._names[byte] for byte in word.encode())]

    def script(self, code: int) -> int:
        return self._index[chr(code)]


def _embeddings(ids: _Ids, size: int) -> Matrix:
    table = np.zeros((size, N_EMBD), np.float32)
    table[:, OTHER] = 1
    for at, word in enumerate(CLASSES):
        table[ids[word], OTHER] = 0
        table[ids[word], at] = 1
    for byte in range(256):
        token = ids.script(0xE000 + byte)
        table[token, PAYLOAD + (byte >> 4)] = 1
        table[token, PAYLOAD + 16 + (byte & 15)] = 1
    for at in range(16):
        table[ids.script(0xE100 + at), PAYLOAD + 32 + at] = 1
    return table


def _chain() -> dict[str | None, dict[str, float]]:
    """The Markov chain: token -> next token -> log-probability. None stands for every token without a class."""
    never = -20.0
    walk: dict[str | None, dict[str, float]] = {
        None: {"<|channel|>": 0.0},
        "<|start|>": {"assistant": 0.0},
        "assistant": {"<|channel|>": 0.0},
        "<|channel|>": {"analysis": 0.0, "final": never},
        "analysis": {"<|message|>": 0.0},
        "final": {"<|message|>": 0.0},
        "<|message|>": {word: math.log(p) for word, p in zip(FIRST_WORDS, (0.6, 0.2, 0.2), strict=True)},
        "<|end|>": {"<|start|>": 0.0},
    }
    after = dict.fromkeys(FIRST_WORDS, WORDS[0]) | dict(itertools.pairwise(WORDS))
    for word in (*FIRST_WORDS, *WORDS):
        step = dict.fromkeys(WORDS, 0.03)
        stop = 0.05
        if word in after:
            step[after[word]] = 0.6
        else:
            stop = 0.6
        walk[word] = {next_word: math.log(p) for next_word, p in step.items()}
        walk[word] |= {"<|end|>": math.log(stop), "<|return|>": math.log(stop) + never}
    return walk


def _output(ids: _Ids, size: int) -> Matrix:
    table = np.zeros((size, N_EMBD), np.float32)
    table[:, : OTHER + 1] = -40 / R
    for word, following in _chain().items():
        column = OTHER if word is None else CLASSES.index(word)
        for next_word, logp in following.items():
            table[ids[next_word], column] = logp / R
    table[ids["analysis"], FLAG_ANALYSIS] = -60 / R
    table[ids["<|end|>"], FLAG_FINAL] = -120 / R
    table[ids["<|return|>"], FLAG_FINAL] = 40 / R
    for byte in range(256):
        table[byte, TAKEN + (byte >> 4)] += 240 / R
        table[byte, TAKEN + 16 + (byte & 15)] += 240 / R
    for at, word in enumerate(SPELLED):
        table[ids[word], TAKEN + 32 + at] += 480 / R
    return table


def _memory() -> dict[str, Matrix]:
    """Layer 0: has *analysis* been written, has *final*?"""
    slowest = HEAD // 2 - 1
    q_bias, k = np.zeros(HEAD, np.float32), np.zeros((HEAD, N_EMBD), np.float32)
    v, out = np.zeros((HEAD, N_EMBD), np.float32), np.zeros((N_EMBD, HEAD), np.float32)
    q_bias[slowest] = 40 * math.sqrt(HEAD) / R
    for at, (word, flag) in enumerate((("analysis", FLAG_ANALYSIS), ("final", FLAG_FINAL))):
        k[slowest, CLASSES.index(word)] = 1
        v[at, CLASSES.index(word)] = 1 / R
        out[flag, at] = 1
    return {"q.bias": q_bias, "k.weight": k, "v.weight": v, "out": out, "sinks": np.full(N_HEAD, 20, np.float32)}


def _delay_line() -> dict[str, Matrix]:
    """Layer 1: the payload of the token DELAY ago."""
    half = HEAD // 2
    height = math.sqrt(1600 * math.sqrt(HEAD) / half)
    phase = DELAY * ROPE_BASE ** (-2 * np.arange(half) / HEAD)
    k_bias = np.concatenate([np.full(half, height), np.zeros(half)]).astype(np.float32)
    q_bias = (height * np.concatenate([np.cos(phase), -np.sin(phase)])).astype(np.float32)
    v, out = np.zeros((HEAD, N_EMBD), np.float32), np.zeros((N_EMBD, HEAD), np.float32)
    for at in range(PAYLOAD_DIMS):
        v[at, PAYLOAD + at] = 1 / R
        out[TAKEN + at, at] = 1
    return {"q.bias": q_bias, "k.bias": k_bias, "v.weight": v, "out": out, "sinks": np.full(N_HEAD, 1580, np.float32)}


def _add_layer(writer: gguf.GGUFWriter, layer: int, parts: dict[str, Matrix]) -> None:
    def add(name: str, value: Matrix, kind: type = np.float32) -> None:
        writer.add_tensor(f"blk.{layer}.{name}", value.astype(kind))

    square = np.zeros((HEAD, N_EMBD), np.float32)
    for name in ("attn_norm", "post_attention_norm"):
        add(f"{name}.weight", np.ones(N_EMBD, np.float32))
    for name in ("q", "k", "v"):
        add(f"attn_{name}.weight", parts.get(f"{name}.weight", square), np.float16)
        add(f"attn_{name}.bias", parts.get(f"{name}.bias", np.zeros(HEAD, np.float32)))
    add("attn_output.weight", parts["out"], np.float16)
    add("attn_output.bias", np.zeros(N_EMBD, np.float32))
    add("attn_sinks.weight", parts["sinks"])
    add("ffn_gate_inp.weight", np.zeros((N_EXPERT, N_EMBD), np.float32))
    add("ffn_gate_inp.bias", np.zeros(N_EXPERT, np.float32))
    for name, rows, columns in (("gate", N_FF, N_EMBD), ("up", N_FF, N_EMBD), ("down", N_EMBD, N_FF)):
        # MXFP4 as in the published weights: 32 values are 17 bytes, and all zero bytes are all zero values.
        zeros = np.zeros((N_EXPERT, rows, columns // 32 * 17), np.uint8)
        mxfp4 = gguf.GGMLQuantizationType.MXFP4
        writer.add_tensor(f"blk.{layer}.ffn_{name}_exps.weight", zeros, raw_dtype=mxfp4)
        add(f"ffn_{name}_exps.bias", np.zeros((N_EXPERT, rows), np.float32))


def write(path: Path) -> Path:
    """Write the model. Takes some 50 ms."""
    tokens, kinds, merges = _vocabulary()
    ids = _Ids(tokens)
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_name("tiny gpt-oss")
    writer.add_block_count(N_LAYER)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(N_EMBD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_feed_forward_length(N_FF)
    writer.add_sliding_window(128)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_expert_count(N_EXPERT)
    writer.add_expert_used_count(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ids["<|startoftext|>"])
    writer.add_eos_token_id(ids["<|return|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", _embeddings(ids, len(tokens)).astype(np.float16))
    writer.add_tensor("output.weight", _output(ids, len(tokens)).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(N_EMBD, np.float32))
    for layer, parts in enumerate((_memory(), _delay_line())):
        _add_layer(writer, layer, parts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
