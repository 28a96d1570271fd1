"""What ``make bench`` measured, as the page ``benchmarks/README.md`` and the plot ``benchmarks/kernels.svg``.

python benchmarks/report.py
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from ollamaq.quantize.kernels import LEVELS

HERE = Path(__file__).resolve().parent
NAMES = {"v1": "SSE2", "v3": "AVX2", "v4": "AVX-512"}
COLOURS = {"v1": "#8a8f98", "v3": "#3b82c4", "v4": "#d9822b"}


def machine() -> dict[str, Any]:
    """What a figure is worth depends on it."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {
        "date": date.today().isoformat(),
        "processor": models[0] if models else platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "instruction sets": [NAMES.get(level, level) for level in LEVELS],
        "compiler": compiler,
        "python": platform.python_version(),
    }


def save(name: str, results: dict[str, Any]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return found


def about(results: dict[str, Any]) -> str:
    facts = results["machine"] | {"reference": results["reference"]}
    return "\n".join(
        f"- {key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in facts.items()
    )


def kernel_table(results: dict[str, Any]) -> str:
    levels = list(results["rows"][0]["ratios"])
    head = [
        "type",
        "importance",
        "reference",
        *(f"{NAMES[level]}{kind}" for level in levels for kind in ("", " ratio")),
    ]
    lines = [" | ".join(head), "|".join(["---"] * 2 + ["---:"] * (len(head) - 2))]
    for row in results["rows"]:
        cells = [row["type"], "yes" if row["weighted"] else "", f"{row['speeds']['reference']:.1f}"]
        for level in levels:
            cells += [f"{row['speeds'][level]:.0f}", f"**{row['ratios'][level]:.1f}**"]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def file_table(results: dict[str, Any]) -> str:
    head = ["mix", "ollamaq, s", "llama-quantize, s", "ratio", "peak MiB", "llama-quantize's", "bytes"]
    lines = [" | ".join(head), "|".join(["---"] + ["---:"] * 5 + ["---"])]
    for row in results["rows"]:
        ratio = row["their_seconds"] / row["seconds"]
        cells = [row["mix"], f"{row['seconds']:.1f}", f"{row['their_seconds']:.1f}", f"**{ratio:.1f}**"]
        lines.append(" | ".join([*cells, f"{row['memory']:.0f}", f"{row['their_memory']:.0f}", row["bytes"]]))
    return "\n".join(f"| {line} |" for line in lines)


def convert_table(results: dict[str, Any]) -> str:
    head = [
        "checkpoint",
        "GGUF, MB",
        "ollamaq, s",
        "converter, s",
        "ratio",
        "peak MiB",
        "converter's",
        "ratio",
        "tensors",
    ]
    lines = [" | ".join(head), "|".join(["---"] + ["---:"] * 7 + ["---"])]
    for row in results["rows"]:
        cells = [row["model"], f"{row['bytes'] / 1e6:.0f}", f"{row['seconds']:.2f}"]
        if "their_seconds" in row:
            faster, smaller = row["their_seconds"] / row["seconds"], row["their_memory"] / row["memory"]
            cells += [f"{row['their_seconds']:.2f}", f"**{faster:.1f}**", f"{row['memory']:.0f}"]
            cells += [f"{row['their_memory']:.0f}", f"**{smaller:.1f}**", row["tensors"]]
        else:
            cells += ["", "", f"{row['memory']:.0f}", "", "", ""]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def plot(results: dict[str, Any]) -> str:
    """A bar for each type and instruction set: how many times the reference's speed, on a logarithmic axis."""
    rows, levels = results["rows"], list(results["rows"][0]["ratios"])
    bar, gap, left, width = 7, 8, 130, 620
    height = len(rows) * (bar * len(levels) + gap) + 50
    largest = max(64.0, *(ratio for row in rows for ratio in row["ratios"].values()))

    def x(ratio: float) -> float:
        return left + (width - left - 40) * max(0.0, math.log2(ratio / 0.5)) / math.log2(largest / 0.5)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<style>text{font:11px sans-serif;fill:#555}line{stroke:#888;stroke-opacity:.4}",
        "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>",
        f"<title>{escape('Speed of the kernels, as a multiple of the reference')}</title>",
    ]
    tick = 1
    while tick <= largest:
        out.append(f'<line x1="{x(tick):.1f}" y1="24" x2="{x(tick):.1f}" y2="{height - 20}"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick}×</text>')
        tick *= 2
    for i, level in enumerate(levels):
        out.append(f'<rect x="{left + i * 90}" y="6" width="10" height="10" fill="{COLOURS[level]}"/>')
        out.append(f'<text x="{left + i * 90 + 15}" y="15">{NAMES[level]}</text>')
    y = 28
    for row in rows:
        name = row["type"] + (" + imatrix" if row["weighted"] else "")
        out.append(f'<text x="{left - 6}" y="{y + bar * len(levels) / 2 + 4:.0f}" text-anchor="end">{name}</text>')
        for level in levels:
            length = x(row["ratios"][level]) - x(0.5)
            out.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{COLOURS[level]}"/>')
            y += bar
        y += gap
    return "\n".join([*out, "</svg>\n"])


def page(kernels: dict[str, Any], files: dict[str, Any], memory: dict[str, Any], converted: dict[str, Any]) -> str:
    return f"""# What `make bench` measured

Made by `benchmarks/report.py`. Every figure is taken beside the reference, turn by turn in the same run; ratios are
medians, and say how many times faster ollamaq is.

## Kernels
Millions of weights a second, one thread, normally distributed values, with and without importance weights.

{about(kernels)}

![speeds as multiples of the reference's](kernels.svg)

{kernel_table(kernels)}

## Whole files
`ollamaq quantize` beside `llama-quantize`, {files["threads"]} threads, from an F16 GGUF of {files["weights"] / 1e9:.1f}
billion weights.

{about(files)}

{file_table(files)}

## A large checkpoint
A checkpoint of {memory["weights"] / 1e9:.1f} billion BF16 weights, sparse on disk, became a {memory["mix"]} GGUF in
{memory["seconds"]:.0f} s with {memory["threads"]} threads; at most {memory["memory"]:.0f} MiB were resident.

## Converting
`ollamaq convert` beside llama.cpp's `convert_hf_to_gguf.py` (in Python with PyTorch and transformers), BF16 to BF16,
all files in memory before.

{about(converted)}

{convert_table(converted)}
"""


def main() -> None:
    kernels, files, memory, converted = (load(name) for name in ("kernels", "files", "memory", "convert"))
    (HERE / "kernels.svg").write_text(plot(kernels))
    (HERE / "README.md").write_text(page(kernels, files, memory, converted))


if __name__ == "__main__":
    main()
