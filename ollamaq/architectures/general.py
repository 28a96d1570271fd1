"""The ``general.*`` keys: what a model calls itself, by its model card, its config and its directory's name.

The guesses are gguf-py's (``gguf/metadata.py``), on which llama.cpp's converter relies too.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
from gguf import GGUFValueType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import own_name
from ollamaq.gguf.model import Metadata, Value
from ollamaq.tensors import Tensor

F32, I32, STRING = GGUFValueType.FLOAT32, GGUFValueType.INT32, GGUFValueType.STRING
SAMPLING: tuple[tuple[str, GGUFValueType, tuple[str, ...]], ...] = (
    ("sequence", STRING, ("sequence",)),
    ("top_k", I32, ("top_k",)),
    ("top_p", F32, ("top_p",)),
    ("min_p", F32, ("min_p",)),
    ("xtc_probability", F32, ("xtc_probability",)),
    ("xtc_threshold", F32, ("xtc_threshold",)),
    ("temp", F32, ("temperature",)),
    ("penalty_last_n", I32, ("penalty_last_n",)),
    ("penalty_repeat", F32, ("penalty_repeat", "repetition_penalty")),
    ("mirostat", I32, ("mirostat",)),
    ("mirostat_tau", F32, ("mirostat_tau",)),
    ("mirostat_eta", F32, ("mirostat_eta",)),
)
"""Below ``general.sampling.``: the key, its type, and its names in generation_config.json."""


def _sampling_keys(type_: GGUFValueType) -> tuple[str, ...]:
    return tuple(f"general.sampling.{key}" for key, its, _ in SAMPLING if its == type_)


_KEYS = gguf.Keys.General
TEXTS = (
    *("name", "author", "version", "organization", "finetune", "basename", "description", "quantized_by"),
    *("size_label", "license", "license_name", "license_link", "url", "doi", "uuid", "repo_url"),
    *("source_url", "source_doi", "source_uuid", "source_repo_url"),
)
FIELDS = {
    **{getattr(_KEYS, field.upper()): field for field in TEXTS},
    _KEYS.TAGS: "tags",
    _KEYS.LANGUAGES: "languages",
    "general.base_models": "base_models",
    "general.datasets": "datasets",
}
"""Keys that may be given by hand, beside those of `SAMPLING`, and gguf-py's names for them."""
KINDS: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("a list of texts", lambda value: _all(str, value), (_KEYS.TAGS, _KEYS.LANGUAGES)),
    (
        "a list of objects of texts",
        lambda value: _all(dict, value) and all(_all(str, list(each.values())) for each in value),
        ("general.base_models", "general.datasets"),
    ),
    ("a text", lambda value: isinstance(value, str), (*FIELDS, *_sampling_keys(STRING))),
    ("a whole number", lambda value: type(value) is int and abs(value) < 2**31, _sampling_keys(I32)),
    ("a number", lambda value: type(value) in (int, float), _sampling_keys(F32)),
)
"""What a value by hand must be, told and tested; a key is of the first kind that names it."""
NONE: Mapping[str, Any] = MappingProxyType({})


def read_overrides(path: Path) -> dict[str, Any]:
    """What a JSON file of ``general.*`` keys says, as the converter's ``--metadata`` takes it.

    Raises:
        UsageError: it cannot be read, or has another key or kind of value.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"cannot read {path}: {error}", next_step='write an object such as {"general.author": "…"}'
        ) from error
    if not isinstance(given, dict):
        raise UsageError(f"{path} holds no object", next_step='write one such as {"general.author": "…"}')
    kinds = {key: (told, fits) for told, fits, keys in reversed(KINDS) for key in keys}
    for key, value in given.items():
        if key not in kinds:
            near = get_close_matches(key, kinds, 1)
            raise UsageError(
                f"{path} has the unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else ""),
                next_step=f"use {', '.join(kinds)}",
            )
        told, fits = kinds[key]
        if not fits(value):
            raise UsageError(f"{path}: {key} cannot be {reprlib.repr(value)}", next_step=f"give {told}")
    return given


def _all(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def general(
    checkpoint: Checkpoint, arch: str, tensors: Iterable[Tensor], overrides: Mapping[str, Any] = NONE
) -> Metadata:
    """Everything that precedes the architecture's own keys; ``overrides`` come from `read_overrides`.

    Raises:
        ModelRefused: the model card says something that cannot be used.
    """
    out = gguf.GGUFWriter(None, arch)  # it keeps the keys that gguf-py sets; nothing is written
    counts = _counts(tensors)
    path = checkpoint.home.with_name(own_name(checkpoint.home))
    try:
        card = gguf.Metadata.apply_metadata_heuristic(
            gguf.Metadata(), dict(checkpoint.model_card), checkpoint.config, path, counts[0]
        )
        for key in overrides.keys() & FIELDS.keys():
            setattr(card, FIELDS[key], overrides[key])
        card.name = path.name if card.name is None else card.name
        card.size_label = card.size_label or gguf.size_label(*counts)
        card.set_gguf_meta_model(out)
        named = {key: _value(kept) for key, kept in out.kv_data[0].items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelRefused(
            f"{checkpoint.home / 'README.md'} describes the model in a way that cannot be used: {error}",
            next_step="mend its front matter, or move the file away",
        ) from error
    first = {"general.architecture": named.pop("general.architecture"), "general.type": Value(STRING, "model")}
    return first | _sampling(checkpoint, overrides) | named


def _counts(tensors: Iterable[Tensor]) -> tuple[int, int, int, int]:
    """Weights: of all, of those that every token meets, and of one expert of each layer; and how many experts."""
    total = shared = one = experts = stacks = 0
    for tensor in tensors:
        total += tensor.n_values
        if "_exps." in tensor.name and len(tensor.shape) > 2:
            count = tensor.shape[-2 if ".bias" in tensor.name else -3]
            one, experts, stacks = one + tensor.n_values // count, experts + count, stacks + 1
        else:
            shared += tensor.n_values
    return total, shared, one, experts // stacks if stacks else 0


def _sampling(checkpoint: Checkpoint, overrides: Mapping[str, Any]) -> Metadata:
    chosen = checkpoint.generation_config
    found = {}
    for key, type_, names in SAMPLING:
        value = next((chosen[name] for name in names if name in chosen), None)
        value = overrides.get(f"general.sampling.{key}", value)
        if value is not None and value != "":
            found[f"general.sampling.{key}"] = Value(type_, value)
    return found


def _value(kept: gguf.gguf_writer.GGUFValue) -> Value:
    if kept.type is GGUFValueType.ARRAY:
        return Value(kept.type, kept.value, GGUFValueType.get_type(kept.value[0]))
    if kept.type is STRING and not isinstance(kept.value, dict | list):
        return Value(STRING, str(kept.value))  # YAML reads `version: 1.0` as a number
    return Value(kept.type, kept.value)
