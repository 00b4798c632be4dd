"""Unpacks a GGUF into safetensors: `unpack.py GGUF FOLDER WINDOW`, run by the Python of an engine that has torch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target, window = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
tokenizer = AutoTokenizer.from_pretrained(**where)
read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
config = read.config
del config.quantization_config  # it is plain numbers now
config.max_position_embeddings = window
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.load_state_dict(read.state_dict())
tokenizer.model_max_length = window
tokenizer.save_pretrained(target)
model.save_pretrained(target)
