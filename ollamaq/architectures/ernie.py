"""ERNIE 4.5, dense."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Family
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import cut

ERNIE4_5 = Family(
    arch=MODEL_ARCH.ERNIE4_5,
    classes=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    defaults={
        "vocab_size": 103424,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
    },
    sizes=HEADS,
    keys=(),
    tensors=LLAMA.tensors,
    block=LLAMA.block,
    optional=LLAMA.optional,
    renamed={"ernie.": "model."},
    split={
        "qkv_proj.weight": cut(attn_q="queries", attn_k="keys", attn_v="keys"),
        "up_gate_proj.weight": cut(ffn_gate="intermediate_size", ffn_up="intermediate_size"),
    },
)
