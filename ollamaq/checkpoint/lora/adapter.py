"""An adapter's directory: what its configuration says, and which tensors change which weights.

Formats: peft's (``adapter_config.json``, ``adapter_model.safetensors`` or ``.bin``) and mlx-lm's
(``adapters.safetensors``, whose ``lora_a`` and ``lora_b`` are transposed and whose scale stands in the configuration).
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamaq.checkpoint.directory import has_weights, inside, read_json
from ollamaq.checkpoint.pickled import read_pickled
from ollamaq.checkpoint.safetensors import read_safetensors
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.tensors import Tensor

CONFIG = "adapter_config.json"
PEFT_WEIGHTS, MLX_WEIGHTS = "adapter_model.safetensors", "adapters.safetensors"
READERS = {PEFT_WEIGHTS: read_safetensors, "adapter_model.bin": read_pickled, MLX_WEIGHTS: read_safetensors}

VARIANTS = {
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "use_bdlora": "BD-LoRA",
    "monteclora_config": "MonteCLoRA",
    "kasa_config": "KaSA",
    "layer_replication": "layer replication",
}
"""Settings of peft that make an adapter more than something that can be added to weights."""
REBASED = ("pissa", "corda", "olora", "lora_ga", "loftq")
"""Ways to initialise that take the adapter's first values out of the base, which is another one then."""

WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|token_adapter)\.")
SAVED = re.compile(r"\.modules_to_save(?:\.default)?(?=\.)")
PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_embedding_A|lora_embedding_B|lora_A|lora_B|lora_magnitude_vector)"
    r"(?:\.default)?(?P<bias>\.bias)?(?:\.weight)?"
)
MLX_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_a|lora_b|m)(?P<bias>)")
PARTS = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "magnitude",
    "lora_a": "A",
    "lora_b": "B",
    "m": "magnitude",
}
TOKENS = ".trainable_tokens_delta"
BASE_LAYER = ".base_layer.weight"

QUANTIFIER = re.compile(r"(?<!\\)[*+?{]")
REPOSITORY = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
"""A name on the Hugging Face Hub."""
MAX_QUANTIFIERS, MAX_PATTERN, LARGEST = 3, 1000, 1e30


@dataclass(frozen=True)
class Update:
    """What an adapter has for one module: factors ``A`` (rank x inputs) and ``B`` (outputs x rank), a DoRA magnitude, a
    bias of B.
    """

    name: str
    A: Tensor
    B: Tensor
    magnitude: Tensor | None = None
    bias: Tensor | None = None
    embedding: bool = False


