"""Hunyuan, dense."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, HEADS, STRING, Config, Family, head_width, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import Order, left_out
from ollamaq.tensors import Tensor

CONTEXT = 256 * 1024
"""What "dynamic" rope was trained for; its config says something else."""
KNOWN_CONTEXTS = (32 * 1024, CONTEXT)


def stretched_base(config: Config) -> float | None:
    """The base that makes plain rope of "dynamic" one, which scales by ``alpha`` as NTK-aware interpolation does.

    Raises:
        ValueError: the settings are not those of a released model, so that the context cannot be known.
    """
    if not dynamic(config):
        return None
    rope, width = config["rope_parameters"], head_width(config)
    base, alpha = rope.get("rope_theta", 10000.0), rope.get("alpha", 50)
    if base != 10000 or config["max_position_embeddings"] not in KNOWN_CONTEXTS:
        raise ValueError(f"dynamic rope with rope_theta {base}, for {config['max_position_embeddings']} positions")
    return float(base * alpha ** (width / (width - 2)))


def dynamic(config: Config) -> bool:
    return bool(config["rope_parameters"]["rope_type"] == "dynamic")


def tied_output(tensor: Tensor, config: Config) -> dict[str, Order] | None:
    return left_out(tensor, config) if config.get("tie_word_embeddings", False) else None


HUNYUAN = Family(
    arch=MODEL_ARCH.HUNYUAN_DENSE,
    classes=("HunYuanDenseV1ForCausalLM",),
    defaults={
        "vocab_size": 290943,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    },
    sizes={**HEADS, "head_width": head_width},
    keys=(
        key("rope.freq_base", stretched_base, type=F32),
        key("rope.scaling.type", lambda config: "none" if dynamic(config) else None, type=STRING),
        key("rope.scaling.factor", lambda config: 1.0 if dynamic(config) else None, type=F32),
        key("rope.scaling.original_context_length", lambda config: CONTEXT if dynamic(config) else None),
        key("context_length", lambda config: CONTEXT if dynamic(config) else None),
    ),
    tensors=LLAMA.tensors,
    block={**LLAMA.block, "attn_q_norm": ("head_width",), "attn_k_norm": ("head_width",)},
    optional=LLAMA.optional,
    split={"lm_head.weight": tied_output},
)
