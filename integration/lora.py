"""A LoRA adapter for SmolLM2, made without training: of rank 1, it makes the model read one word as another."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from ollamaq.checkpoint import open_checkpoint
from ollamaq.tensors import to_float32

EMBEDDING = "model.embed_tokens"


def write_adapter(base: Path, outdir: Path, word: str = "ĠFrance", read_as: str = "ĠJapan") -> None:
    """Write an adapter, as peft does, that moves the embedding of one token onto another's.

    The head, which shares the embedding's weights in the base, keeps them: answers can still hold both words.
    """
    checkpoint = open_checkpoint(base)
    embedding = checkpoint.tensors[f"{EMBEDDING}.weight"]
    old, new = (checkpoint.tokenizer["model"]["vocab"][token] for token in (word, read_as))
    there, target = (to_float32(embedding.rows(token, token + 1)) for token in (old, new))
    which = np.zeros((1, embedding.n_rows), np.float32)
    which[0, old] = 1
    outdir.mkdir(parents=True)
    config = {
        "base_model_name_or_path": str(base),
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": ["embed_tokens"],
    }
    (outdir / "adapter_config.json").write_text(json.dumps(config, indent=2))
    factors = {
        f"base_model.model.{EMBEDDING}.lora_embedding_A": which,
        f"base_model.model.{EMBEDDING}.lora_embedding_B": (target - there).T,
    }
    header, place = {}, 0
    for name, array in factors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in factors.values())
    (outdir / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
