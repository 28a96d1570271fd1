"""The GGUF vocabulary of a model directory, as llama.cpp's converter writes it (``set_vocab`` of its families)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gguf import GGUFValueType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Metadata, Value
from ollamaq.tokenizers import kinds
from ollamaq.tokenizers.spec import TokenizerSpec
from ollamaq.tokenizers.special import ADDED, KEYS, normalizer_keys, special_tokens


class Kind(NamedTuple):
    """Whether a directory has a tokenizer of this kind, and the keys it gives, in order: of ``whole`` ones, all."""

    here: Callable[[Checkpoint], bool]
    keys: Callable[[kinds.Files], dict[str, Any]]
    whole: bool = False


KINDS = {
    "gpt2": Kind(kinds.is_byte_level, kinds.gpt2),
    "sentencepiece": Kind(kinds.has_sentencepiece, kinds.sentencepiece),
    "phi3": Kind(kinds.has_sentencepiece, kinds.phi3),
    "internlm2": Kind(kinds.has_sentencepiece, kinds.internlm2),
    "llama_hf": Kind(kinds.has_byte_fallback, kinds.llama_hf),
    "gemma4": Kind(kinds.has_byte_fallback, kinds.gemma4),
    "wordpiece": Kind(kinds.is_wordpiece, kinds.wordpiece),
    "unigram": Kind(kinds.is_unigram, kinds.unigram),
    "tekken": Kind(kinds.has_tekken, kinds.tekken, whole=True),
    "mistral_sentencepiece": Kind(kinds.has_sentencepiece, kinds.mistral_sentencepiece, whole=True),
}
WITH_PRE = ("gpt2", "tekken")


MAX_PADDED = 1 << 10
MAX_IDS = 1 << 31
"""Where the converter does not ask whether a special id has a row."""


def vocabulary(
    checkpoint: Checkpoint, vocab_size: int, spec: TokenizerSpec, *, pre: str | None = None, arch: str = "llama"
) -> Metadata:
    """The ``tokenizer.*`` keys.

    Args:
        checkpoint: the model directory.
        vocab_size: rows of the embedding.
        spec: the family's way to its vocabulary.
        pre: the pre-tokenizer, where it is not to be recognised.
        arch: what llama.cpp calls the model.

    Raises:
        ModelRefused: the tokenizer is not of a kind that the family takes, damaged, or larger than the embedding.
        UsageError: llama.cpp knows no pre-tokenizer ``pre``, or this tokenizer has none.
    """
    where = checkpoint.tokenizer_path
    kind = next((name for name in spec.kinds if KINDS[name].here(checkpoint)), None)
    if kind is None:
        raise ModelRefused(
            f"{where} has {kinds.found(checkpoint)}; this family takes {', '.join(spec.kinds)}",
            next_step="save the tokenizer that the model was trained with beside it",
        )
    if pre and kind not in WITH_PRE:
        raise UsageError(f"{where} has a {kind} tokenizer, which has no pre-tokenizer", next_step="leave out --pre")
    multiple = checkpoint.config.get("pad_vocab_size_multiple", spec.padded) if spec.padded > 1 else 1
    if not isinstance(multiple, int) or not 0 < multiple <= MAX_PADDED:
        raise ModelRefused(f"{where} has pad_vocab_size_multiple = {multiple!r}", next_step="mend config.json")
    files = kinds.Files(checkpoint, -(-vocab_size // multiple) * multiple, pre, arch)
    try:
        keys = KINDS[kind].keys(files)
        if KINDS[kind].whole:
            return {_full(key): _value(value) for key, value in keys.items()} | _templates(checkpoint.chat_templates)
        ids, adds = special_tokens(checkpoint, spec, MAX_IDS if "merges" in keys else len(keys["tokens"]))
        normalizer = normalizer_keys(checkpoint.tokenizer.get("normalizer"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        file = (
            "tokenizer.json" if checkpoint.tokenizer else "tekken.json" if kind == "tekken" else "tokenizer_config.json"
        )
        raise ModelRefused(f"{where / file} is damaged: {error!r}", next_step="save the tokenizer again") from error
    prefix = checkpoint.tokenizer_config.get("add_prefix_space")
    spaces = {"tokenizer.ggml.add_space_prefix": Value(GGUFValueType.BOOL, prefix)} if prefix is not None else {}
    first = spaces if spec.space_prefix == "first" else {}
    roles = {KEYS[role]: at for role, at in ids.items() if role in KEYS}
    roles |= {ADDED[role]: added for role, added in adds.items() if role in ADDED}
    last = {**spec.keys, **spec.sized.get(vocab_size, {})}
    keys = {**spec.first, **keys, **roles}
    metadata = first | {f"tokenizer.ggml.{key}": _value(value) for key, value in keys.items() if value != []}
    metadata |= _templates(checkpoint.chat_templates)
    metadata |= {f"tokenizer.ggml.{key}": _value(value) for key, value in {**normalizer, **last}.items()}
    return metadata | (spaces if spec.space_prefix == "last" else {})


def _full(key: str) -> str:
    return key if key.endswith(".vocab_size") else f"tokenizer.ggml.{key}"


def _templates(templates: dict[str, str]) -> Metadata:
    """Chat templates by name; the default one comes last."""
    named = {
        "".join(c if c.isascii() and c.isalnum() else "_" for c in name): text
        for name, text in templates.items()
        if name and name != "default" and text
    }
    found = {f"tokenizer.chat_template.{name}": _value(text) for name, text in named.items()}
    if named:
        found["tokenizer.chat_templates"] = _value(sorted(named))
    if default := templates.get("default"):
        found["tokenizer.chat_template"] = _value(default)
    return found


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return Value(GGUFValueType.ARRAY, value, GGUFValueType.get_type(value[0]))
    if isinstance(value, bytes):
        return Value(GGUFValueType.ARRAY, list(value), GGUFValueType.UINT8)
    if isinstance(value, bool | str):
        return Value(GGUFValueType.get_type(value), value)
    return Value(GGUFValueType.UINT32, value)
