"""Gemma 1, 2 and 3 (of a multimodal one, the language model)."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.bert import POOLED
from ollamaq.architectures.family import COMMON, F32, HEADS, Family, key, ordered
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import left_out, plus_one
from ollamaq.tokenizers.spec import GEMMA2_TOKENIZER, GEMMA3_TOKENIZER, GEMMA_TOKENIZER

GEMMA = Family(
    arch=MODEL_ARCH.GEMMA,
    classes=("GemmaForCausalLM",),
    defaults={
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
    },
    sizes=HEADS,
    common=ordered(
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon",
        "attention.key_length",
        "attention.value_length",
        "general.file_type",
    ),
    keys=(),
    tensors={"token_embd": ("vocab_size", "hidden_size"), "output_norm": ("hidden_size",)},
    block=LLAMA.block,
    rearranged=dict.fromkeys(("output_norm", "attn_norm", "ffn_norm"), plus_one),
    split={"lm_head.weight": left_out},
    tokenizer=GEMMA_TOKENIZER,
)

GEMMA2 = replace(
    GEMMA,
    arch=MODEL_ARCH.GEMMA2,
    classes=("Gemma2ForCausalLM",),
    defaults={
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    },
    keys=(
        key("attn_logit_softcapping", "attn_logit_softcapping", type=F32),
        key("final_logit_softcapping", "final_logit_softcapping", type=F32),
        key("attention.sliding_window", "sliding_window"),
    ),
    block={**GEMMA.block, "post_attention_norm": ("hidden_size",), "post_ffw_norm": ("hidden_size",)},
    rearranged={**GEMMA.rearranged, "post_attention_norm": plus_one, "post_ffw_norm": plus_one},
    tokenizer=GEMMA2_TOKENIZER,
)

GEMMA3 = replace(
    GEMMA2,
    arch=MODEL_ARCH.GEMMA3,
    classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    defaults={
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 4096,
    },
    common=COMMON,
    keys=(
        key("final_logit_softcapping", lambda config: config.get("final_logit_softcapping") or None, type=F32),
        key(
            "attention.sliding_window",
            lambda config: None if config.get("sliding_window_pattern") == 1 else config["sliding_window"],
        ),
    ),
    tensors=LLAMA.tensors,
    block={**GEMMA2.block, "attn_q_norm": ("head_dim",), "attn_k_norm": ("head_dim",)},
    optional=("output",),
    rearranged={**GEMMA2.rearranged, "attn_q_norm": plus_one, "attn_k_norm": plus_one},
    split={},
    tokenizer=GEMMA3_TOKENIZER,
)

GEMMA_EMBEDDING = replace(
    GEMMA3, arch=MODEL_ARCH.GEMMA_EMBEDDING, classes=("Gemma3TextModel",), keys=(*GEMMA3.keys, *POOLED)
)
