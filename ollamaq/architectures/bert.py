"""Embedding models: BERT, RoBERTa, XLM-RoBERTa, NomicBert and ModernBERT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.family import BOOL, STRING, Config, Family, Shape, key, with_row_order
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import BERT_TOKENIZER, MODERN_BERT_TOKENIZER, ROBERTA_TOKENIZER

POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}


def pooling(config: Config) -> int | None:
    """How one vector is made of a text's many, where sentence-transformers' settings say so."""
    said: dict[str, Any] = config["pooling"]
    if not said:
        return None
    flags = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    stated = next((mode for mode, flag in flags.items() if said.get(f"pooling_mode_{flag}")), said.get("pooling_mode"))
    return POOLING[str(stated)]


def norm(name: str) -> dict[str, Shape]:
    return {name: ("hidden_size",), f"{name}.bias": ("hidden_size",)}


BERT = Family(
    arch=MODEL_ARCH.BERT,
    classes=("BertModel", "BertForMaskedLM", "CamembertModel"),
    defaults={
        "vocab_size": 30522,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    },
    keys=(
        key("attention.causal", lambda config: False, type=BOOL),
        key("pooling_type", pooling),
        key("classifier.pooling_type", lambda config: POOLING.get(config.get("classifier_pooling", ""))),
    ),
    tensors={
        "token_embd": ("vocab_size", "hidden_size"),
        "token_types": ("type_vocab_size", "hidden_size"),
        "position_embd": ("max_position_embeddings", "hidden_size"),
        **norm("token_embd_norm"),
    },
    block={
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), ("hidden_size", "hidden_size")),
        **norm("attn_output_norm"),
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
        **norm("layer_output_norm"),
    },
    renamed={"bert.": "", ".gamma": ".weight", ".beta": ".bias"},
    skipped=("embeddings.position_ids", "pooler.dense.", "cls.predictions", "cls.seq_relationship", "lm_head."),
    tokenizer=BERT_TOKENIZER,
)


def first_position(config: Config) -> int:
    """Positions are counted from the one after the padding token's id."""
    return int(config.get("pad_token_id", 1)) + 1


def without_padding(tensor: Tensor, config: Config) -> Tensor:
    return with_row_order(tensor, np.arange(first_position(config), tensor.shape[0]))


ROBERTA = replace(
    BERT,
    classes=("RobertaModel", "XLMRobertaModel"),
    defaults={**BERT.defaults, "vocab_size": 50265},
    keys=(
        key("context_length", lambda config: config["max_position_embeddings"] - first_position(config)),
        *BERT.keys,
    ),
    rearranged={"position_embd": without_padding},
    renamed={"roberta.": ""},
    tokenizer=ROBERTA_TOKENIZER,
)

TRAINED_FOR = {8192: 2048, 2048: 512}
"""NomicBert's context, by what its config says of it: version 1 and 1.5, and 2."""

NOMIC_BERT = Family(
    arch=MODEL_ARCH.NOMIC_BERT,
    classes=("NomicBertModel",),
    defaults={},
    sizes={
        "hidden_size": lambda config: config["n_embd"],
        "num_hidden_layers": lambda config: config["n_layer"],
        "three_hidden": lambda config: 3 * config["n_embd"],
    },
    keys=(key("context_length", lambda config: TRAINED_FOR[config["n_positions"]]), *BERT.keys),
    tensors={name: shape for name, shape in BERT.tensors.items() if name != "position_embd"},
    block={
        "attn_qkv": ("three_hidden", "hidden_size"),
        "attn_output": ("hidden_size", "hidden_size"),
        **norm("attn_output_norm"),
        "ffn_up": ("n_inner", "hidden_size"),
        "ffn_gate": ("n_inner", "hidden_size"),
        "ffn_down": ("hidden_size", "n_inner"),
        **norm("layer_output_norm"),
    },
    renamed=BERT.renamed,
    skipped=BERT.skipped,
    tokenizer=BERT_TOKENIZER,
)

MODERN_BERT = Family(
    arch=MODEL_ARCH.MODERN_BERT,
    classes=("ModernBertModel",),
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "classifier_pooling": "cls",
        "hidden_activation": "gelu",
    },
    sizes={
        "three_hidden": lambda config: 3 * config["hidden_size"],
        "gate_and_up": lambda config: 2 * config["intermediate_size"],
    },
    keys=(
        *BERT.keys,
        key("attention.sliding_window", "local_attention"),
        key("attention.sliding_window_pattern", "global_attn_every_n_layers"),
        key("rope.scaling.type", lambda config: "none", type=STRING),
        key("vocab_size", "vocab_size"),
        key("hidden_activation", "hidden_activation", type=STRING),
    ),
    tensors={
        "token_embd": ("vocab_size", "hidden_size"),
        "token_embd_norm": ("hidden_size",),
        "output_norm": ("hidden_size",),
    },
    block={
        "attn_norm": ("hidden_size",),
        "attn_qkv": ("three_hidden", "hidden_size"),
        "attn_output": ("hidden_size", "hidden_size"),
        "ffn_norm": ("hidden_size",),
        "ffn_up": ("gate_and_up", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    optional=("attn_norm",),  # the first layer has none
    renamed={"model.": ""},
    tokenizer=MODERN_BERT_TOKENIZER,
)
