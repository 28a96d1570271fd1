"""A Hugging Face model directory: which files it has, and that none of them leads out of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf

from ollamaq.checkpoint.consolidated import (
    CONSOLIDATED,
    PARAMS,
    TEKKEN,
    as_hugging_face,
    is_consolidated,
    vocabulary_file,
)
from ollamaq.checkpoint.consolidated import SPECIAL_TOKENS as MISTRAL_TOKENS
from ollamaq.checkpoint.mlx_names import with_usual_names
from ollamaq.checkpoint.pickled import read_pickled
from ollamaq.checkpoint.quantized import kept, restored
from ollamaq.checkpoint.quantized.parts import Kept
from ollamaq.checkpoint.safetensors import read_safetensors
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

WEIGHTS, PICKLED, INDEX = "model.safetensors", "pytorch_model.bin", ".index.json"
CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
MODULES = "modules.json"
ADDED_TOKENS, SPECIAL_TOKENS = "added_tokens.json", "special_tokens_map.json"
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
PREPROCESSORS = {"preprocessor_config.json": "media_proc_cfg", "processor_config.json": "image_processor"}
"""How images are prepared: files, the later before the earlier, and the part of each that lies over its rest."""
TEMPLATE, MORE_TEMPLATES, MODEL_CARD = "chat_template.jinja", "additional_chat_templates/*.jinja", "README.md"
TEMPLATE_JSON = "chat_template.json"

Reader = Callable[[Path], dict[str, Tensor]]
READERS: dict[str, Reader] = {WEIGHTS: read_safetensors, PICKLED: read_pickled}
"""By the name of a model's only file of weights; an index of several has that name and ``INDEX`` after it."""
FOREIGN = {
    "consolidated*": "take the model's weights in the Hugging Face format: model.safetensors",
    "*.safetensors": f"give a model's {WEIGHTS}, or {WEIGHTS}{INDEX} with its shards",
    "*.gguf": "give the GGUF file itself",
    "*.npz": "save the model again with a newer mlx-lm",
    "*.bin": f"give a model's {PICKLED}, or {PICKLED}{INDEX} with its shards",
    "*.pt": "convert to safetensors: model.save_pretrained(...)",
    "*.pth": "convert to safetensors: model.save_pretrained(...)",
}
"""Other weights, and what to do instead."""

MAX_BYTES = {
    TOKENIZER: 200_000_000,
    TEKKEN: 200_000_000,
    **{f"{weights}{INDEX}": 100_000_000 for weights in READERS},
    **dict.fromkeys(SENTENCEPIECE, 50_000_000),
}
MAX_BYTES_OTHERWISE = 10_000_000
FENCE = "---"
MAX_FRONT_MATTER = 100_000
MAX_NODES = 10_000
"""Of a model card's front matter, where YAML's aliases let few bytes stand for billions."""
AGAIN = "fetch or save it again"

log = logging.getLogger(__name__)
logging.getLogger("metadata").addHandler(logging.NullHandler())  # gguf-py's: odd model cards are no news


@dataclass(frozen=True)
class Checkpoint:
    """An opened model directory. Absent optional files are empty; ``files`` are those that the model is made of.

    ``chat_templates`` are what transformers would use, by name: ``chat_template.jinja`` (and, beside it,
    ``additional_chat_templates/*.jinja``) before tokenizer_config.json, whose single template is the ``default``, and
    that before chat_template.json, which processors of pictures were saved with.
    ``model_card`` is the front matter of README.md; ``pooling`` is the config of sentence-transformers' pooling module;
    ``quantized`` says what was lost before the weights came here, if anything was; ``kept`` gives the weights that a
    GGUF type holds as they were stored. ``sentencepiece`` is the content of ``tokenizer.model`` (or of what it is
    called elsewhere). ``preprocessor`` says how images are prepared.

    ``config_file`` is what ``config`` was read from; a params.json of Mistral's is turned into Hugging Face's settings.

    ``path`` has the configuration and the weights, ``tokenizer_path`` the tokenizer, and ``home`` the model's name and
    its model card; the three differ where an adapter is merged into a base.
    """

    path: Path
    tokenizer_path: Path
    home: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    generation_config: dict[str, Any]
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    chat_templates: dict[str, str]
    model_card: dict[str, Any]
    pooling: dict[str, Any] = field(default_factory=dict)
    quantized: str | None = None
    kept: Callable[[], dict[str, Kept]] = dict
    sentencepiece: bytes = b""
    added_tokens: dict[str, Any] = field(default_factory=dict)
    special_tokens_map: dict[str, Any] = field(default_factory=dict)
    tekken: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    config_file: str = CONFIG

    @property
    def readme(self) -> str:
        """README.md, whole; empty where there is none."""
        return _text(self.home, MODEL_CARD) if (self.home / MODEL_CARD).exists() else ""

    @property
    def chat_template(self) -> str | None:
        return self.chat_templates.get("default")


