"""InternLM 2 and 3. Transformers does not know them: their config.json says everything."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Family
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import by_groups
from ollamaq.tokenizers.spec import INTERNLM2_TOKENIZER, SENTENCEPIECE_TOKENIZER

INTERNLM2 = Family(
    arch=MODEL_ARCH.INTERNLM2,
    classes=("InternLM2ForCausalLM",),
    defaults={},
    sizes=HEADS,
    keys=(),
    tensors=LLAMA.tensors,
    block=LLAMA.block,
    optional=LLAMA.optional,
    rearranged=LLAMA.rearranged,
    split={"attention.wqkv.weight": by_groups("num_key_value_heads")},
    tokenizer=INTERNLM2_TOKENIZER,
)

INTERNLM3 = replace(LLAMA, classes=("InternLM3ForCausalLM",), defaults={}, extra=(), tokenizer=SENTENCEPIECE_TOKENIZER)
