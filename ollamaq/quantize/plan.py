"""The plan of a quantization: a type for every tensor, decided before a byte is read.

Order, counters and rules are those of llama.cpp's ``src/llama-quant.cpp``; the plan depends on names, shapes and
metadata alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFValueType
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.quantize.mixes import FALLBACKS, Kind, Mix, Place
from ollamaq.tensors import Tensor

FLOATS = frozenset({Type.F32, Type.F16, Type.BF16})

KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d"
    r"|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight"
    r"|time_mix_(first|w[0-2]|v[0-2]|a[0-2]|g[12]|decay_w[12]|lerp_fused)\.weight|attn_rel_b\.weight|\.position_embd"
    r"|sam\.pos_embd|sam\.neck\.|sam\.net_|\.rel_pos|\.patch_embd|\.patch_merger|a\.rvq\.codebook|mm\.a\.code_embd"
    r"|^position_embd\.weight$|^token_types\.weight$"
)
"""Tensors that no mix touches: they are small, and a model is sensitive to them."""

LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""Models of this depth share each value head among many query heads, so attn_v is worth an extra bit."""


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor and the type it is to be written as.

    ``weights``, of shape (matrices, values in a row), tell how much each value of a row matters, if that is known;
    ``needs_weights`` where the type is not written without.
    """

    tensor: Tensor
    type: Type
    weights: NDArray[np.float32] | None = None
    needs_weights: bool = False

    @property
    def n_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.type]
        return self.tensor.n_values // block * size


@dataclass(frozen=True)
class Plan:
    """Metadata and tensors of the file to be written, in its order."""

    metadata: Metadata
    tensors: tuple[PlannedTensor, ...]

    @property
    def n_bytes(self) -> int:
        return sum(planned.n_bytes for planned in self.tensors)

    @property
    def n_values(self) -> int:
        return sum(planned.tensor.n_values for planned in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / max(1, self.n_values)


def make_plan(model: Model, mix: Mix, *, imatrix: bool = False) -> Plan:
    """Decide the type of every tensor of a model of floats; ``imatrix`` tells whether weights will be applied.

    Raises:
        ModelRefused: a tensor is quantized already, or the metadata needed by the rules is missing.
        UsageError: the mix needs an importance matrix, and there is none.
    """
    tensors = sorted(model.tensors, key=lambda tensor: (_layer(tensor.name), tensor.name.encode()))
    for tensor in tensors:
        if tensor.type not in FLOATS and _may_be_quantized(tensor):
            raise ModelRefused(
                f"tensor {tensor.name!r} is {tensor.type.name} already: quantizing it again would lose more",
                next_step="start from the F16, BF16 or F32 model",
            )
    chooser = _Chooser(model.metadata, tensors, mix, imatrix)
    planned = tuple(chooser.plan(tensor) for tensor in tensors)
    for one in planned:
        if one.needs_weights and not imatrix:
            raise UsageError(
                f"{one.type.name}, for {one.tensor.name!r}, cannot be written without an importance matrix",
                next_step="make one with llama-imatrix and give it with --imatrix, or choose a larger mix",
            )
    return Plan(_metadata(model.metadata, mix), planned)


class _Chooser:
    """Applies a mix to tensors in file order, counting layers as it goes (an expert's layer is read off its name)."""

    def __init__(self, metadata: Metadata, tensors: Sequence[Tensor], mix: Mix, imatrix: bool) -> None:
        self.mix, self.imatrix = mix, imatrix
        self.architecture = str(_get(metadata, "general.architecture"))
        self.block_count = int(_get(metadata, f"{self.architecture}.block_count"))
        self.experts = int(_get(metadata, f"{self.architecture}.expert_count", 0))
        self.tied = all(tensor.name != "output.weight" for tensor in tensors)
        heads = _get(metadata, f"{self.architecture}.attention.head_count", 0)
        kv_heads = _get(metadata, f"{self.architecture}.attention.head_count_kv", heads)
        self.shared_heads = kv_heads > 0 and heads // kv_heads >= 4
        self.is_70b = LAYERS_OF_70B.get(self.architecture) == self.block_count and not (
            self.architecture == "llama" and heads == kv_heads
        )
        self.attn_v_count = sum(Kind.of(tensor.name) is Kind.ATTN_V for tensor in tensors)
        self.seen = dict.fromkeys(Kind, 0)

    def plan(self, tensor: Tensor) -> PlannedTensor:
        type_ = self.type_of(tensor)
        exempt = Kind.of(tensor.name) in (Kind.OUTPUT, Kind.TOKEN_EMBD)
        return PlannedTensor(tensor, type_, needs_weights=type_ in self.mix.imatrix_for and not exempt)

    def type_of(self, tensor: Tensor) -> Type:
        if not _may_be_quantized(tensor):
            return tensor.type
        default = self.mix.default
        if default in FLOATS:
            return default
        chosen = self._by_rule(tensor)
        for candidate in (chosen, FALLBACKS.get(chosen, chosen)):
            if tensor.row % GGML_QUANT_SIZES[candidate][0] == 0:
                return candidate
        return Type.F16

    def _by_rule(self, tensor: Tensor) -> Type:
        kind, default = Kind.of(tensor.name), self.mix.default
        falcon = self.architecture == "falcon"
        if kind is Kind.OUTPUT or (kind is Kind.TOKEN_EMBD and self.tied):
            odd = tensor.row % GGML_QUANT_SIZES[default][0] != 0
            return Type.Q8_0 if default is Type.Q8_0 or falcon or odd else self.mix.output
        layer = self._layer_of(tensor, kind)
        self.seen[kind] += 1
        layers = self.attn_v_count if kind is Kind.ATTN_V else self.block_count
        stacked = len(tensor.shape) > 2 and tensor.shape[-3] > 1
        experts = self.experts == 8, self.experts >= 4
        place = Place(layer, layers, falcon, experts[0], self.shared_heads, stacked, self.imatrix, experts[1])
        chosen = self.mix.type_of(kind, place)
        if self.mix.lowest or self.mix.default is Type.Q8_0:  # or MXFP4, for experts: no rule adds bits to it
            return chosen
        if kind is Kind.ATTN_V and self.is_70b and chosen in (Type.Q3_K, Type.Q4_K):
            chosen = Type.Q5_K
        if kind in (Kind.ATTN_V, Kind.ATTN_K) and self.experts == 8:
            chosen = Type.Q8_0
        return chosen

    def _layer_of(self, tensor: Tensor, kind: Kind) -> int:
        if self.experts <= 1 or self.mix.lowest or kind not in (Kind.FFN_UP, Kind.FFN_GATE, Kind.FFN_DOWN):
            return self.seen[kind]
        layer = _layer(tensor.name)
        if not 0 <= layer < self.block_count:
            raise ModelRefused(f"expert tensor {tensor.name!r} is in none of the model's {self.block_count} layers")
        return layer


def _may_be_quantized(tensor: Tensor) -> bool:
    dimensions = [n for i, n in enumerate(tensor.shape) if any(m != 1 for m in tensor.shape[: i + 1])]
    return len(dimensions) > 1 and tensor.name.endswith("weight") and not KEPT.search(tensor.name)


def _layer(name: str) -> int:
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _get(metadata: Metadata, key: str, default: Any = None) -> Any:
    if key in metadata:
        value = metadata[key].value
        return value[0] if isinstance(value, list) else value
    if default is None:
        raise ModelRefused(f"the model's metadata lacks {key!r}", next_step="convert the model anew")
    return default


def _metadata(metadata: Metadata, mix: Mix) -> Metadata:
    rewritten = {"general.quantization_version": 2, "general.file_type": int(mix.file_type)}
    kept = {k: v for k, v in metadata.items() if k not in rewritten and not k.startswith("split.")}
    return kept | {key: Value(GGUFValueType.UINT32, value) for key, value in rewritten.items()}
