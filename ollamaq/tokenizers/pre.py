"""Recognises the pre-tokenizer, how text is cut before merges apply, by its structure in tokenizer.json.

llama.cpp's converter hashes the ids of one text instead, so that any change of the vocabulary hides a pre-tokenizer
that it knows; the structure stays. Names are llama.cpp's (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ollamaq.errors import ModelRefused

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = WORDS + r"\p{N}{1,3}" + REST
QWEN2 = WORDS + r"\p{N}" + REST

Step = tuple[Any, ...]
PRE_TOKENIZERS: dict[tuple[Step, ...], str] = {
    (("split", LLAMA3), ("bytes", False)): "llama-bpe",
    (("split", QWEN2), ("bytes", False)): "qwen2",
    (("bytes", True),): "gpt-2",
    (("digits", True), ("bytes", True)): "smollm",
}
"""What each name stands for: splits by a regex, digits (one by one), bytes (cut by GPT-2's regex, or not)."""

IGNORES_MERGES = {"llama-bpe"}
"""Where llama.cpp takes a word that is in the vocabulary whole, as Llama 3's ``ignore_merges`` does."""
WITHOUT = {"llama-bpe": "smaug-bpe"}
"""The same cuts for a tokenizer that does not."""


def recognise(tokenizer: dict[str, Any], where: str) -> str:
    """The name of a tokenizer.json's pre-tokenizer; ``where`` names the file in errors.

    Raises:
        ModelRefused: it cuts text in a way that has no name yet.
    """
    steps = tuple(_steps(tokenizer.get("pre_tokenizer") or {}))
    normalizer = tokenizer.get("normalizer")
    name = PRE_TOKENIZERS.get(steps)
    if name is None or (normalizer and normalizer.get("type") != "NFC"):
        known = ", ".join(sorted({*PRE_TOKENIZERS.values(), *WITHOUT.values()}))
        raise ModelRefused(
            f"{where} cuts text in a way that is not known: {_brief(steps, normalizer)}",
            next_step=f"name the nearest of {known} with `ollamaq convert --pre NAME`",
        )
    if name in IGNORES_MERGES and not tokenizer["model"].get("ignore_merges"):
        return WITHOUT[name]
    return name


def _steps(pre_tokenizer: dict[str, Any]) -> Iterator[Step]:
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": list(parts)}:
            for part in parts:
                yield from _steps(part)
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            yield "split", regex
        case {"type": "Digits", "individual_digits": bool(one_by_one)}:
            yield "digits", one_by_one
        case {"type": "ByteLevel", "add_prefix_space": False}:
            yield "bytes", pre_tokenizer.get("use_regex", True)
        case _:
            yield "unknown", str(pre_tokenizer)[:80]


def _brief(steps: tuple[Step, ...], normalizer: Any) -> str:
    parts = [f"normalizer {normalizer.get('type')}"] if normalizer else []
    return ", ".join([*parts, *(f"{kind} {str(what)[:60]}" for kind, what in steps)])
