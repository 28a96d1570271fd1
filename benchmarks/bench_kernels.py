"""Kernels beside llama.cpp's ``ggml_quantize_chunk`` (SSE2 build), one thread, same values, turn by turn.

    python benchmarks/bench_kernels.py [--type Q4_K ...] [--runs 5]

Prints millions of weights a second for the reference and each instruction set, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import files

import numpy as np
from gguf import GGMLQuantizationType as Type

from ollamaq.quantize import kernels

TYPES = (
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "IQ4_NL",
    "MXFP4",
    "NVFP4",
    "Q1_0",
    "TQ1_0",
    "TQ2_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
)
SHAPE = (256, 4096)


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--type", action="append")
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    path = next(file.locate() for file in files("libggml-python") or () if file.name == "libggml-base.so")
    chunk = ctypes.CDLL(str(path)).ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    values = np.random.default_rng(2026).standard_normal(SHAPE, dtype=np.float32)
    print(f"{'type':8}{'reference':>10}" + "".join(f"{level:>10}{'ratio':>7}" for level in kernels.LEVELS))
    for name in given.type or TYPES:
        type_ = Type[name]
        out = np.zeros((SHAPE[0], kernels.row_bytes(type_, SHAPE[1])), np.uint8)

        theirs = partial(chunk, type_, values.ctypes.data, out.ctypes.data, 0, *SHAPE, None)
        times: dict[str, list[float]] = {level: [] for level in ("reference", *kernels.LEVELS)}
        for _ in range(given.runs):
            times["reference"].append(seconds(theirs))
            for level in kernels.LEVELS:
                module = kernels.load(level)
                times[level].append(seconds(partial(kernels.quantize, Type.F32, values, type_, out, kernels=module)))
        speeds = {level: values.size / statistics.median(runs) / 1e6 for level, runs in times.items()}
        line = f"{name:8}{speeds['reference']:10.1f}"
        for level in kernels.LEVELS:
            ratios = [a / b for a, b in zip(times["reference"], times[level], strict=True)]
            line += f"{speeds[level]:10.1f}{statistics.median(ratios):7.1f}"
        print(line)


if __name__ == "__main__":
    main()
