"""Token counts as in training: tokenizer.json by Hugging Face's ``tokenizers`` (extra ``verify``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def token_counter(checkpoint: Path) -> Callable[[str], int] | None:
    """Counts the tokens of a rendered prompt, or None where ``tokenizers`` is not installed.

    Special tokens come from the prompt alone, as ``apply_chat_template`` has it.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    return lambda prompt: len(tokenizer.encode(prompt, add_special_tokens=False).ids)
