"""What a Modelfile must agree with in the model it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamaq.chat.stops import stop_tokens
from ollamaq.source import open_source
from ollamaq.tokenizers.special import special_texts

_ENDS = tuple(f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom"))


@dataclass(frozen=True)
class ModelFacts:
    """Context length in tokens; special tokens; those that end a turn; whether a BOS is put before every prompt."""

    context_length: int | None = None
    special: frozenset[str] = frozenset()
    ends: tuple[str, ...] = ()
    adds_bos: bool = False


def model_facts(path: Path) -> ModelFacts:
    """Read them from a model directory or a GGUF file.

    Raises:
        ModelRefused: it cannot be read as a model.
    """
    source = open_source(path)
    metadata: dict[str, Any] = {key: value.value for key, value in source.model.metadata.items()}
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens") or []
    named = [id_ for key in _ENDS if isinstance(id_ := metadata.get(key), int) and 0 <= id_ < len(tokens)]
    ends = [stop.text for stop in stop_tokens(source.checkpoint)] if source.checkpoint else []
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return ModelFacts(
        context_length=length if isinstance(length, int) else None,
        special=special_texts(source.model.metadata),
        ends=tuple(dict.fromkeys([*ends, *(tokens[id_] for id_ in named)])),
        adds_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
    )