def open_checkpoint(path: Path, trained: Path | None = None) -> Checkpoint:
    """Open a model directory; weights stay on disk until their rows are asked for.

    ``trained`` is the directory of an adapter, where its trainer may have saved a tokenizer, a chat template, a
    generation_config.json and a model card: each is read there if it is there.

    Raises:
        ModelRefused: something is missing, damaged, too large, or leads out of the directory.
    """
    if not path.is_dir():
        raise ModelRefused(f"{path} is not a directory", next_step="give a Hugging Face model directory")
    if is_consolidated(path):
        return _consolidated(path)
    config = read_json(path, CONFIG, needed="give a Hugging Face model directory, as save_pretrained writes it")
    stored, weights = _weights(path)
    tensors, quantized = restored(stored, config, path / CONFIG)
    tensors = with_usual_names(tensors, path)
    home = trained or path
    words = home if _vocabularies(home) else path
    sampling = home if (home / GENERATION).exists() else path
    vocabularies = _vocabularies(words)
    if not vocabularies:
        raise ModelRefused(
            f"{path} has no {TOKENIZER} and no {SENTENCEPIECE[0]}",
            next_step="save the tokenizer beside the model: tokenizer.save_pretrained(...)",
        )
    sentencepiece = next((name for name in vocabularies if name in SENTENCEPIECE), None)
    templates: dict[str, str] = {}
    for said in (home, path):
        templates, template_files = _templates(said, read_json(said, TOKENIZER_CONFIG))
        if templates:
            break
    pooling, modules = _pooling(path)
    others = [path / CONFIG, sampling / GENERATION, home / MODEL_CARD, *(path / name for name in modules)]
    others += [path / name for name in PREPROCESSORS]
    others += [words / name for name in (*vocabularies, TOKENIZER_CONFIG, ADDED_TOKENS, SPECIAL_TOKENS)]
    others += [said / name for name in template_files]
    return Checkpoint(
        path=path,
        tokenizer_path=words,
        home=home,
        files=tuple([file for file in others if file.exists()] + [path / name for name in weights]),
        tensors=tensors,
        config=config,
        generation_config=read_json(sampling, GENERATION),
        tokenizer=read_json(words, TOKENIZER),
        tokenizer_config=read_json(words, TOKENIZER_CONFIG),
        chat_templates=templates,
        model_card=_model_card(home),
        pooling=pooling,
        quantized=quantized,
        kept=lambda: kept(stored, config, path / CONFIG),
        sentencepiece=_bytes(words, sentencepiece) if sentencepiece else b"",
        added_tokens=read_json(words, ADDED_TOKENS),
        special_tokens_map=read_json(words, SPECIAL_TOKENS),
        tekken=read_json(words, TEKKEN),
        preprocessor=_preprocessor(path),
    )


