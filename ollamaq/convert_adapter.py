"""An adapter in GGUF's terms, not merged: what llama.cpp's ``convert_lora_to_gguf.py`` writes, and servers load.

One ``alpha`` is there for all tensors; where training scaled some in another way (rsLoRA, patterns), B has the rest.
"""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType
from numpy.typing import NDArray

from ollamaq.architectures import family_of
from ollamaq.architectures.general import general
from ollamaq.checkpoint import Checkpoint
from ollamaq.checkpoint.lora import Adapter, products
from ollamaq.checkpoint.lora.lowrank import LowRank
from ollamaq.convert import completed
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Model, Value
from ollamaq.placing import placed
from ollamaq.tensors import Tensor

STRING, F32 = GGUFValueType.STRING, GGUFValueType.FLOAT32
NOT_OF_ADAPTERS = ("general.sampling.", "general.size_label")


def convert_adapter(base: Checkpoint, adapter: Adapter) -> Model:
    """The adapter's factors under the names and in the row order of the base's GGUF, in float32; they stay lazy.

    Raises:
        ModelRefused: the adapter has no place on the base, or does more than add products to matrices.
    """
    where = str(base.path / "config.json")
    family, config = completed(base, family_of(base.config, where), where)
    names = gguf.get_tensor_name_map(family.arch, config["blocks"])
    added = products(base, adapter)
    if not added:
        raise ModelRefused(f"{adapter.path} has no factors", next_step="merge it: leave --adapter-only out")
    alpha = _alpha(adapter, next(iter(added.values())))
    tensors = []
    for original, product in added.items():
        a, b = _factors(product, alpha)
        for name, whole in placed(original, b, family, names, config).items():
            rearrange = family.rearranged.get(name.split(".")[-2]) if name else None
            tensor = rearrange(whole, config) if rearrange else whole
            if not name or len(tensor.shape) != 2 or tensor.row != b.row:
                raise ModelRefused(
                    f"{adapter.path} changes {original!r}, whose columns a {family.classes[0]} has elsewhere in GGUF",
                    next_step="merge it: leave --adapter-only out",
                )
            tensors += [
                Tensor(f"{name}.lora_a", Type.F32, a.shape, a.rows),
                Tensor(f"{name}.lora_b", Type.F32, tensor.shape, tensor.rows),
            ]
    kept = general(base, gguf.MODEL_ARCH_NAMES[family.arch], ())
    kept |= {"general.type": Value(STRING, "adapter")}
    first = {key: kept.pop(key) for key in ("general.architecture", "general.type")}
    kept = {key: value for key, value in kept.items() if not key.startswith(NOT_OF_ADAPTERS)}
    last = {
        "adapter.lora.alpha": Value(F32, alpha),
        "general.quantization_version": Value(GGUFValueType.UINT32, gguf.GGML_QUANT_VERSION),
    }
    return Model(first | {"adapter.type": Value(STRING, "lora")} | kept | last, tuple(tensors))


def _alpha(adapter: Adapter, product: LowRank) -> float:
    said = adapter.config.get("lora_alpha")
    return float(said) if isinstance(said, int | float) and said else product.scale * product.factors.rank or 1.0


def _factors(product: LowRank, alpha: float) -> tuple[Tensor, Tensor]:
    """A and B, with which llama.cpp's ``alpha / rank * B @ A`` is what was trained."""
    factors, rest = product.factors, product.scale * product.factors.rank / alpha

    def a(start: int, stop: int) -> NDArray[Any]:
        return np.ascontiguousarray(factors.a(0, 0, factors.inputs)[start:stop])

    def b(start: int, stop: int) -> NDArray[Any]:
        return np.ascontiguousarray(factors.b(0, start, stop) * np.float32(rest))

    return (
        Tensor("", Type.F32, (factors.rank, factors.inputs), a),
        Tensor("", Type.F32, (factors.outputs, factors.rank), b),
    )
