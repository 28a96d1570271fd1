"""The GGUF vocabulary of a byte-level BPE tokenizer, as llama.cpp's converter writes it (``_set_vocab_gpt2``)."""

from __future__ import annotations

from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.tokenizers.pre import recognise

LOOK_SPECIAL = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
LOOK_SPECIAL_ENDS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
"""Added tokens that are control tokens although their tokenizer.json does not say so."""

NO_BOS_VOCAB_SIZE = 49152
"""Vocabularies of this size (Granite's, SmolLM's) never start with a BOS, whatever their files say."""


def vocabulary(checkpoint: Checkpoint, vocab_size: int, out: GGUFWriter, *, pre: str | None = None) -> None:
    """Add the ``tokenizer.*`` keys to ``out``.

    Args:
        checkpoint: the model directory.
        vocab_size: rows of the embedding.
        out: takes the keys.
        pre: the pre-tokenizer, where it is not to be recognised.

    Raises:
        ModelRefused: the tokenizer is of another kind, damaged, or larger than the embedding.
    """
    where = str(checkpoint.path / "tokenizer.json")
    try:
        tokens, types = _tokens(checkpoint.tokenizer, vocab_size, where)
        name = pre or recognise(checkpoint.tokenizer, where)
        special = SpecialVocab(checkpoint.path, load_merges=True)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelRefused(f"{where} is damaged: {error!r}", next_step="save the tokenizer again") from error
    if (prefix_space := checkpoint.tokenizer_config.get("add_prefix_space")) is not None:
        out.add_add_space_prefix(bool(prefix_space))
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(name)
    out.add_token_list(tokens)
    out.add_token_types(types)
    special.chat_template = checkpoint.chat_template
    special.add_to_gguf(out, quiet=True)
    if vocab_size == NO_BOS_VOCAB_SIZE:
        out.add_add_bos_token(False)


def _tokens(tokenizer: dict[str, Any], vocab_size: int, where: str) -> tuple[list[str], list[TokenType]]:
    model = tokenizer.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind != "BPE" or model.get("byte_fallback"):
        raise ModelRefused(
            f"{where} is a {kind or 'nameless'} tokenizer{' with byte fallback' if model.get('byte_fallback') else ''};"
            " byte-level BPE is supported",
            next_step="convert it with llama.cpp's convert_hf_to_gguf.py and give the GGUF to ollamaq",
        )
    ids: dict[str, int] = dict(model["vocab"])
    added = {token["id"]: token for token in tokenizer.get("added_tokens") or []}
    ids.update({token["content"]: at for at, token in added.items()})
    largest = max(ids.values())
    if largest >= vocab_size:
        raise ModelRefused(
            f"{where} has token id {largest}, and the embedding has {vocab_size} rows",
            next_step="resize the embedding to the tokenizer: model.resize_token_embeddings(len(tokenizer))",
        )
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [TokenType.UNUSED] * vocab_size
    for text, at in ids.items():
        if at < 0:
            raise ValueError(f"id {at}")
        tokens[at], types[at] = text, TokenType.NORMAL
    for at, token in added.items():
        text = token["content"]
        special = token.get("special") or _looks_special(text)
        tokens[at] = text if special else text.replace("▁", " ")
        types[at] = TokenType.CONTROL if special else TokenType.USER_DEFINED
    return tokens, types


def _looks_special(text: str) -> bool:
    return text in LOOK_SPECIAL or any(text.startswith(a) and text.endswith(b) for a, b in LOOK_SPECIAL_ENDS)