def _consolidated(path: Path) -> Checkpoint:
    """A model in Mistral's own format (``consolidated.py``)."""
    config = as_hugging_face(read_json(path, PARAMS), path / PARAMS)
    stored, weights = _weights(path, {CONSOLIDATED: read_safetensors})
    tensors, quantized = restored(stored, config, path / PARAMS)
    if (words := vocabulary_file(file.name for file in path.iterdir())) is None:
        raise ModelRefused(
            f"{path} has no {TEKKEN} and no {SENTENCEPIECE[0]}", next_step="fetch the model's tokenizer too"
        )
    templates, template_files = _templates(path, {})
    if not templates:
        log.warning(
            "%s has no %s, for Mistral's own format leaves chats to the library mistral-common: take the file of the"
            " model's Hugging Face format, or the server will not know how turns are written",
            *(path, TEMPLATE),
        )
    others = [path / name for name in (PARAMS, words, GENERATION, MODEL_CARD, *template_files)]
    return Checkpoint(
        path=path,
        tokenizer_path=path,
        home=path,
        files=tuple([file for file in others if file.exists()] + [path / name for name in weights]),
        tensors=tensors,
        config=config,
        generation_config=read_json(path, GENERATION),
        tokenizer={},
        tokenizer_config=dict(MISTRAL_TOKENS),
        chat_templates=templates,
        model_card=_model_card(path),
        quantized=quantized,
        sentencepiece=b"" if words == TEKKEN else _bytes(path, words),
        tekken=read_json(path, TEKKEN) if words == TEKKEN else {},
        config_file=PARAMS,
    )


def _vocabularies(path: Path) -> list[str]:
    names = (TOKENIZER, *SENTENCEPIECE, TEKKEN)
    return [name for name in names if (path / name).is_symlink() or (path / name).exists()]


def has_weights(path: Path) -> bool:
    """Whether a directory has a whole model's weights, in one file or in several with an index."""
    return any((path / f"{weights}{end}").exists() for weights in READERS for end in ("", INDEX))


def _weights(path: Path, readers: Mapping[str, Reader] = READERS) -> tuple[dict[str, Tensor], list[str]]:
    for weights, read in readers.items():
        if (path / f"{weights}{INDEX}").exists():
            return _shards(path, f"{weights}{INDEX}", read)
        if (path / weights).exists():
            return read(inside(path, weights)), [weights]
        if parts := _parts(path, weights):
            return _together(path, parts, read), parts
    for pattern, step in FOREIGN.items():
        if other := next((file.name for file in sorted(path.glob(pattern))), None):
            raise ModelRefused(f"{path} has no {WEIGHTS}, and {other} is not read in its place", next_step=step)
    raise ModelRefused(f"{path} has no {WEIGHTS}", next_step="give the directory that save_pretrained wrote")


def _parts(path: Path, weights: str) -> list[str]:
    """The files of a model in parts that has lost its index: their names tell how many there should be."""
    stem, _, ending = weights.rpartition(".")
    part = re.compile(rf"{stem}-[0-9]{{5}}-of-([0-9]{{5}})\.{ending}")
    found = {match[0]: int(match[1]) for file in path.iterdir() if (match := part.fullmatch(file.name))}
    count = max(found.values(), default=0)
    if other := next((name for name in sorted(found) if found[name] != count), None):
        raise ModelRefused(f"{path} has {other} beside the parts of a model of {count} files", next_step=AGAIN)
    return [f"{stem}-{i:05}-of-{count:05}.{ending}" for i in range(1, count + 1)]


def _together(path: Path, parts: list[str], read: Reader) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for part in parts:
        for name, tensor in read(inside(path, part)).items():
            if name in tensors:
                raise ModelRefused(f"{path / part} has tensor {name!r}, as a part before it", next_step=AGAIN)
            tensors[name] = tensor
    return tensors


def _shards(path: Path, index: str, read: Reader) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of every file that the index names, file by file in the order of their names, and those files."""
    where = read_json(path, index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise ModelRefused(f"{path / index} has no weight_map of file names", next_step=AGAIN)
    shards = sorted(set(where.values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for name, tensor in read(inside(path, shard)).items():
            if where.get(name) != shard:
                raise ModelRefused(
                    f"{path / shard} has tensor {name!r}, which {index} has in {where.get(name, 'no file')!r}",
                    next_step=AGAIN,
                )
            tensors[name] = tensor
    if missing := next((name for name in where if name not in tensors), None):
        raise ModelRefused(
            f"{path / where[missing]} lacks tensor {missing!r}, which {index} has there", next_step=AGAIN
        )
    return tensors, [*shards, index]


def _templates(path: Path, tokenizer_config: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    if (path / TEMPLATE).exists():
        more = [file.relative_to(path).as_posix() for file in sorted(path.glob(MORE_TEMPLATES))]
        return {"default": _text(path, TEMPLATE)} | {Path(name).stem: _text(path, name) for name in more}, [
            TEMPLATE,
            *more,
        ]
    said, files = tokenizer_config, []
    if said.get("chat_template") is None and (path / TEMPLATE_JSON).exists():
        said, files = read_json(path, TEMPLATE_JSON), [TEMPLATE_JSON]
    template = said.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict)]
        named = {entry.get("name"): entry.get("template") for entry in entries}
    else:
        named = {"default": template}
    return {name: text for name, text in named.items() if isinstance(name, str) and isinstance(text, str)}, files


def _pooling(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The config of the first module that pools, and the files that say so."""
    modules = _parsed(path, MODULES) if (path / MODULES).exists() else []
    for module in modules if isinstance(modules, list) else []:
        match module:
            case {"type": str(kind), "path": str(folder)} if kind.endswith("Pooling"):
                name = f"{folder}/{CONFIG}"
                return read_json(path, name, needed=AGAIN), [MODULES, name]
    return {}, []


