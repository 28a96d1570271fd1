"""``ollamaq quantize``: a checkpoint or a GGUF becomes a quantized GGUF."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from gguf import GGMLQuantizationType as Type

from ollamaq.cli.options import (
    Adapters,
    AllowRequantize,
    Base,
    DryRun,
    ExcludeWeights,
    ImatrixFile,
    IncludeWeights,
    Json,
    KeepSplit,
    LeaveOutputTensor,
    MaxMemory,
    Mix,
    OutputTensorType,
    OverrideKv,
    PruneLayers,
    Pure,
    Quiet,
    Resume,
    SourcePath,
    TensorType,
    TensorTypeFile,
    Threads,
    TokenEmbeddingType,
)
from ollamaq.cli.output import Output, command, size, table
from ollamaq.convert import KEEP
from ollamaq.gguf.splits import read_parts
from ollamaq.quantize import Imatrix, Overrides, Plan, find_mix, make_plan, read_imatrix
from ollamaq.quantize.overrides import (
    TensorTypes,
    parse_layers,
    parse_override,
    parse_tensor_type,
    parse_type,
    read_tensor_types,
)
from ollamaq.quantize.parts import part_paths, split_plan, write_parts
from ollamaq.source import fingerprint, open_source


@command
def quantize(
    source: SourcePath,
    output: Annotated[Path, typer.Argument(help="The GGUF to write.", show_default=False)],
    q: Mix = "Q4_K_M",
    imatrix: ImatrixFile = None,
    include_weights: IncludeWeights = None,
    exclude_weights: ExcludeWeights = None,
    pure: Pure = False,
    leave_output_tensor: LeaveOutputTensor = False,
    output_tensor_type: OutputTensorType = None,
    token_embedding_type: TokenEmbeddingType = None,
    tensor_type: TensorType = None,
    tensor_type_file: TensorTypeFile = None,
    allow_requantize: AllowRequantize = False,
    override_kv: OverrideKv = None,
    prune_layers: PruneLayers = None,
    keep_split: KeepSplit = False,
    threads: Threads = None,
    max_memory: MaxMemory = "1G",  # type: ignore[assignment]  # typer parses it
    resume: Resume = False,
    dry_run: DryRun = False,
    base: Base = None,
    adapter: Adapters = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize a model straight to a GGUF: the bytes that llama-quantize would write."""
    out = Output(as_json=as_json, quiet=quiet)
    name, mix = find_mix(q)
    overrides = Overrides(
        pure=pure,
        leave_output=leave_output_tensor,
        output=named_type(output_tensor_type),
        token_embedding=named_type(token_embedding_type),
        tensors=tensor_types(tensor_type, tensor_type_file),
        allow_requantize=allow_requantize,
        metadata=dict(map(parse_override, override_kv or ())),
        prune=parse_layers(prune_layers),
        in_source_order=keep_split,
    )
    weights = importance(imatrix, include_weights, exclude_weights)
    opened = open_source(source, base=base, adapters=adapter or (), outtype=outtype_for(name))
    plan = make_plan(opened.model, mix, imatrix=weights, overrides=overrides)
    parts = [plan]
    if keep_split and len(opened.files) > 1 and opened.checkpoint is None:
        parts = split_plan(plan, list(read_parts(source).values()), overrides)
    paths, seconds = part_paths(output, len(parts)), 0.0
    if not dry_run:
        inputs = [*opened.files, Path(imatrix)] if imatrix else opened.files
        started = time.monotonic()
        with out.progress() as progress:
            write_parts(
                output,
                parts,
                threads=threads,
                max_memory=max_memory,
                resume=fingerprint(inputs) if resume else None,
                progress=lambda done, total: progress(f"quantizing {name}", done, total),
            )
        seconds = time.monotonic() - started
    rows = table("would quantize" if dry_run else "quantized", "", ">")
    rows.add_row(str(source), size(opened.n_bytes))
    written = plan.n_bytes if dry_run else sum(path.stat().st_size for path in paths)
    rows.add_row("\n".join(map(str, paths)), size(written))
    rows.add_row("bits per weight", f"{plan.bits_per_weight:.2f}")
    rows.add_row("types", ", ".join(f"{count} {kind}" for kind, count in count_types(plan).items()))
    if not dry_run:
        rows.add_row("time", f"{seconds:.1f} s")
    data = {
        "output": [str(path) for path in paths] if keep_split else str(output),
        "mix": name,
        "bytes": plan.n_bytes,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "types": count_types(plan),
        "seconds": round(seconds, 3),
        "dry_run": dry_run,
    }
    out.result(data, rows, brief="\n".join(map(str, paths)))


def outtype_for(name: str) -> str:
    """What a checkpoint becomes before a mix of this name: nothing is lost, and COPY takes blocks as they are."""
    return KEEP if name == "COPY" else "native"


def importance(path: str | None, include: list[str] | None, exclude: list[str] | None) -> Imatrix | None:
    """The chosen entries of an importance matrix, if there is one."""
    return read_imatrix(path).select(include or (), exclude or ()) if path else None


def named_type(text: str | None) -> Type | None:
    """The type of a name, if there is one."""
    return parse_type(text) if text else None


def tensor_types(given: list[str] | None, file: Path | None = None) -> TensorTypes:
    """The types of ``--tensor-type``, then those of ``--tensor-type-file``."""
    return tuple(map(parse_tensor_type, given or ())) + (read_tensor_types(file) if file else ())


def count_types(plan: Plan) -> dict[str, int]:
    """How many tensors get each type, the most frequent first."""
    names = [planned.type.name for planned in plan.tensors]
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
