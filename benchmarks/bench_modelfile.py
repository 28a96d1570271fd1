"""Modelfiles: linting, formatting and parsing many of them, as the command line does it.

    python benchmarks/bench_modelfile.py [--files 1000]

Each has a template, a system message, a licence of 11 kB, ten parameters and a few things to find. Prints the median
seconds of three runs of the whole command, with starting up and without.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LICENCE = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software.\n" * 120
MODELFILE = '''\
# model @ of the catalogue
FROM llama3.2
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
"""
SYSTEM """You are assistant number @.
Answer briefly, and say "I do not know" when you do not."""
PARAMETER temperature 0.7
PARAMETER top_p 0.9
PARAMETER top_k 40
PARAMETER min_p 0.05
PARAMETER num_ctx 8192
PARAMETER repeat_penalty 1.1
PARAMETER seed @
PARAMETER seed @
PARAMETER mirostat 0
PARAMETER stop <|im_end|>
MESSAGE user Bonjour, ça va ?
MESSAGE assistant Très bien, merci.
LICENSE """#LICENCE#"""
'''
COMMANDS = (("lint",), ("lint", "--output-format", "sarif"), ("fmt", "--check"))


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=1000)
    files = options.parse_args().files
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        for i in range(files):
            text = MODELFILE.replace("@", str(i)).replace("#LICENCE#", LICENCE)
            (directory / f"{i:05}.Modelfile").write_text(text, encoding="utf-8")
        startup = median("rule", "OQ101")
        print(f"{files} Modelfiles; starting up takes {startup:.2f} s")
        for command in COMMANDS:
            whole = median(*command, str(directory))
            print(f"{' '.join(command):32} {whole:6.2f} s, {whole - startup:.2f} s without starting up")


def median(*arguments: str) -> float:
    """Seconds of ``ollamaq modelfile …``."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "ollamaq", "modelfile", *arguments], capture_output=True)
        seconds.append(time.perf_counter() - started)
        if done.returncode > 1:
            raise SystemExit(done.stderr.decode())
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
