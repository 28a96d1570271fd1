"""MiniCPM 1 and 2: a llama with scales. Transformers does not know it: its config.json says everything."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import longrope
from ollamaq.tokenizers.spec import SENTENCEPIECE_TOKENIZER

MINICPM = replace(
    LLAMA,
    arch=MODEL_ARCH.MINICPM,
    classes=("MiniCPMForCausalLM",),
    defaults={},
    keys=(
        key("embedding_scale", "scale_emb", type=F32),
        key("residual_scale", lambda config: config["scale_depth"] / config["num_hidden_layers"] ** 0.5, type=F32),
        key("logit_scale", lambda config: config["hidden_size"] / config["dim_model_base"], type=F32),
    ),
    extra=(longrope("long"), longrope("short")),
    tokenizer=SENTENCEPIECE_TOKENIZER,
)
