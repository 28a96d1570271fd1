"""Recognises the pre-tokenizer, how text is cut before merges apply, by its structure in tokenizer.json.

llama.cpp's converter hashes the ids of one text instead, so that any change of the vocabulary hides a pre-tokenizer
that it knows; the structure stays. Names are llama.cpp's (``src/llama-vocab.cpp``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from ollamaq.errors import ModelRefused, UsageError

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

NAMES = frozenset(
    """
a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx deepseek-coder
deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon falcon-h1 falcon3 gemma4
gigachat glm4 glm5 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-311m granite-embed-multi-97m grok-2
hunyuan hunyuan-dense hy_v4 jais jais-2 jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-v5-nano
joyai-llm kanana2 kimi-k2 kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3 llama4 megrez mellum mellum2
midm-2.0 minerva-7b minicpm5 minimax-m2 mmbert modern-bert mpt olmo phi-2 pixtral poro-chat qwen2 qwen35 refact
roberta-bpe sarvam-moe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder superbpe talkie tekken
tiny_aya trillion ufakzeka viking whitespace youtu
""".split()  # noqa: SIM905
)
"""Every name that llama.cpp knows for byte-level BPE; with any other it refuses to load the model."""


def named(name: str) -> str:
    """A pre-tokenizer that the user names.

    Raises:
        UsageError: llama.cpp does not know it.
    """
    if name in NAMES:
        return name
    nearest = difflib.get_close_matches(name, sorted(NAMES), n=3, cutoff=0)
    raise UsageError(f"unknown pre-tokenizer {name!r}", next_step=f"the nearest: {', '.join(nearest)}")


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
