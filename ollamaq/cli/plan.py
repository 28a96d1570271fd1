"""``ollamaq plan``: what quantizing would make of each tensor, without writing anything."""

from __future__ import annotations

from ollamaq.cli.options import (
    Adapters,
    AllowRequantize,
    Base,
    ExcludeWeights,
    ImatrixFile,
    IncludeWeights,
    Json,
    LeaveOutputTensor,
    Mix,
    OutputTensorType,
    PruneLayers,
    Pure,
    Quiet,
    SourcePath,
    TensorType,
    TensorTypeFile,
    TokenEmbeddingType,
)
from ollamaq.cli.output import Output, command, size, table
from ollamaq.cli.quantize import count_types, importance, named_type, outtype_for, tensor_types
from ollamaq.quantize import Overrides, find_mix, make_plan
from ollamaq.quantize.overrides import parse_layers
from ollamaq.source import open_source


@command
def plan(
    source: SourcePath,
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
    prune_layers: PruneLayers = None,
    base: Base = None,
    adapter: Adapters = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the type, the size and the bits per weight that each tensor would get."""
    out = Output(as_json=as_json, quiet=quiet)
    name, mix = find_mix(q)
    overrides = Overrides(
        pure=pure,
        leave_output=leave_output_tensor,
        output=named_type(output_tensor_type),
        token_embedding=named_type(token_embedding_type),
        tensors=tensor_types(tensor_type, tensor_type_file),
        allow_requantize=allow_requantize,
        prune=parse_layers(prune_layers),
    )
    weights = importance(imatrix, include_weights, exclude_weights)
    opened = open_source(source, base=base, adapters=adapter or (), outtype=outtype_for(name))
    decided = make_plan(opened.model, mix, imatrix=weights, overrides=overrides)
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
