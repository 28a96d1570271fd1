"""Embedding models and rerankers: BERT, DistilBERT, RoBERTa, XLM-RoBERTa, NomicBert and ModernBERT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, routed
from ollamaq.architectures.family import (
    BOOL,
    COMMON,
    F32,
    STRING,
    Computed,
    Config,
    Family,
    Named,
    Shape,
    Split,
    key,
    with_row_order,
)
from ollamaq.architectures.transforms import reshaped, transposed
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import BERT_TOKENIZER, MODERN_BERT_TOKENIZER, NOMIC_TOKENIZER, ROBERTA_TOKENIZER

POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}


def pooling(config: Config) -> int | None:
    """How one vector is made of a text's many, where sentence-transformers' settings say so."""
    said: dict[str, Any] = config["pooling"]
    if not said:
        return None
    flags = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    stated = next((mode for mode, flag in flags.items() if said.get(f"pooling_mode_{flag}")), said.get("pooling_mode"))
    return POOLING[str(stated)]


def labels(config: Config) -> list[str] | None:
    """What a classifier's outputs are called; two without names are those that transformers makes up for any model."""
    stated = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(config.get("num_labels", 0))}
    named = [str(stated[i]) for i in sorted(stated, key=int)]
    return None if len(named) == 2 and named[0] == "LABEL_0" else named or None


def with_head(tensors: Named, config: Config) -> Iterator[tuple[str, Tensor]]:
    """A classifier of one matrix is what others have last.

    Raises:
        ModelRefused: its two outputs have no names, by which llama.cpp counts them.
    """
    for name, tensor in tensors:
        only = re.fullmatch(r"classifier\.(weight|bias)", name)
        if only and not labels(config):
            raise ModelRefused(
                f"config.json names no labels for the {tensor.shape[0]} outputs of {name!r}",
                next_step="give them names in its id2label, other than LABEL_0",
            )
        yield (f"classifier.out_proj.{only[1]}" if only else name), tensor


HEAD: dict[str, Shape] = {
    "cls": ("head", "hidden_size"),
    "cls.output": ("labels", "hidden_size"),
    "cls.norm": ("hidden_size",),
}
"""A classifier's tensors; not every one has all of them."""
HEAD_SIZES: Mapping[str, Computed] = {
    "labels": lambda config: len(labels(config) or []) or 2,
    "head": lambda config: config["hidden_size"],
}


def norm(name: str) -> dict[str, Shape]:
    return {name: ("hidden_size",), f"{name}.bias": ("hidden_size",)}


POOLED = (
    key("pooling_type", pooling),
    key("classifier.pooling_type", lambda config: POOLING.get(config.get("classifier_pooling", ""))),
)

BERT = Family(
    arch=MODEL_ARCH.BERT,
    classes=("BertModel", "BertForMaskedLM", "CamembertModel", "BertForSequenceClassification"),
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
        *POOLED,
        key("classifier.output_labels", labels),
    ),
    sizes=HEAD_SIZES,
    tensors={
        "token_embd": ("vocab_size", "hidden_size"),
        "token_types": ("type_vocab_size", "hidden_size"),
        "position_embd": ("max_position_embeddings", "hidden_size"),
        **norm("token_embd_norm"),
        **HEAD,
    },
    block={
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), ("hidden_size", "hidden_size")),
        **norm("attn_output_norm"),
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
        **norm("layer_output_norm"),
    },
    optional=tuple(HEAD),
    renamed={"bert.": "", ".gamma": ".weight", ".beta": ".bias"},
    gathered=with_head,
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
    classes=(
        *("RobertaModel", "XLMRobertaModel"),
        *("RobertaForSequenceClassification", "XLMRobertaForSequenceClassification"),
    ),
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


