"""Mixes give each tensor the type that llama.cpp's llama-quantize gives it.

``data/plans.json.gz`` holds what llama-quantize b11434 made of small models of many shapes, with and without an
importance matrix: its types and its order.
"""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Model, Value
from ollamaq.quantize import MIXES, Imatrix, find_mix, make_plan
from ollamaq.quantize.imatrix import Entry
from ollamaq.tensors import Tensor

PLANS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "plans.json.gz").read_bytes()))


def value(plain) -> Value:
    if isinstance(plain, str):
        return Value(GGUFValueType.STRING, plain)
    return Value(GGUFValueType.FLOAT32 if isinstance(plain, float) else GGUFValueType.UINT32, plain)


def tensor(name, type_name, shape) -> Tensor:
    return Tensor(name, Type[type_name], tuple(shape), lambda start, stop: np.zeros((stop - start, shape[-1])))


@cache
def synthetic(shape) -> Model:
    entry = PLANS[shape]
    metadata = {key: value(plain) for key, plain in entry["metadata"].items()}
    return Model(metadata, tuple(tensor(*source) for source in entry["source"]))


def importance(model) -> Imatrix:
    """Weights for every matrix of the layers."""

    def size(tensor) -> int:
        return tensor.row * (tensor.shape[0] if len(tensor.shape) > 2 else 1)

    layers = [tensor for tensor in model.tensors if tensor.name.startswith("blk.") and len(tensor.shape) > 1]
    return Imatrix("imatrix.dat", {tensor.name: Entry(size(tensor), lambda start, stop: None) for tensor in layers})


@pytest.mark.parametrize("shape", PLANS)
@pytest.mark.parametrize("imatrix", [False, True])
@pytest.mark.parametrize("mix", [name for name in MIXES if name != "F32"])
def test_types_and_order_are_those_of_llama_quantize(mix, imatrix, shape):
    expected = PLANS[shape]["mixes"].get(mix + "+imatrix" * imatrix)
    known = importance(synthetic(shape)) if imatrix else None
    if expected is None:  # llama-quantize refused
        with pytest.raises(UsageError, match=r"cannot be written without an importance matrix|which Q1_0 cannot hold"):
            make_plan(synthetic(shape), find_mix(mix)[1], imatrix=known)
        return
    plan = make_plan(synthetic(shape), find_mix(mix)[1], imatrix=known)
    assert [p.tensor.name for p in plan.tensors] == PLANS[shape]["order"]
    assert [p.type.name for p in plan.tensors] == expected
    new = [key for key in plan.metadata if not key.startswith("quantize.imatrix")]
    assert new[-2:] == ["general.quantization_version", "general.file_type"]


def test_the_goldens_exercise_every_fall_back_and_every_exception():
    given = {t for entry in PLANS.values() for types in entry["mixes"].values() for t in types}
    floats, legacy = {"F32", "F16", "BF16"}, {"Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "IQ4_NL"}
    k_quants, low_bit = {"Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"}, {"TQ1_0", "TQ2_0", "MXFP4", "Q1_0", "Q2_0"}
    i_quants = {"IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M"}
    assert given == floats | legacy | k_quants | low_bit | i_quants


def test_a_mix_is_found_whatever_its_case_and_by_its_short_name():
    assert find_mix("q5_k_m")[0] == "Q5_K_M"
    assert find_mix("Q4_K")[0] == "Q4_K_M"


@pytest.mark.parametrize(("typed", "meant"), [("Q5_KM", "Q5_K_M"), ("q4km", "Q4_K_M"), ("Q8", "Q8_0")])
def test_an_unknown_mix_is_answered_with_the_one_that_was_meant(typed, meant):
    with pytest.raises(UsageError, match=f"unknown quantization '{typed}': did you mean {meant}\\?"):
        find_mix(typed)


def test_a_model_that_is_quantized_already_is_refused():
    quantized = Model(synthetic("tied").metadata, (tensor("blk.0.attn_q.weight", "Q4_K", (256, 256)),))
    with pytest.raises(ModelRefused, match=r"'blk\.0\.attn_q\.weight' is Q4_K already"):
        make_plan(quantized, find_mix("Q5_K_M")[1])


def test_what_has_its_type_already_is_left_alone():
    quantized = tensor("blk.0.attn_q.weight", "Q8_0", (256, 256))
    model = Model(synthetic("tied").metadata, (quantized,))
    assert make_plan(model, find_mix("Q8_0")[1]).tensors[0].type is Type.Q8_0


def test_a_model_without_its_depth_is_refused():
    bare = Model({"general.architecture": value("llama")}, ())
    with pytest.raises(ModelRefused, match=r"lacks 'llama\.block_count'"):
        make_plan(bare, find_mix("Q5_K_M")[1])


def test_sizes_are_known_before_anything_is_read():
    plan = make_plan(synthetic("grouped-query"), find_mix("Q8_0")[1])
    weights = sum(p.n_bytes for p in plan.tensors if p.type is Type.Q8_0)
    values = sum(p.tensor.n_values for p in plan.tensors if p.type is Type.Q8_0)
    assert weights == values * 34 // 32
    assert 8.5 < plan.bits_per_weight < 8.6
