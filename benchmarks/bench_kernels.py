"""Kernels beside llama.cpp's ``ggml_quantize_chunk`` (SSE2 build), one thread, same values, turn by turn.

    python benchmarks/bench_kernels.py [--type Q4_K ...] [--runs 7]

Prints millions of weights a second for the reference and each instruction set, and the median of the ratios. Without
``--type`` it also writes them to ``kernels.json``, of which ``report.py`` makes the table and the plot.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import files, version

import numpy as np
from gguf import GGMLQuantizationType as Type
from report import machine, save

from ollamaq.quantize import kernels
from ollamaq.quantize.plan import NEVER_WITHOUT_WEIGHTS

PLAIN = (
    "Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_S"
)
WEIGHTED = "Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S"
WIDTH, MAX_ROWS = 4096, 256
LONG_ENOUGH = 0.1
"""Seconds that a run of the reference should take: rows are doubled until it does."""


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def reference(type_: Type) -> Callable[..., object]:
    """``ggml_quantize_chunk`` of the pinned package, with its tables made."""
    path = next(file.locate() for file in files("libggml-python") or () if file.name == "libggml-base.so")
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_init(ctypes.c_int(type_))
    chunk = library.ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    return partial(chunk, type_)


def measure(type_: Type, weighted: bool, runs: int) -> dict[str, object]:
    """Speeds in millions of weights a second, and ratios to the reference."""
    random = np.random.default_rng(2026)
    weights = random.random(WIDTH, dtype=np.float32) if weighted else None
    chunk, rows = reference(type_), 1
    while True:
        values = random.standard_normal((rows, WIDTH), dtype=np.float32)
        out = np.zeros((rows, kernels.row_bytes(type_, WIDTH)), np.uint8)
        pointer = None if weights is None else weights.ctypes.data
        theirs = partial(chunk, values.ctypes.data, out.ctypes.data, 0, rows, WIDTH, pointer)
        if rows == MAX_ROWS or seconds(theirs) > LONG_ENOUGH:
            break
        rows *= 2
    times: dict[str, list[float]] = {level: [] for level in ("reference", *kernels.LEVELS)}
    for _ in range(runs):
        times["reference"].append(seconds(theirs))
        for level in kernels.LEVELS:
            module = kernels.load(level)
            times[level].append(
                seconds(partial(kernels.quantize, Type.F32, values, type_, out, weights, kernels=module))
            )
    ratios = {
        level: statistics.median(a / b for a, b in zip(times["reference"], times[level], strict=True))
        for level in kernels.LEVELS
    }
    speeds = {level: values.size / statistics.median(taken) / 1e6 for level, taken in times.items()}
    return {"type": type_.name, "weighted": weighted, "speeds": speeds, "ratios": ratios}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--type", action="append")
    options.add_argument("--runs", type=int, default=7)
    given = options.parse_args()
    print(
        f"{'type':8} {'weights':8}{'reference':>10}" + "".join(f"{level:>10}{'ratio':>7}" for level in kernels.LEVELS)
    )
    results = []
    for weighted, names in ((False, PLAIN), (True, WEIGHTED)):
        for name in names.split():
            if given.type and name not in given.type:
                continue
            assert weighted or Type[name] not in NEVER_WITHOUT_WEIGHTS
            row = measure(Type[name], weighted, given.runs)
            results.append(row)
            line = f"{name:8} {'yes' if weighted else 'no':8}{row['speeds']['reference']:10.1f}"
            for level in kernels.LEVELS:
                line += f"{row['speeds'][level]:10.1f}{row['ratios'][level]:7.1f}"
            print(line, flush=True)
    if not given.type:
        save(
            "kernels",
            {"machine": machine(), "reference": f"ggml of libggml-python {version('libggml-python')}", "rows": results},
        )


if __name__ == "__main__":
    main()
