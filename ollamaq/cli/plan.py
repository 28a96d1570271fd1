"""``ollamaq plan``: what quantizing would make of each tensor, without writing anything."""

from __future__ import annotations

from typing import Annotated

import typer

from ollamaq.cli.options import ExcludeWeights, ImatrixFile, IncludeWeights, Json, Quiet, Source
from ollamaq.cli.output import Output, command, size, table
from ollamaq.cli.quantize import count_types, planned
from ollamaq.source import open_source


@command
def plan(
    source: Source,
    q: Annotated[str, typer.Option("--q", "-q", help="The mix: Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, …")] = "Q4_K_M",
    imatrix: ImatrixFile = None,
    include_weights: IncludeWeights = None,
    exclude_weights: ExcludeWeights = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the type, the size and the bits per weight that each tensor would get."""
    out = Output(as_json=as_json, quiet=quiet)
    name, decided = planned(open_source(source).model, q, imatrix, include_weights, exclude_weights)
    rows = table(f"{source} as {name}", "tensor", "shape", "from", "to", ">size", ">bits per weight")
    for one in decided.tensors:
        shape = " x ".join(map(str, one.tensor.shape))
        bits = 8 * one.n_bytes / one.tensor.n_values
        rows.add_row(one.tensor.name, shape, one.tensor.type.name, one.type.name, size(one.n_bytes), f"{bits:.2f}")
    rows.add_row("all", "", "", "", size(decided.n_bytes), f"{decided.bits_per_weight:.2f}", style="bold")
    data = {
        "mix": name,
        "bytes": decided.n_bytes,
        "bits_per_weight": round(decided.bits_per_weight, 4),
        "types": count_types(decided),
        "tensors": [
            {
                "name": one.tensor.name,
                "shape": list(one.tensor.shape),
                "from": one.tensor.type.name,
                "type": one.type.name,
                "bytes": one.n_bytes,
            }
            for one in decided.tensors
        ],
    }
    out.result(data, rows, brief=str(decided.n_bytes))