def nomic_layer(config: Config, i: int) -> dict[str, Shape]:
    """A gated network, or with experts a plain one and theirs in turn."""
    every = config.get("moe_every_n_layers")
    if not every:
        return {"ffn_up": UP, "ffn_gate": UP, "ffn_down": DOWN}
    if i % every != 1:
        return {"ffn_up": UP, "ffn_down": DOWN}
    return {name: shape for name, shape in ROUTED.items() if name != "ffn_gate_exps"}


def stacked_rows(name: str, *, turned: bool = False) -> Split:
    """The experts of a layer, whose matrices lie one below the other; ``turned`` ones are inputs x outputs."""

    def split(tensor: Tensor, config: Config) -> dict[str, Tensor]:
        experts = reshaped(tensor, config["experts"], config["n_inner"], config["n_embd"])
        return {name: transposed(experts) if turned else experts}

    return split


UP: Shape = ("n_inner", "hidden_size")
DOWN: Shape = ("hidden_size", "n_inner")

NOMIC_BERT = Family(
    arch=MODEL_ARCH.NOMIC_BERT,
    classes=("NomicBertModel",),
    defaults={},
    sizes={
        "hidden_size": lambda config: config["n_embd"],
        "num_hidden_layers": lambda config: config["n_layer"],
        "three_hidden": lambda config: 3 * config["n_embd"],
        **routed("n_inner"),
    },
    keys=(
        key("context_length", lambda config: TRAINED_FOR[config["n_positions"]]),
        key("attention.causal", lambda config: False, type=BOOL),
        *POOLED,
        key("moe_every_n_layers", lambda config: config.get("moe_every_n_layers") or None),
        key("expert_used_count", lambda config: config["moe_top_k"] if config.get("moe_every_n_layers") else None),
    ),
    tensors={
        "token_embd": ("vocab_size", "hidden_size"),
        "token_types": ("type_vocab_size", "hidden_size"),
        **norm("token_embd_norm"),
    },
    block={
        "attn_qkv": ("three_hidden", "hidden_size"),
        "attn_output": ("hidden_size", "hidden_size"),
        **norm("attn_output_norm"),
        **norm("layer_output_norm"),
    },
    layer=nomic_layer,
    renamed=BERT.renamed,
    split={
        "mlp.experts.mlp.w1": stacked_rows("ffn_up_exps"),
        "mlp.experts.mlp.w2": stacked_rows("ffn_down_exps", turned=True),
    },
    skipped=(*BERT.skipped, "mlp.experts.bias"),
    variant=lambda config: MODEL_ARCH.NOMIC_BERT_MOE if config.get("moe_every_n_layers") else None,
    tokenizer=NOMIC_TOKENIZER,
)

DISTIL_BERT = replace(
    BERT,
    classes=("DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification"),
    defaults={
        "vocab_size": 30522,
        "dim": 768,
        "hidden_dim": 3072,
        "n_layers": 6,
        "n_heads": 12,
        "max_position_embeddings": 512,
    },
    sizes={
        "hidden_size": lambda config: config["dim"],
        "intermediate_size": lambda config: config["hidden_dim"],
        "num_hidden_layers": lambda config: config["n_layers"],
        **HEAD_SIZES,
    },
    common=(key("attention.layer_norm_epsilon", lambda config: 1e-12, type=F32), *COMMON),
    tensors={name: shape for name, shape in BERT.tensors.items() if name != "token_types"},
    renamed={"distilbert.": ""},
    skipped=("vocab_",),
)

MODERN_BERT = Family(
    arch=MODEL_ARCH.MODERN_BERT,
    classes=("ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"),
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
        **HEAD_SIZES,
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
        **HEAD,
    },
    block={
        "attn_norm": ("hidden_size",),
        "attn_qkv": ("three_hidden", "hidden_size"),
        "attn_output": ("hidden_size", "hidden_size"),
        "ffn_norm": ("hidden_size",),
        "ffn_up": ("gate_and_up", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    optional=("attn_norm", *HEAD),  # the first layer has no norm
    renamed={"model.": ""},
    gathered=with_head,
    skipped=("decoder.",),
    tokenizer=MODERN_BERT_TOKENIZER,
)
