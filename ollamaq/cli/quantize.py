"""``ollamaq quantize``: a checkpoint or a GGUF becomes a quantized GGUF."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.options import (
    DryRun,
    ExcludeWeights,
    ImatrixFile,
    IncludeWeights,
    Json,
    MaxMemory,
    Quiet,
    Resume,
    Source,
    Threads,
)
from ollamaq.cli.output import Output, command, size, table
from ollamaq.gguf.model import Model
from ollamaq.quantize import Plan, apply_imatrix, find_mix, make_plan, read_imatrix, write_plan
from ollamaq.source import open_source


@command
def quantize(
    source: Source,
    output: Annotated[Path, typer.Argument(help="The GGUF to write.", show_default=False)],
    q: Annotated[str, typer.Option("--q", "-q", help="The mix: Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, …")] = "Q4_K_M",
    imatrix: ImatrixFile = None,
    include_weights: IncludeWeights = None,
    exclude_weights: ExcludeWeights = None,
    threads: Threads = None,
    max_memory: MaxMemory = "1G",  # type: ignore[assignment]  # typer parses it
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize a model straight to a GGUF: the bytes that llama-quantize would write."""
    out = Output(as_json=as_json, quiet=quiet)
    opened = open_source(source)
    name, plan = planned(opened.model, q, imatrix, include_weights, exclude_weights)
    seconds = 0.0
    if not dry_run:
        started = time.monotonic()
        with out.progress() as progress:
            write_plan(
                output,
                plan,
                threads=threads,
                max_memory=max_memory,
                resume=opened.fingerprint if resume else None,
                progress=lambda done, total: progress(f"quantizing {name}", done, total),
            )
        seconds = time.monotonic() - started
    rows = table("would quantize" if dry_run else "quantized", "", ">")
    rows.add_row(str(source), size(opened.n_bytes))
    rows.add_row(str(output), size(plan.n_bytes))
    rows.add_row("bits per weight", f"{plan.bits_per_weight:.2f}")
    rows.add_row("types", ", ".join(f"{count} {kind}" for kind, count in count_types(plan).items()))
    if not dry_run:
        rows.add_row("time", f"{seconds:.1f} s")
    data = {
        "output": str(output),
        "mix": name,
        "bytes": plan.n_bytes,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "types": count_types(plan),
        "seconds": round(seconds, 3),
        "dry_run": dry_run,
    }
    out.result(data, rows, brief=str(output))


def planned(
    model: Model, q: str, imatrix: str | None, include: list[str] | None, exclude: list[str] | None
) -> tuple[str, Plan]:
    """The mix's name and the plan that the options come to."""
    name, mix = find_mix(q)
    if imatrix is None:
        return name, make_plan(model, mix)
    weights = read_imatrix(imatrix).select(include or (), exclude or ())
    return name, apply_imatrix(make_plan(model, mix, imatrix=bool(weights.entries)), weights)


def count_types(plan: Plan) -> dict[str, int]:
    """How many tensors get each type, the most frequent first."""
    names = [planned.type.name for planned in plan.tensors]
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
