"""Model families: a short declarative file each. To add one, write its file and name it in ``FAMILIES``."""

from __future__ import annotations

import difflib
import re

from ollamaq.architectures.apertus import APERTUS
from ollamaq.architectures.bert import BERT, DISTIL_BERT, MODERN_BERT, NOMIC_BERT, ROBERTA
from ollamaq.architectures.cohere import COHERE, COHERE2
from ollamaq.architectures.consolidated import CONSOLIDATED, CONSOLIDATED_EXPERTS
from ollamaq.architectures.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from ollamaq.architectures.ernie import ERNIE4_5, ERNIE4_5_MOE
from ollamaq.architectures.eurobert import EURO_BERT
from ollamaq.architectures.exaone import EXAONE4
from ollamaq.architectures.falcon import FALCON, GPTNEOX
from ollamaq.architectures.falcon_h1 import FALCON_H1
from ollamaq.architectures.family import Config, Family, text_config
from ollamaq.architectures.gemma import GEMMA, GEMMA2, GEMMA3, GEMMA_EMBEDDING
from ollamaq.architectures.gemma3n import GEMMA3N
from ollamaq.architectures.gemma4 import GEMMA4
from ollamaq.architectures.glm import GLM4
from ollamaq.architectures.glm_moe import GLM4_MOE
from ollamaq.architectures.gpt_oss import GPT_OSS
from ollamaq.architectures.granite import GRANITE
from ollamaq.architectures.granite_hybrid import GRANITE_HYBRID
from ollamaq.architectures.granite_moe import GRANITE_MOE
from ollamaq.architectures.hunyuan import HUNYUAN
from ollamaq.architectures.internlm import INTERNLM2, INTERNLM3
from ollamaq.architectures.lfm2 import LFM2, LFM2_MOE
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.llama4 import LLAMA4
from ollamaq.architectures.mamba import MAMBA2
from ollamaq.architectures.minicpm import MINICPM
from ollamaq.architectures.mistral import LLAVA, MISTRAL, MISTRAL3
from ollamaq.architectures.mixtral import MIXTRAL
from ollamaq.architectures.nemotron_h import NEMOTRON_H
from ollamaq.architectures.olmo import OLMO, OLMO2, OLMO3
from ollamaq.architectures.olmoe import OLMOE
from ollamaq.architectures.phi import PHI2, PHI3, PHIMOE
from ollamaq.architectures.qwen import QWEN2, QWEN2_VL, QWEN3
from ollamaq.architectures.qwen_moe import QWEN2MOE, QWEN3MOE
from ollamaq.architectures.qwen_next import QWEN3_5, QWEN3_5_MOE, QWEN3_NEXT
from ollamaq.architectures.seed_oss import SEED_OSS
from ollamaq.architectures.smollm import SMOLLM3
from ollamaq.architectures.stablelm import STABLELM
from ollamaq.architectures.starcoder import STARCODER2
from ollamaq.errors import ModelRefused

FAMILIES: tuple[Family, ...] = (
    APERTUS,
    BERT,
    DISTIL_BERT,
    MODERN_BERT,
    NOMIC_BERT,
    ROBERTA,
    COHERE,
    COHERE2,
    CONSOLIDATED,
    CONSOLIDATED_EXPERTS,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    ERNIE4_5,
    ERNIE4_5_MOE,
    EURO_BERT,
    EXAONE4,
    FALCON,
    GPTNEOX,
    FALCON_H1,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GEMMA_EMBEDDING,
    GEMMA3N,
    GEMMA4,
    GLM4,
    GLM4_MOE,
    GPT_OSS,
    GRANITE,
    GRANITE_HYBRID,
    GRANITE_MOE,
    HUNYUAN,
    INTERNLM2,
    INTERNLM3,
    LFM2,
    LFM2_MOE,
    LLAMA,
    LLAMA4,
    LLAVA,
    MAMBA2,
    MINICPM,
    MISTRAL,
    MISTRAL3,
    MIXTRAL,
    NEMOTRON_H,
    OLMO,
    OLMO2,
    OLMO3,
    OLMOE,
    PHI2,
    PHI3,
    PHIMOE,
    QWEN2,
    QWEN2_VL,
    QWEN3,
    QWEN2MOE,
    QWEN3MOE,
    QWEN3_5,
    QWEN3_5_MOE,
    QWEN3_NEXT,
    SEED_OSS,
    SMOLLM3,
    STABLELM,
    STARCODER2,
)
BY_CLASS = {name: family for family in FAMILIES for name in family.classes}


def family_of(config: Config, where: str) -> Family:
    """The family of a model's config.json; ``where`` names the file in errors.

    Raises:
        ModelRefused: its class is in no family.
    """
    config = text_config(config)
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    if not isinstance(name, str):
        raise ModelRefused(f"{where} names no architecture", next_step="give a model that transformers saved")
    if name in BY_CLASS:
        return BY_CLASS[name]
    nearest = difflib.get_close_matches(name, BY_CLASS, n=3, cutoff=0)
    file = re.sub(r"\W", "_", str(config.get("model_type", "new_family")))[:40]
    raise ModelRefused(
        f"{where} has architecture {name!r}, which is not supported",
        next_step=f"the nearest that work: {', '.join(nearest)}; to add it, write ollamaq/architectures/{file}.py as"
        " docs/adding-an-architecture.md shows",
    )