def _preprocessor(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in PREPROCESSORS.items():
        said = read_json(path, name)
        more = said.get(part)
        found |= said | (more if isinstance(more, dict) else {})
    return found


def _model_card(path: Path) -> dict[str, Any]:
    if not (path / MODEL_CARD).exists():
        return {}
    first, *lines = _text(path, MODEL_CARD).splitlines() or [""]
    if first != FENCE or FENCE not in lines:
        return {}
    if (size := sum(map(len, lines[: lines.index(FENCE)]))) > MAX_FRONT_MATTER:
        raise ModelRefused(f"{path / MODEL_CARD} has front matter of {size:,} characters", next_step="shorten it")
    try:
        card: dict[str, Any] = gguf.Metadata.load_model_card(path)
    except Exception as error:  # PyYAML's errors are of many kinds
        said = " ".join(str(error).split())
        raise ModelRefused(
            f"{path / MODEL_CARD} has front matter that is not YAML: {said}", next_step="mend it"
        ) from error
    left, nodes = MAX_NODES, [card]
    while nodes:
        node: Any = nodes.pop()
        left -= 1
        if left < 0:
            raise ModelRefused(
                f"{path / MODEL_CARD} has more than {MAX_NODES:,} values in front", next_step="shorten it"
            )
        nodes.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return card


def inside(path: Path, name: str) -> Path:
    """A file of the directory. A link may lead into the blobs of the same Hugging Face cache, nowhere else."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ModelRefused(f"{path} names the file {name!r}, outside of the directory", next_step=AGAIN)
    root = path.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    file = path / name
    target = file.resolve()
    if not any(target.is_relative_to(place) for place in allowed):
        raise ModelRefused(
            f"{file} is a link out of the directory, to {target}", next_step="copy the file itself there"
        )
    if not file.is_file():
        raise ModelRefused(f"{file} is missing", next_step=AGAIN)
    return file


def _text(path: Path, name: str) -> str:
    try:
        return _sized(path, name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"cannot read {path / name}: {error}", next_step=AGAIN) from error


def _bytes(path: Path, name: str) -> bytes:
    try:
        return _sized(path, name).read_bytes()
    except OSError as error:
        raise ModelRefused(f"cannot read {path / name}: {error}", next_step=AGAIN) from error


def _sized(path: Path, name: str) -> Path:
    """A file of the directory that is not too large to be read whole."""
    file, limit = inside(path, name), MAX_BYTES.get(name, MAX_BYTES_OTHERWISE)
    if (size := file.stat().st_size) > limit:
        raise ModelRefused(f"{file} has {size:,} bytes; {limit:,} are allowed", next_step="is this the right file?")
    return file


def read_json(path: Path, name: str, needed: str | None = None) -> dict[str, Any]:
    if not (path / name).exists() and not (path / name).is_symlink():
        if needed:
            raise ModelRefused(f"{path} has no {name}", next_step=needed)
        return {}
    data = _parsed(path, name)
    if not isinstance(data, dict):
        raise ModelRefused(f"{path / name} is not a JSON object", next_step=AGAIN)
    return data


def _parsed(path: Path, name: str) -> Any:
    try:
        return json.loads(_text(path, name))
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{path / name} is not JSON: {error}", next_step=AGAIN) from error
