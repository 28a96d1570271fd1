"""The plan of a quantization: a type for every tensor, decided before a byte is read.

Order, counters and rules are those of llama.cpp's ``src/llama-quant.cpp``; the plan depends on names, shapes and
metadata alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gguf import GGML_QUANT_SIZES, GGUFValueType
from gguf import GGMLQuantizationType as Type

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.quantize.dequantize import FLOATS
from ollamaq.quantize.imatrix import Imatrix, Weights
from ollamaq.quantize.mixes import FALLBACKS, Kind, Mix, Place
from ollamaq.quantize.overrides import Overrides, prune
from ollamaq.tensors import Tensor

NEVER_WITHOUT_WEIGHTS = frozenset({Type.IQ1_S, Type.IQ2_XXS, Type.IQ2_XS})
"""Types whose kernels need importance weights; others of few bits are only refused where they would do harm."""
LARGEST_LAST_BLOCK = 32
"""Of types that need no fall-back: what they do not fit becomes F16."""
NONE = Overrides()
NOWHERE = re.compile(r"(?!)")

KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d"
    r"|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight"
    r"|time_mix_(first|w[0-2]|v[0-2]|a[0-2]|g[12]|decay_w[12]|lerp_fused)\.weight|attn_rel_b\.weight|\.position_embd"
    r"|sam\.pos_embd|sam\.neck\.|sam\.net_|\.rel_pos|\.patch_embd|\.patch_merger|a\.rvq\.codebook|mm\.a\.code_embd"
    r"|^position_embd\.weight$|^token_types\.weight$"
)
"""Tensors that no mix touches: they are small, and a model is sensitive to them."""

KEPT_IN = {
    "glm5-next": re.compile(
        r"hc_|indexer\.(attn_q_b|attn_k|proj)|indexer_compressor_(gate|ape)"
        r"|(ssm_[fg]_[ab]|ssm_beta|attn_kv_a_mqa|attn_[kv]_b)\.weight"
    )
}
"""More of them, in some architectures."""
AT_LEAST_Q8_0 = {"glm5-next": re.compile(r"attn_q_[ab]|nextn\.eh_proj")}

LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""Models of this depth share each value head among many query heads, so attn_v is worth an extra bit."""


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor and the type it is to be written as.

    ``weights`` tell, for each of its matrices, how much each value of a row matters, if that is known.
    """

    tensor: Tensor
    type: Type
    weights: Weights | None = None

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


def make_plan(model: Model, mix: Mix, *, imatrix: Imatrix | None = None, overrides: Overrides = NONE) -> Plan:
    """Decide the type of every tensor of a model, and which importance weights it is quantized with.

    Raises:
        ModelRefused: a tensor is quantized already, the metadata needed by the rules is missing, or the importance
            matrix is of another model.
        UsageError: a type needs an importance matrix, and there is none; or an override cannot be followed.
    """
    known = model.metadata | overrides.metadata
    tensors = list(model.tensors)
    if not overrides.in_source_order:
        tensors.sort(key=lambda tensor: (_layer(tensor.name), tensor.name.encode()))
    renamed = overrides.renaming(tensors)
    tensors = prune(tensors, renamed)
    weights = imatrix and imatrix.renamed(renamed)
    chooser = _Chooser(known, tensors, mix, weights, overrides)
    planned = tuple(chooser.plan(tensor) for tensor in tensors)
    n_layers = 1 + max((_layer(tensor.name) for tensor in tensors), default=0)
    return Plan(_metadata(known, mix, imatrix, overrides, chooser.architecture, n_layers), planned)


class _Chooser:
    """Applies a mix to tensors in file order, counting layers as it goes (an expert's layer is read off its name)."""

    def __init__(
        self, metadata: Metadata, tensors: Sequence[Tensor], mix: Mix, imatrix: Imatrix | None, overrides: Overrides
    ) -> None:
        self.mix, self.imatrix, self.overrides = mix, imatrix, overrides
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
        if type_ is tensor.type:
            return PlannedTensor(tensor, type_)
        if tensor.type not in FLOATS and not self.overrides.allow_requantize:
            raise ModelRefused(
                f"tensor {tensor.name!r} is {tensor.type.name} already: quantizing it again would lose more",
                next_step="start from the F16, BF16 or F32 model, or insist with --allow-requantize",
            )
        if tensor.row % GGML_QUANT_SIZES[type_][0]:
            raise UsageError(
                f"{tensor.name!r} has rows of {tensor.row} values, which {type_.name} cannot hold",
                next_step="choose another type for it, such as Q8_0",
            )
        weights = self.imatrix.of(tensor) if self.imatrix and type_ not in FLOATS else None
        if weights is None and self._needs_weights(tensor, type_):
            raise UsageError(
                f"{type_.name}, for {tensor.name!r}, cannot be written without an importance matrix",
                next_step="make one with llama-imatrix, on text that reaches every expert, and give it with --imatrix",
            )
        return PlannedTensor(tensor, type_, weights)

    def _needs_weights(self, tensor: Tensor, type_: Type) -> bool:
        exempt = Kind.of(tensor.name) in (Kind.OUTPUT, Kind.TOKEN_EMBD)
        return type_ in NEVER_WITHOUT_WEIGHTS or (type_ in self.mix.imatrix_for and not exempt)

    def type_of(self, tensor: Tensor) -> Type:
        kind, default, overrides = Kind.of(tensor.name), self.mix.default, self.overrides
        if default is None or not _may_be_quantized(tensor, self.architecture):
            return tensor.type
        if kind is Kind.OUTPUT and overrides.leave_output:
            return tensor.type
        named = overrides.type_of(tensor.name)
        if kind is Kind.TOKEN_EMBD and overrides.token_embedding is not None:
            if tensor.name == "token_embd.weight" or named is None:
                return overrides.token_embedding
        elif kind is Kind.OUTPUT and overrides.output is not None:
            return overrides.output
        if default in FLOATS:
            return default
        if named is None:
            named = default if overrides.pure else self._by_rule(tensor, kind, default)
        for candidate in (named, FALLBACKS.get(named, named)):
            if tensor.row % GGML_QUANT_SIZES[candidate][0] == 0:
                return candidate
        has_none = GGML_QUANT_SIZES[named][0] > LARGEST_LAST_BLOCK and named not in FALLBACKS
        return named if has_none else Type.F16  # as it is, it will be refused

    def _by_rule(self, tensor: Tensor, kind: Kind, default: Type) -> Type:
        falcon = self.architecture == "falcon"
        if re.search(AT_LEAST_Q8_0.get(self.architecture, NOWHERE), tensor.name):
            return Type.Q8_0
        if kind is Kind.OUTPUT or (kind is Kind.TOKEN_EMBD and self.tied):
            if self.overrides.output is not None:
                return self.overrides.output
            odd = tensor.row % GGML_QUANT_SIZES[default][0] != 0
            return Type.Q8_0 if default is Type.Q8_0 or falcon or odd else self.mix.output
        layer = self._layer_of(tensor, kind)
        self.seen[kind] += 1
        layers = self.attn_v_count if kind is Kind.ATTN_V else self.block_count
        place = Place(
            layer,
            layers,
            falcon=falcon,
            eight_experts=self.experts == 8,
            four_experts=self.experts >= 4,
            shared_heads=self.shared_heads,
            stacked=self._is_stacked(tensor, kind),
            imatrix=self.imatrix is not None,
        )
        chosen = self.mix.exception(kind, place) or default
        if self.mix.lowest or default is Type.MXFP4:  # no rule adds bits to these
            return chosen
        if kind is Kind.ATTN_V and self.is_70b and chosen in (Type.Q3_K, Type.Q4_K):
            chosen = Type.Q5_K
        if kind in (Kind.ATTN_V, Kind.ATTN_K) and self.experts == 8:
            chosen = Type.Q8_0
        return chosen

    def _is_stacked(self, tensor: Tensor, kind: Kind) -> bool:
        stack = len(tensor.shape) > 2 and tensor.shape[-3] > 1
        return stack and (self.architecture != "bailingmoe3" or kind in (Kind.FFN_UP, Kind.FFN_GATE, Kind.FFN_DOWN))

    def _layer_of(self, tensor: Tensor, kind: Kind) -> int:
        if self.experts <= 1 or self.mix.lowest or kind not in (Kind.FFN_UP, Kind.FFN_GATE, Kind.FFN_DOWN):
            return self.seen[kind]
        layer = _layer(tensor.name)
        if not 0 <= layer < self.block_count:
            raise ModelRefused(f"expert tensor {tensor.name!r} is in none of the model's {self.block_count} layers")
        return layer


def _may_be_quantized(tensor: Tensor, architecture: str) -> bool:
    dimensions = [n for i, n in enumerate(tensor.shape) if any(m != 1 for m in tensor.shape[: i + 1])]
    kept = KEPT.search(tensor.name) or re.search(KEPT_IN.get(architecture, NOWHERE), tensor.name)
    return len(dimensions) > 1 and tensor.name.endswith("weight") and not kept


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


def _metadata(
    known: Metadata, mix: Mix, imatrix: Imatrix | None, overrides: Overrides, architecture: str, n_layers: int
) -> Metadata:
    """What the model says, then what is new, in the order in which ``llama-quantize`` sets it."""
    u32 = GGUFValueType.UINT32
    new = {"general.quantization_version": Value(u32, 2)}
    if file_type := known.get("general.file_type") if mix.file_type is None else Value(u32, int(mix.file_type)):
        new["general.file_type"] = file_type
    groups = [new, overrides.metadata, imatrix.metadata() if imatrix else {}]
    if overrides.prune:
        groups.append({f"{architecture}.block_count": Value(u32, n_layers)})
    out = {key: value for key, value in known.items() if not key.startswith("split.")}
    for group in groups:
        out = {key: value for key, value in out.items() if key not in group} | group
    return out
