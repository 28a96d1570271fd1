"""A Hugging Face model directory: which files it has, and that none of them leads out of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamaq.checkpoint.safetensors import read_safetensors
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE, MODEL_CARD = "chat_template.jinja", "README.md"

MAX_BYTES = {TOKENIZER: 200_000_000, INDEX: 100_000_000, TEMPLATE: 4_000_000}
MAX_BYTES_OTHERWISE = 10_000_000


@dataclass(frozen=True)
class Checkpoint:
    """An opened model directory. Absent optional files are empty; ``files`` are those that the model is made of.

    ``chat_template`` is what transformers would use: the file ``chat_template.jinja`` before tokenizer_config.json, and
    of a named list the one called ``default``.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    generation_config: dict[str, Any]
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    chat_template: str | None


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a model directory; weights stay on disk until their rows are asked for.

    Raises:
        ModelRefused: something is missing, damaged, too large, or leads out of the directory.
    """
    if not path.is_dir():
        raise ModelRefused(f"{path} is not a directory", next_step="give a Hugging Face model directory")
    config = _json(path, CONFIG, needed="is this a model directory?")
    tensors, weights = _weights(path)
    tokenizer = _json(path, TOKENIZER, needed="save the tokenizer beside the model: tokenizer.save_pretrained(...)")
    tokenizer_config = _json(path, TOKENIZER_CONFIG)
    generation_config = _json(path, GENERATION)
    template = _text(path, TEMPLATE) if (path / TEMPLATE).exists() else _default(tokenizer_config.get("chat_template"))
    _text(path, MODEL_CARD) if (path / MODEL_CARD).exists() else None
    others = (CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, TEMPLATE, MODEL_CARD)
    files = tuple(path / name for name in (*others, *weights) if (path / name).exists())
    return Checkpoint(path, files, tensors, config, generation_config, tokenizer, tokenizer_config, template)


def _weights(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    if (path / INDEX).exists():
        return _shards(path)
    if (path / WEIGHTS).exists():
        return read_safetensors(_inside(path, WEIGHTS)), [WEIGHTS]
    pickled = next((name for pattern in ("*.bin", "*.pt", "*.pth") for name in sorted(path.glob(pattern))), None)
    if pickled:
        raise ModelRefused(
            f"{path} has no {WEIGHTS}, and {pickled.name} could run code when it is opened",
            next_step="save the model as safetensors: model.save_pretrained(..., safe_serialization=True)",
        )
    raise ModelRefused(f"{path} has no {WEIGHTS}", next_step="give the directory that save_pretrained wrote")


def _shards(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    where = _json(path, INDEX).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise ModelRefused(f"{path / INDEX} has no weight_map of names", next_step="save the model again")
    shards = sorted(set(where.values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for name, tensor in read_safetensors(_inside(path, shard)).items():
            if where.get(name) != shard:
                raise ModelRefused(
                    f"tensor {name!r} is in {shard}, where {INDEX} has {where.get(name)}", next_step="save the model again"
                )
            tensors[name] = tensor
    for name, shard in where.items():
        if name not in tensors:
            raise ModelRefused(f"tensor {name!r} is not in {path / shard}", next_step="fetch or save the model again")
    return tensors, [*shards, INDEX]


def _inside(path: Path, name: str) -> Path:
    """A file of the directory. A link may lead into the blobs of the same Hugging Face cache, nowhere else."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelRefused(f"{path / INDEX} names {name!r}, outside of the directory", next_step="save the model again")
    root = path.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    file = (path / name).resolve()
    if not any(file.is_relative_to(place) for place in allowed):
        raise ModelRefused(f"{path / name} is a link out of the directory, to {file}", next_step="copy the file itself there")
    if not file.is_file():
        raise ModelRefused(f"{path / name} is missing", next_step="fetch or save the model again")
    return file


def _text(path: Path, name: str) -> str:
    file, limit = _inside(path, name), MAX_BYTES.get(name, MAX_BYTES_OTHERWISE)
    try:
        if file.stat().st_size > limit:
            raise ModelRefused(f"{path / name} is larger than {limit:,} bytes", next_step="is this the right file?")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"cannot read {path / name}: {error}", next_step="fetch or save it again") from error


def _json(path: Path, name: str, needed: str | None = None) -> dict[str, Any]:
    if not (path / name).exists() and not (path / name).is_symlink():
        if needed:
            raise ModelRefused(f"{path} has no {name}", next_step=needed)
        return {}
    text = _text(path, name)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{path / name} is not JSON: {error}", next_step="fetch or save it again") from error
    if not isinstance(data, dict):
        raise ModelRefused(f"{path / name} is not a JSON object", next_step="fetch or save it again")
    return data


def _default(template: Any) -> str | None:
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
