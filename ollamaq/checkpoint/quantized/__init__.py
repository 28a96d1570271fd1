"""Checkpoints whose weights were quantized by other tools: given back as floats, when their rows are asked for.

A scheme is told by ``quantization_config`` in config.json. Each turns the stored tensors (codes, scales, zeros) into
one lazy tensor a weight, under the name that the weight had before.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ollamaq.checkpoint.quantized import (
    awq,
    bitnet,
    bitsandbytes,
    compressed_tensors,
    float8,
    gptq,
    mlx,
    modelopt,
    torchao,
)
from ollamaq.checkpoint.quantized.parts import Damaged, Kept, Settings, Tensors
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Scheme:
    """``restored`` gives all tensors with the quantized ones as floats; ``described`` says in words what was done.

    ``kept`` are those that a GGUF type holds as they are, with the same names.
    """

    restored: Callable[[Tensors, Settings], dict[str, Tensor]]
    described: Callable[[Settings], str]
    kept: Callable[[Tensors, Settings], dict[str, Kept]] = lambda tensors, settings: {}


SCHEMES = {
    "awq": Scheme(awq.restored, awq.described),
    "bitnet": Scheme(bitnet.restored, bitnet.described),
    "bitsandbytes": Scheme(bitsandbytes.restored, bitsandbytes.described),
    "compressed-tensors": Scheme(compressed_tensors.restored, compressed_tensors.described, compressed_tensors.kept),
    "fp8": Scheme(float8.restored, float8.described),
    "gptq": Scheme(gptq.restored, gptq.described),
    "mlx": Scheme(mlx.restored, mlx.described),
    "modelopt": Scheme(modelopt.restored, modelopt.described, modelopt.kept),
    "torchao": Scheme(torchao.restored, torchao.described),
    "mxfp4": Scheme(lambda tensors, settings: dict(tensors), lambda settings: "experts in MXFP4, kept as they are"),
}


def restored(tensors: dict[str, Tensor], config: dict[str, Any], where: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors as floats, and what had been done to them; None if nothing had.

    Raises:
        ModelRefused: the scheme is not known, or its tensors do not fit each other.
    """
    settings = _settings(config)
    if settings is None:
        return tensors, None
    return _using(settings, where, lambda scheme: (scheme.restored(tensors, settings), scheme.described(settings)))


def kept(tensors: dict[str, Tensor], config: dict[str, Any], where: Path) -> dict[str, Kept]:
    """The weights that a GGUF type holds as they are stored, by the name that `restored` has them under.

    Raises:
        ModelRefused: as `restored` does.
    """
    settings = _settings(config)
    return {} if settings is None else _using(settings, where, lambda scheme: scheme.kept(tensors, settings))


def _using(settings: Settings, where: Path, use: Callable[[Scheme], T]) -> T:
    method = settings.get("quant_method")
    if not isinstance(method, str) or method not in SCHEMES:
        raise ModelRefused(
            f"{where} says the weights are quantized by {reprlib.repr(method)}, which cannot be read",
            next_step=f"give the 16-bit model, or one in {', '.join(sorted(SCHEMES))}",
        )
    try:
        return use(SCHEMES[method])
    except (Damaged, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        said = error.what if isinstance(error, Damaged) else f"it lacks or misstates {error}"
        raise ModelRefused(
            f"{where} says the weights are quantized by {method}, and they are damaged: {said}",
            next_step="fetch or save the model again",
        ) from error


def _settings(config: dict[str, Any]) -> Settings | None:
    """A config's quantization, under one name: mlx-lm calls it ``quantization``, multimodal models put it deeper."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        if isinstance(place.get("quantization"), dict):
            return {"quant_method": "mlx", **place["quantization"]}
        for name in ("quantization_config", "compression_config"):
            if isinstance(place.get(name), dict):
                settings: Settings = place[name]
                return settings
    return None
