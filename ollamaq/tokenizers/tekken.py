"""Mistral's ``tekken.json``: its tokens, and the merges that byte-level BPE needs in place of their ranks.

Format and special tokens: github.com/mistralai/mistral-common (``tokens/tokenizers/tekken.py``). Special tokens come
first, so that a token's id is its rank and their number.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNNAMED = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"),
    *("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
"""Special tokens of a file that lists none, as those before version 11 do."""
MAX_SPECIAL = 1 << 16
MAX_TOKEN = 512
"""Bytes. To find a token's merges takes the square of its length; Mistral's longest have fewer than 200."""


def _alphabet() -> list[str]:
    """A printable letter for each byte, as GPT-2 has them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {byte: byte for byte in plain} | {byte: 256 + i for i, byte in enumerate(others)}
    return [chr(letters[byte]) for byte in range(256)]


LETTERS = _alphabet()


@dataclass(frozen=True)
class Tekken:
    """The texts of special tokens, and the bytes of all others by rank."""

    special: list[str]
    tokens: list[bytes]

    @property
    def texts(self) -> list[str]:
        return [*self.special, *map(letters, self.tokens)]

    def merges(self) -> list[str]:
        """Every way in which two tokens make another, by its rank and then by those of the two.

        Raises:
            ValueError: a token is not made of two others.
        """
        ranks = {token: rank for rank, token in enumerate(self.tokens)}
        merges = []
        for token in self.tokens[256:]:
            cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
            pairs = sorted((ranks[a], ranks[b]) for a, b in cuts if a in ranks and b in ranks)
            if not pairs:
                raise ValueError(f"token {token[:40]!r} is not made of two others")
            merges += [f"{letters(self.tokens[a])} {letters(self.tokens[b])}" for a, b in pairs]
        return merges


def letters(token: Iterable[int]) -> str:
    return "".join(LETTERS[byte] for byte in token)


def special_tokens(data: Mapping[str, Any]) -> list[str]:
    """The special tokens that a tekken.json names, by id.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    named = data.get("special_tokens")
    if named is None:
        return list(UNNAMED)
    if any(token["rank"] != i or not isinstance(token["token_str"], str) for i, token in enumerate(named)):
        raise ValueError("special tokens that are not in the order of their ranks")
    return [token["token_str"] for token in named]


def read_tekken(data: Mapping[str, Any]) -> Tekken:
    """The tokenizer of a tekken.json.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    config, special = data["config"], special_tokens(data)
    size, n_special = config["default_vocab_size"], config["default_num_special_tokens"]
    if not len(special) <= n_special <= min(size, MAX_SPECIAL):
        raise ValueError(f"{n_special} special tokens of {size}, and {len(special)} of them named")
    special += [f"<SPECIAL_{i}>" for i in range(len(special), n_special)]
    if not isinstance(config["pattern"], str):
        raise TypeError("a pattern that is no text")
    vocabulary = data["vocab"][: size - n_special]
    tokens = [base64.b64decode(token["token_bytes"], validate=True) for token in vocabulary]
    if len(tokens) != size - n_special or len(set(tokens)) != len(tokens) or len(set(special)) != len(special):
        raise ValueError(f"{len(set(tokens))} tokens, where {size - n_special} are due")
    if any(token["rank"] != i for i, token in enumerate(vocabulary)):
        raise ValueError("tokens that are not in the order of their ranks")
    if tokens[:256] != [bytes([byte]) for byte in range(256)]:
        raise ValueError("other tokens before the 256 bytes")
    if longest := next((token for token in tokens if len(token) > MAX_TOKEN), None):
        raise ValueError(f"a token of {len(longest)} bytes")
    return Tekken(special, tokens)
