"""Qwen 2, 2.5 and 3, dense; of Qwen 2 and 2.5 VL, the language model."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import Family
from ollamaq.architectures.llama import LLAMA
from ollamaq.tokenizers.spec import SENTENCEPIECE_OR_GPT2

QWEN2 = Family(
    arch=MODEL_ARCH.QWEN2,
    classes=("Qwen2ForCausalLM",),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
    sizes=LLAMA.sizes,
    keys=(),
    tensors=LLAMA.tensors,
    block=LLAMA.block,
    optional=LLAMA.optional,
    tokenizer=SENTENCEPIECE_OR_GPT2,
)

QWEN3 = Family(
    arch=MODEL_ARCH.QWEN3,
    classes=("Qwen3ForCausalLM",),
    defaults={**QWEN2.defaults, "head_dim": 128},
    sizes=QWEN2.sizes,
    keys=(),
    tensors=LLAMA.tensors,
    block={**LLAMA.block, "attn_q_norm": ("head_dim",), "attn_k_norm": ("head_dim",)},
    optional=LLAMA.optional,
    tokenizer=SENTENCEPIECE_OR_GPT2,
)

QWEN2_VL = replace(
    QWEN2,
    arch=MODEL_ARCH.QWEN2VL,
    classes=("Qwen2_5_VLForConditionalGeneration", "Qwen2VLForConditionalGeneration"),
    defaults={
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
    },
)
