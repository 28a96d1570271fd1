"""Peak memory and wall time of quantizing a checkpoint of 8 billion weights, which is sparse on disk.

    python benchmarks/bench_memory.py [--mix Q4_K_M] [--threads 2]

The checkpoint has the shape of Llama 3 8B in BF16; the output, of some 5 GB, is written beside it and removed. Writes
``memory.json``, of which ``report.py`` makes a paragraph.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import sys
import tempfile
from pathlib import Path

from bench_quantize import OLLAMAQ, timed
from report import machine, save

WIDTH, INNER, LAYERS, VOCABULARY, KEYS = 4096, 14336, 32, 128256, 1024
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
OUTSIDE = {"model.embed_tokens": (VOCABULARY, WIDTH), "lm_head": (VOCABULARY, WIDTH), "model.norm": (WIDTH,)}
LAYER = {
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KEYS, WIDTH),
    "self_attn.v_proj": (KEYS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
LETTERS = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
"""The bytes, as byte-level BPE writes them: enough of a vocabulary."""
TOKENIZER = {
    "added_tokens": [],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(LETTERS)}, "merges": []},
}


def make_checkpoint(path: Path) -> int:
    """Write a checkpoint whose weights are zeros that take no room, and return their number."""
    shapes = dict(OUTSIDE)
    for i in range(LAYERS):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in LAYER.items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return end // 2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mix", default="Q4_K_M")
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "sparse", Path(scratch) / "out.gguf"
        source.mkdir()
        weights = make_checkpoint(source)
        command = ["quantize", str(source), str(out), "--q", given.mix, "--quiet", "-t", str(given.threads)]
        seconds, memory = timed([*OLLAMAQ, *command])
        print(
            f"{weights / 1e9:.2f} G weights to {given.mix}: {seconds:.1f} s, {memory:.0f} MiB at most", file=sys.stderr
        )
    facts = {"mix": given.mix, "threads": given.threads, "seconds": seconds, "memory": memory, "weights": weights}
    save("memory", {"machine": machine(), **facts})


if __name__ == "__main__":
    main()
