"""``ollamaq inspect``: what a model directory or a GGUF holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from ollamaq.cli.options import Adapters, Base, Json, Quiet, SourcePath
from ollamaq.cli.output import Output, command, size, table
from ollamaq.source import open_source

LONG = 8
"""Arrays longer than this are told by their length."""


@command
def inspect(
    source: SourcePath,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor too.")] = False,
    base: Base = None,
    adapter: Adapters = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a model's metadata and tensors as they are, or would be, in GGUF."""
    out = Output(as_json=as_json, quiet=quiet)
    opened = open_source(source, base=base, adapters=adapter or ())
    model = opened.model
    values = sum(tensor.n_values for tensor in model.tensors)
    types = Counter(tensor.type.name for tensor in model.tensors)
    metadata = {key: brief(value.value) for key, value in model.metadata.items()}
    overview = table(str(source), "", "")
    overview.add_row("size", size(opened.n_bytes))
    overview.add_row("weights", f"{values / 1e6:.1f} M in {len(model.tensors)} tensors")
    overview.add_row("types", ", ".join(f"{count} {name}" for name, count in types.most_common()))
    lost = opened.checkpoint.quantized if opened.checkpoint else None
    if lost:
        overview.add_row("lost before", escape(lost))
    for fact in merged_facts(opened.merged):
        overview.add_row(*fact)
    keys = table("metadata", "", "")
    for key, value in metadata.items():
        text = str(value)
        keys.add_row(key, escape(text if len(text) <= 80 else f"{text[:77]}…"))
    shown = [keys]
    listing = [{"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape)} for tensor in model.tensors]
    if tensors:
        rows = table("tensors", "", "", ">")
        for entry in listing:
            rows.add_row(str(entry["name"]), str(entry["type"]), " x ".join(map(str, entry["shape"])))
        shown.append(rows)
    data: dict[str, Any] = {
        "path": str(source),
        "bytes": opened.n_bytes,
        "weights": values,
        "types": dict(types),
        "quantized": lost,
        "metadata": metadata,
    } | opened.merged
    if tensors:
        data["tensors"] = listing
    out.result(data, overview, *shown, brief=str(source))


def merged_facts(merged: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What was merged, in lines for people."""
    if merged:
        yield "base", escape(" ".join(merged[key] for key in ("base", "revision") if key in merged))
    for told in merged.get("adapters", ()):
        parts = [f"{told['kind']} of rank {told['rank']} on {told['modules']} modules"] if told["modules"] else []
        parts += [f"{told['replaced']} new tensors"] if told["replaced"] else []
        parts += [f"{told['tokens']} new tokens"] if told["tokens"] else []
        weight = "" if told["weight"] == 1 else f" = {told['weight']:g}"
        yield "adapter", escape(f"{told['name']}{weight}: {', '.join(parts)}")


def brief(value: Any) -> Any:
    """A metadata value, or the length of a long array."""
    return f"{len(value)} values" if isinstance(value, list) and len(value) > LONG else value
