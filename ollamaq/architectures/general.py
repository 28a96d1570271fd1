"""The ``general.*`` keys: what a model calls itself, by its model card, its config and its directory's name.

The guesses are gguf-py's (``gguf/metadata.py``), on which llama.cpp's converter relies too.
"""

from __future__ import annotations

from collections.abc import Iterable

import gguf
from gguf import GGUFValueType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
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


def general(checkpoint: Checkpoint, arch: str, tensors: Iterable[Tensor]) -> Metadata:
    """Everything that precedes the architecture's own keys.

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
    return first | _sampling(checkpoint) | named


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


def _sampling(checkpoint: Checkpoint) -> Metadata:
    chosen = checkpoint.generation_config
    found = {}
    for key, type_, names in SAMPLING:
        value = next((chosen[name] for name in names if name in chosen), None)
        if value is not None and value != "":
            found[f"general.sampling.{key}"] = Value(type_, value)
    return found


def _value(kept: gguf.gguf_writer.GGUFValue) -> Value:
    if kept.type is GGUFValueType.ARRAY:
        return Value(kept.type, kept.value, GGUFValueType.get_type(kept.value[0]))
    if kept.type is STRING and not isinstance(kept.value, dict | list):
        return Value(STRING, str(kept.value))  # YAML reads `version: 1.0` as a number
    return Value(kept.type, kept.value)
