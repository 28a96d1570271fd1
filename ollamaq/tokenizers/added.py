"""Tokens that were added to a vocabulary: what they are as transformers has them once it has loaded the files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ollamaq.checkpoint import Checkpoint

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
LOOK_SPECIAL = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
LOOK_SPECIAL_ENDS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
"""Added tokens that are control tokens although their files do not say so."""


def looks_special(text: str) -> bool:
    return text in LOOK_SPECIAL or any(text.startswith(a) and text.endswith(b) for a, b in LOOK_SPECIAL_ENDS)


def added_tokens(checkpoint: Checkpoint, vocabulary: dict[str, int]) -> dict[str, tuple[int, bool]]:
    """Added tokens with their ids and whether they are special.

    First those of tokenizer.json, then tokenizer_config.json's. What is in no vocabulary gets the next id; who speaks
    last says whether a token is special.
    """
    free = len(vocabulary)
    listed = [
        (token["content"], bool(token.get("special"))) for token in checkpoint.tokenizer.get("added_tokens") or []
    ]
    decoder = checkpoint.tokenizer_config.get("added_tokens_decoder") or {}
    listed += [(decoder[at]["content"], bool(decoder[at].get("special"))) for at in sorted(decoder, key=int)]
    listed += [(text, True) for text in role_tokens(checkpoint)]
    added: dict[str, tuple[int, bool]] = {}
    for text, special in listed:
        at = added[text][0] if text in added else vocabulary.get(text, free)
        added[text] = at, special or looks_special(text)
        free = max(free, at + 1)
    return added


def listed(checkpoint: Checkpoint) -> dict[int, str]:
    """Ids and texts of the added tokens that the files list, special or not."""
    decoder = checkpoint.tokenizer_config.get("added_tokens_decoder")
    tokens: list[tuple[Any, Any]] = [(text, at) for text, at in checkpoint.added_tokens.items()]
    if isinstance(decoder, dict):
        tokens += [(token.get("content"), at) for at, token in decoder.items() if isinstance(token, dict)]
    added = checkpoint.tokenizer.get("added_tokens")
    if isinstance(added, list):
        tokens += [(token.get("content"), token.get("id")) for token in added if isinstance(token, dict)]
    tokens += [(token.get("token_str"), at) for at, token in enumerate(checkpoint.tekken.get("special_tokens") or [])]
    return {int(at): text for text, at in tokens if isinstance(text, str) and str(at).isdecimal()}


def role_tokens(checkpoint: Checkpoint) -> Iterator[str]:
    """Tokens that have a role (BOS, padding, …) or are listed as special beside those."""
    config = checkpoint.tokenizer_config
    if "added_tokens_decoder" not in config:
        config = checkpoint.special_tokens_map | config
    for role in ROLES:
        yield from _texts([config.get(f"{role}_token")])
    yield from _texts(config.get("additional_special_tokens") or [])
    extra = config.get("extra_special_tokens") or []
    yield from _texts(list(extra.values()) if isinstance(extra, dict) else extra)


def _texts(tokens: list[Any]) -> Iterator[str]:
    for token in tokens:
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text:
            yield text
