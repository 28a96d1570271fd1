"""Token ids as in training: tokenizer.json by Hugging Face's ``tokenizers`` (extra ``verify``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ollamaq.errors import ModelRefused


def tokenizer_of(checkpoint: Path) -> Callable[[str], list[int]] | None:
    """Gives the token ids of a prompt; None where ``tokenizers`` or the checkpoint's tokenizer.json is missing.

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
    return lambda prompt: list(tokenizer.encode(prompt, add_special_tokens=False).ids)


def wrong_ids(found: list[int], expected: list[int]) -> str | None:
    """The first place where token ids differ."""
    if found == expected:
        return None
    place = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    there, training = (str(ids[place]) if place < len(ids) else "nothing" for ids in (found, expected))
    return f"token {place} is {there} by the GGUF's vocabulary, {training} in training"
