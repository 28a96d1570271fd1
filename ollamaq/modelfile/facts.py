"""What a Modelfile must agree with in the model it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ENDS = tuple(f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom"))


WINDOWED = ("attention.sliding_window", "attention.chunk_size", "attention.kv_lora_rank", "full_attention_interval")
"""Keys of architectures whose cache is less than all keys and values of all layers."""


@dataclass(frozen=True)
class ModelFacts:
    """Context length in tokens; special tokens; those that end a turn; whether a BOS is put before every prompt.

    ``cache_bytes`` is what a token of context takes in memory, None where that is not simply so many a token;
    ``weights`` are the bytes of a GGUF, 0 where the model is still to be quantized.
    """

    context_length: int | None = None
    special: frozenset[str] = frozenset()
    ends: tuple[str, ...] = ()
    adds_bos: bool = False
    chat_template: str = ""
    cache_bytes: int | None = None
    weights: int = 0


def model_facts(path: Path) -> ModelFacts:
    """Read them from a model directory or a GGUF file.

    Raises:
        ModelRefused: it cannot be read as a model.
    """
    # only with a model at hand: the linter alone starts without what reads models
    from ollamaq.chat.choose import CHAT_TEMPLATE
    from ollamaq.chat.stops import stop_tokens
    from ollamaq.source import open_source
    from ollamaq.tokenizers.special import special_texts

    source = open_source(path)
    metadata: dict[str, Any] = {key: value.value for key, value in source.model.metadata.items()}
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens") or []
    named = [id_ for key in _ENDS if isinstance(id_ := metadata.get(key), int) and 0 <= id_ < len(tokens)]
    ends = [stop.text for stop in stop_tokens(source.checkpoint)] if source.checkpoint else []
    prefix = f"{metadata.get('general.architecture')}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    length, template = own.get("context_length"), metadata.get(CHAT_TEMPLATE)
    return ModelFacts(
        context_length=length if isinstance(length, int) else None,
        special=special_texts(source.model.metadata),
        ends=tuple(dict.fromkeys([*ends, *(tokens[id_] for id_ in named)])),
        adds_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
        chat_template=template if isinstance(template, str) else "",
        cache_bytes=_cache_bytes(own),
        weights=0 if source.checkpoint else source.n_bytes,
    )


def _cache_bytes(own: dict[str, Any]) -> int | None:
    """Keys and values of every layer for one token, in F16 as llama.cpp keeps them unless it is told otherwise."""
    if any(key in own for key in WINDOWED):
        return None
    layers, heads, embedding = (
        _count(own.get(key)) for key in ("block_count", "attention.head_count", "embedding_length")
    )
    kv_heads = own.get("attention.head_count_kv", heads)
    of_all = sum(map(_count, kv_heads)) if isinstance(kv_heads, list) else _count(kv_heads) * layers
    width = embedding // heads if heads else 0
    return 2 * of_all * sum(_count(own.get(f"attention.{part}_length")) or width for part in ("key", "value")) or None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
