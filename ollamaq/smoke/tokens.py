"""Token counts as in training: tokenizer.json by Hugging Face's ``tokenizers`` (extra ``verify``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ollamaq.errors import ModelRefused


def token_counter(checkpoint: Path) -> Callable[[str], int] | None:
    """Counts the tokens of a rendered prompt; None where ``tokenizers`` or the checkpoint's tokenizer.json is missing.

    Special tokens come from the prompt alone, as ``apply_chat_template`` has it: no BOS is put in front of one.

    Raises:
        ModelRefused: ``tokenizers`` cannot read the file.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # that is all it raises
        raise ModelRefused(f"{file} is not a tokenizer: {error}", next_step="save the tokenizer again") from error
    return lambda prompt: len(tokenizer.encode(prompt, add_special_tokens=False).ids)
