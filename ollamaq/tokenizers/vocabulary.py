"""The GGUF vocabulary of a byte-level BPE tokenizer, as llama.cpp's converter writes it (``_set_vocab_gpt2``)."""

from __future__ import annotations

from typing import Any

from gguf import GGUFValueType, TokenType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Metadata, Value
from ollamaq.tokenizers.pre import named, recognise
from ollamaq.tokenizers.special import ADDED, KEYS, special_tokens

LOOK_SPECIAL = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
LOOK_SPECIAL_ENDS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
"""Added tokens that are control tokens although their tokenizer.json does not say so."""

SPECIAL_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

NO_BOS_VOCAB_SIZE = 49152
"""Vocabularies of this size (Granite's, SmolLM's) never start with a BOS, whatever their files say."""


def vocabulary(checkpoint: Checkpoint, vocab_size: int, *, pre: str | None = None, llama: bool = True) -> Metadata:
    """The ``tokenizer.*`` keys.

    Args:
        checkpoint: the model directory.
        vocab_size: rows of the embedding.
        pre: the pre-tokenizer, where it is not to be recognised.
        llama: whether to write what is written for the llama family alone: ``add_space_prefix`` as
            tokenizer_config.json has it, and that vocabularies of a certain size never start with a BOS.

    Raises:
        ModelRefused: the tokenizer is of another kind, damaged, or larger than the embedding.
        UsageError: llama.cpp knows no pre-tokenizer ``pre``.
    """
    where = str(checkpoint.path / "tokenizer.json")
    try:
        tokens, types = _tokens(checkpoint, vocab_size, where)
        name = named(pre) if pre else recognise(checkpoint.tokenizer, where)
        merges = [_merge(merge) for merge in checkpoint.tokenizer["model"]["merges"]]
        ids, adds = special_tokens(checkpoint.tokenizer, checkpoint.tokenizer_config, checkpoint.config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelRefused(f"{where} is damaged: {error!r}", next_step="save the tokenizer again") from error
    keys: dict[str, Any] = {
        "model": "gpt2",
        "pre": name,
        "tokens": tokens,
        "token_type": types,
        "merges": merges,
        **{KEYS[role]: at for role, at in ids.items() if role in KEYS},
        **{ADDED[role]: added for role, added in adds.items() if role in ADDED},
    }
    metadata = {f"tokenizer.ggml.{key}": _value(value) for key, value in keys.items() if value != []}
    prefix = checkpoint.tokenizer_config.get("add_prefix_space")
    if llama and prefix is not None:
        metadata = {"tokenizer.ggml.add_space_prefix": Value(GGUFValueType.BOOL, prefix)} | metadata
    metadata |= _templates(checkpoint.chat_templates)
    if llama and vocab_size == NO_BOS_VOCAB_SIZE:
        metadata["tokenizer.ggml.add_bos_token"] = _value(False)
    return metadata


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
    if isinstance(value, bool | str):
        return Value(GGUFValueType.get_type(value), value)
    return Value(GGUFValueType.UINT32, value)


def _tokens(checkpoint: Checkpoint, vocab_size: int, where: str) -> tuple[list[str], list[int]]:
    """Text and type of every row of the embedding."""
    tokenizer = checkpoint.tokenizer
    model = tokenizer.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind != "BPE" or model.get("byte_fallback"):
        raise ModelRefused(
            f"{where} is a {kind or 'nameless'} tokenizer{' with byte fallback' if model.get('byte_fallback') else ''};"
            " byte-level BPE is supported",
            next_step="convert it with llama.cpp's convert_hf_to_gguf.py and give the GGUF to ollamaq",
        )
    vocabulary: dict[str, int] = model["vocab"]
    added = _added_tokens(checkpoint, vocabulary)
    ids = vocabulary | {text: at for text, (at, _) in added.items()}
    largest = max(ids, key=lambda text: ids[text])
    if ids[largest] >= vocab_size:
        raise ModelRefused(
            f"{where} has token {largest!r} at {ids[largest]}, and the embedding has {vocab_size} rows",
            next_step="resize the embedding to the tokenizer: model.resize_token_embeddings(len(tokenizer))",
        )
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [int(TokenType.UNUSED)] * vocab_size
    for text, at in ids.items():
        if at < 0:
            raise ValueError(f"id {at}")
        tokens[at], types[at] = text, int(TokenType.NORMAL)
    for text, (at, special) in added.items():
        tokens[at] = text if special else text.replace("▁", " ")
        types[at] = int(TokenType.CONTROL if special else TokenType.USER_DEFINED)
    return tokens, types


def _added_tokens(checkpoint: Checkpoint, vocabulary: dict[str, int]) -> dict[str, tuple[int, bool]]:
    """Added tokens with their ids and whether they are special, as transformers has them once it has loaded the files.

    First those of tokenizer.json, then tokenizer_config.json's. What is in no vocabulary gets the next id; who speaks
    last says whether a token is special.
    """
    config, free = checkpoint.tokenizer_config, len(vocabulary)
    listed = [
        (token["content"], bool(token.get("special"))) for token in checkpoint.tokenizer.get("added_tokens") or []
    ]
    decoder = config.get("added_tokens_decoder") or {}
    listed += [(decoder[at]["content"], bool(decoder[at].get("special"))) for at in sorted(decoder, key=int)]
    named = [config.get(f"{role}_token") for role in SPECIAL_ROLES] + (config.get("additional_special_tokens") or [])
    listed += [(token.get("content") if isinstance(token, dict) else token, True) for token in named if token]
    added: dict[str, tuple[int, bool]] = {}
    for text, special in listed:
        at = added[text][0] if text in added else vocabulary.get(text, free)
        added[text] = at, special or _looks_special(text)
        free = max(free, at + 1)
    return added


def _looks_special(text: str) -> bool:
    return text in LOOK_SPECIAL or any(text.startswith(a) and text.endswith(b) for a, b in LOOK_SPECIAL_ENDS)


def _merge(merge: Any) -> str:
    """A merge as "left right", whichever way it is written; a space in a part becomes its byte-level letter."""
    if isinstance(merge, str):
        return merge
    left, right = merge
    return f"{left.replace(' ', 'Ġ')} {right.replace(' ', 'Ġ')}"
