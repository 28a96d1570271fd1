"""Whole files: ``ollamaq quantize`` beside ``llama-quantize``, same F16 GGUF, same threads, one after the other.

    python benchmarks/bench_quantize.py [--mix Q4_K_M ...] [--threads 2] [--runs 3]

Prints, for each mix, the median wall seconds of both, their ratio, peak resident memory, and whether the bytes agree.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "integration"))

import parts  # noqa: E402

MIXES = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "F16", "BF16")


OLLAMAQ = [sys.executable, "-m", "ollamaq"]


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
    options.add_argument("--runs", type=int, default=3)
    given = options.parse_args()
    reference = parts.llamacpp() / "bin" / "llama-quantize"
    with tempfile.TemporaryDirectory() as scratch:
        source, ours, theirs = (Path(scratch) / name for name in ("f16.gguf", "ours.gguf", "theirs.gguf"))
        timed([*OLLAMAQ, "convert", str(parts.smollm2(768)), str(source), "--outtype", "f16", "--quiet"])
        print(f"{'mix':8}{'ollamaq s':>11}{'llama s':>10}{'ratio':>8}{'peak MiB':>10}{'llama MiB':>11}  bytes")
        for mix in given.mix or MIXES:
            mine = [*OLLAMAQ, "quantize", str(source), str(ours), "--q", mix, "--quiet", "-t", str(given.threads)]
            other = [str(reference), str(source), str(theirs), mix, str(given.threads)]
            runs = [(*timed(mine), *timed(other)) for _ in range(given.runs)]
            seconds, memory, their_seconds, their_memory = map(statistics.median, zip(*runs, strict=True))
            same = "equal" if filecmp.cmp(ours, theirs, shallow=False) else "DIFFER"
            print(f"{mix:8}{seconds:11.2f}{their_seconds:10.2f}{their_seconds / seconds:8.1f}", end="")
            print(f"{memory:10.0f}{their_memory:11.0f}  {same}")


if __name__ == "__main__":
    main()