@dataclass(frozen=True)
class Adapter:
    """An opened adapter.

    ``updates`` go by module. By tensor: ``replaced`` are whole new weights, ``bases`` are what the trainer had in the
    base's place, and ``tokens`` are new rows with the tokens they belong to. ``mlx`` tells whose format it is.
    """

    path: Path
    files: tuple[Path, ...]
    config: dict[str, Any]
    mlx: bool
    weight: float = 1.0
    updates: dict[str, Update] = field(default_factory=dict)
    replaced: dict[str, Tensor] = field(default_factory=dict)
    bases: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, tuple[Tensor, dict[int, int]]] = field(default_factory=dict)

    @property
    def base(self) -> str | None:
        """What the trainer called the base: a directory, or a name on the Hugging Face Hub."""
        name = self.config.get("model" if self.mlx else "base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def revision(self) -> str | None:
        revision = self.config.get("revision")
        return revision if isinstance(revision, str) and revision else None

    def names_base(self) -> dict[str, str]:
        """The base's name and revision on the Hub, if it has them."""
        if not REPOSITORY.fullmatch(self.base or ""):
            return {}
        return {key: text for key, text in (("base", self.base), ("revision", self.revision)) if text}

    @property
    def keeps_tied(self) -> bool:
        """Whether a head that shares the embedding's weights shares what the adapter does to them, too."""
        return self.mlx or bool(self.config.get("ensure_weight_tying"))

    @property
    def kind(self) -> str:
        dora = any(update.magnitude for update in self.updates.values())
        return " ".join(["rsLoRA"] * bool(self.config.get("use_rslora")) + ["DoRA"] * dora) or "LoRA"

    @property
    def mlx_parameters(self) -> dict[str, Any]:
        parameters = self.config.get("lora_parameters")
        return parameters if isinstance(parameters, dict) else {}

    def described(self) -> dict[str, Any]:
        """What tells this adapter from others, for people and for ``release.json``."""
        return {
            "name": self.path.resolve().name,
            "kind": self.kind,
            "rank": self.config.get("r", self.mlx_parameters.get("rank")),
            "alpha": self.config.get("lora_alpha", self.mlx_parameters.get("scale")),
            "weight": self.weight,
            "modules": len(self.updates),
            "replaced": len(self.replaced),
            "tokens": sum(len(place) for _, place in self.tokens.values()),
        }

    def scale(self, name: str, rank: int) -> float:
        """What ``B @ A`` of a module (or parameter), of that rank, is multiplied by.

        Raises:
            ModelRefused: the configuration gives another rank, or no scale.
        """
        where = self.path / CONFIG
        if self.mlx:
            return self.weight * _number(self.mlx_parameters.get("scale"), f"{where} has scale")
        said = _pattern(self.config, "rank_pattern", name, self.config.get("r"), where)
        alpha = _number(
            _pattern(self.config, "alpha_pattern", name, self.config.get("lora_alpha"), where), f"{where} has alpha"
        )
        if said != rank:
            raise ModelRefused(
                f"{where} gives {name!r} the rank {reprlib.repr(said)}, and its factors have {rank}",
                next_step="save the adapter again with model.save_pretrained(...)",
            )
        return self.weight * alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def is_adapter(path: Path) -> bool:
    """Whether a directory is an adapter's, not a whole model's."""
    return any((path / name).exists() for name in (CONFIG, *READERS)) and not has_weights(path)


def parse_weighted(text: str) -> tuple[Path, float]:
    """``DIR`` or ``DIR=WEIGHT``.

    Raises:
        UsageError: the weight is not a number.
    """
    if Path(text).is_dir() or "=" not in text:
        return Path(text), 1.0
    path, _, weight = text.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{text!r} has the weight {weight!r}", next_step="give a number: --adapter DIR=0.5")
    return Path(path), value


def read_adapter(path: Path, weight: float = 1.0) -> Adapter:
    """Open an adapter; its tensors stay on disk until rows of them are asked for.

    Raises:
        ModelRefused: something is missing or damaged, or it is no LoRA that can be merged.
    """
    if not path.is_dir():
        raise ModelRefused(f"{path} is not a directory", next_step="give the directory of a LoRA adapter")
    config = read_json(path, CONFIG, needed="give the directory that model.save_pretrained(...) wrote")
    weights = next((name for name in READERS if (path / name).exists()), None)
    if weights is None:
        raise ModelRefused(
            f"{path} has no {PEFT_WEIGHTS}", next_step="save it as safetensors: model.save_pretrained(...)"
        )
    mlx = weights == MLX_WEIGHTS
    _check(config, mlx, path / CONFIG)
    adapter = Adapter(path, (path / CONFIG, path / weights), config, mlx, weight)
    return _sorted(adapter, READERS[weights](inside(path, weights)))


def _check(config: dict[str, Any], mlx: bool, where: Path) -> None:
    """Refuse what cannot be merged, or was not merged with what peft does."""
    if mlx:
        return
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ModelRefused(
            f"{where} is of the type {reprlib.repr(kind)}; LoRA, rsLoRA and DoRA can be merged",
            next_step="merge it with peft: model.merge_and_unload()",
        )
    for setting, variant in VARIANTS.items():
        if config.get(setting):
            raise ModelRefused(
                f"{where} says {setting}: {variant} cannot be merged into weights", next_step="train a LoRA or a DoRA"
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(REBASED):
        raise ModelRefused(
            f"{where} has init_lora_weights = {start[:40]!r}: the adapter belongs to a base that this changed",
            next_step="save it with path_initial_model_for_weight_conversion, or merge it with peft",
        )


def _sorted(adapter: Adapter, tensors: dict[str, Tensor]) -> Adapter:
    """The adapter with every tensor in the role that its name gives it."""
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    embeddings: set[str] = set()
    replaced, bases, tokens = {}, {}, {}
    for original, tensor in tensors.items():
        name = original
        while name.startswith("base_model.model."):
            name = name.removeprefix("base_model.model.")
        name = SAVED.sub("", WRAPPERS.sub("", name))
        match = (MLX_PART if adapter.mlx else PART).fullmatch(name)
        if match:
            role = "bias" if match["bias"] else PARTS[match["part"]]
            if role in parts[match["module"]] or (role == "bias" and match["part"] != "lora_B"):
                raise _unknown(adapter, original)
            parts[match["module"]][role] = tensor
            if match["part"].startswith("lora_embedding"):
                embeddings.add(match["module"])
        elif name.endswith(TOKENS):
            module = name.removesuffix(TOKENS)
            tokens[f"{module}.weight"] = tensor, _token_rows(adapter, module, tensor)
        elif name.endswith(BASE_LAYER):
            bases[name.removesuffix(BASE_LAYER) + ".weight"] = tensor
        elif name.endswith(".base_layer.bias"):  # of `bias="all"`, where it was trained too
            replaced[name.removesuffix(".base_layer.bias") + ".bias"] = tensor
        elif ".original_module." in name:
            continue
        elif "lora_" in name:
            raise _unknown(adapter, original)
        else:
            replaced[name] = tensor
    if adapter.weight != 1 and (replaced or tokens):
        raise ModelRefused(
            f"{adapter.path} replaces {next(iter(replaced or tokens))!r}, which no weight can scale",
            next_step="give the adapter the weight 1",
        )
    updates = {}
    for module, found in parts.items():
        if not {"A", "B"} <= found.keys():
            raise ModelRefused(
                f"{adapter.path} has {', '.join(sorted(found))} of {module!r} alone: factors A and B are needed",
                next_step="save the adapter again with model.save_pretrained(...)",
            )
        if len(found["A"].shape) < 2 or len(found["B"].shape) < 2:
            raise ModelRefused(
                f"{adapter.path} has factors of {module!r} with one axis: shards were not gathered when it was saved",
                next_step="save the adapter again from all processes of the training",
            )
        updates[module] = Update(module, **found, embedding=module in embeddings)
    if not (updates or replaced or tokens):
        raise ModelRefused(f"{adapter.path} changes nothing: it has no tensors", next_step="save the adapter again")
    return dataclasses.replace(adapter, updates=updates, replaced=replaced, bases=bases, tokens=tokens)


def _unknown(adapter: Adapter, name: str) -> ModelRefused:
    return ModelRefused(
        f"{adapter.path} has tensor {name!r}, which is no part of a LoRA", next_step="merge the adapter with peft"
    )


def _token_rows(adapter: Adapter, module: str, tensor: Tensor) -> dict[int, int]:
    """The row of ``tensor`` that each token has."""
    indices = adapter.config.get("trainable_token_indices")
    if isinstance(indices, dict):
        ends = [end for end in indices if module == end or module.endswith(f".{end}")]
        indices = indices[max(ends, key=len)] if ends else None
    if (
        not isinstance(indices, list)
        or not all(isinstance(i, int) and i >= 0 for i in indices)
        or len(tensor.shape) != 2
        or len(indices) != tensor.shape[0]
    ):
        raise ModelRefused(
            f"{adapter.path / CONFIG} has no trainable_token_indices for the {tensor.shape[0]} rows of {module!r}",
            next_step="save the adapter again with model.save_pretrained(...)",
        )
    return {token: row for row, token in enumerate(indices)}


def _pattern(config: dict[str, Any], setting: str, name: str, otherwise: Any, where: Path) -> Any:
    """The value of the first pattern that matches the end of a module's name, as peft has it."""
    patterns = config.get(setting) or {}
    if not isinstance(patterns, dict):
        raise ModelRefused(f"{where} has {setting} = {reprlib.repr(patterns)}", next_step="save the adapter again")
    return next((patterns[key] for key in patterns if _compiled(key, setting, where).match(name)), otherwise)


def _compiled(key: str, setting: str, where: Path) -> re.Pattern[str]:
    """Peft's rule for a key: a regular expression for a name, or for its end from a dot on.

    Those that could take very long to match are refused.
    """
    try:
        if len(key) > MAX_PATTERN or len(QUANTIFIER.findall(key)) > MAX_QUANTIFIERS or re.search(r"\)[*+{]", key):
            raise ValueError("it could take very long")
        return re.compile(rf"(.*\.)?({key})$")
    except (re.error, ValueError, RecursionError) as error:
        raise ModelRefused(
            f"{where} has the pattern {reprlib.repr(key)} in {setting}, which cannot be used: {error}",
            next_step="name the modules one by one",
        ) from error


def _number(value: Any, what: str) -> float:
    if not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise ModelRefused(f"{what} {reprlib.repr(value)}, which is no number", next_step="save the adapter again")
    return float(value)
