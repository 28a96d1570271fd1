"""Mamba 2: a state-space model, and the layers of one that hybrid families have."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, FILE_TYPE, Computed, Config, Family, Rearrange, Shape, key, ordered
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import minus_exp, reshaped
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import MAMBA2_TOKENIZER

SSM: dict[str, Shape] = {
    "ssm_in": ("ssm_projected", "hidden_size"),
    "ssm_conv1d": ("ssm_channels", 1, "ssm_kernel"),
    "ssm_conv1d.bias": ("ssm_channels",),
    "ssm_dt.bias": ("ssm_heads",),
    "ssm_a": ("ssm_heads",),
    "ssm_d": ("ssm_heads",),
    "ssm_norm": ("ssm_inner",),
    "ssm_out": ("hidden_size", "ssm_inner"),
}
"""A layer's tensors, but its norm."""


def without_middle(tensor: Tensor, config: Config) -> Tensor:
    """A convolution's weights without the axis of one input channel."""
    return reshaped(tensor, tensor.shape[0], tensor.row) if len(tensor.shape) == 3 else tensor


def column(tensor: Tensor, config: Config) -> Tensor:
    return reshaped(tensor, tensor.row, 1)


IN_GROUPS: dict[str, Rearrange] = {
    "ssm_conv1d": without_middle,
    "ssm_a": lambda tensor, config: column(minus_exp(tensor, config), config),
    "ssm_d": column,
    "ssm_norm": lambda tensor, config: reshaped(tensor, config["ssm_groups"], tensor.row // config["ssm_groups"]),
}
DT = {".dt_bias": ".dt_proj.bias"}
"""How gguf-py calls it."""


def ssm_sizes(*, inner: Computed, heads: Computed, state: str, groups: str, kernel: str) -> dict[str, Computed]:
    """``sizes`` of ``SSM``; the last three are the config's names for them."""

    def shared(config: Config) -> int:
        return int(2 * config["ssm_groups"] * config["ssm_state"])

    return {
        "ssm_inner": inner,
        "ssm_heads": heads,
        "ssm_state": lambda config: config.get(state, 128),
        "ssm_groups": lambda config: config.get(groups, 1),
        "ssm_kernel": lambda config: config.get(kernel, 4),
        "ssm_channels": lambda config: config["ssm_inner"] + shared(config),
        "ssm_projected": lambda config: 2 * config["ssm_inner"] + shared(config) + config["ssm_heads"],
    }


SSM_KEYS = (
    key("ssm.conv_kernel", "ssm_kernel"),
    key("ssm.inner_size", "ssm_inner"),
    key("ssm.state_size", "ssm_state"),
    key("ssm.time_step_rank", "ssm_heads"),
    key("ssm.group_count", "ssm_groups"),
)

MAMBA2 = Family(
    arch=MODEL_ARCH.MAMBA2,
    classes=("Mamba2ForCausalLM",),
    defaults={},
    sizes=ssm_sizes(
        inner=lambda config: config.get("expand", 2) * config["hidden_size"],
        heads=lambda config: config["ssm_inner"] // config.get("head_dim", 64),
        state="state_size",
        groups="n_groups",
        kernel="conv_kernel",
    ),
    common=(
        key("context_length", lambda config: 2**20),  # it has no limit
        *ordered("embedding_length"),
        key("feed_forward_length", lambda config: 0),
        key("attention.head_count", lambda config: 0),
        *ordered("block_count"),
        *SSM_KEYS,
        key("attention.layer_norm_rms_epsilon", "layer_norm_epsilon", lambda config: 1e-5, type=F32),
        FILE_TYPE,
    ),
    keys=(),
    tensors=LLAMA.tensors,
    block={**SSM, "attn_norm": ("hidden_size",)},
    optional=("output", "ssm_conv1d.bias"),
    rearranged=IN_GROUPS,
    renamed=DT,
    tokenizer=MAMBA2_TOKENIZER,
)
