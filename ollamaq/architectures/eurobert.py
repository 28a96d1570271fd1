"""EuroBERT: an encoder that is a llama whose attention sees the whole text."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.bert import POOLED
from ollamaq.architectures.family import BOOL, STRING, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.tokenizers.spec import EURO_BERT_TOKENIZER

EURO_BERT = replace(
    LLAMA,
    arch=MODEL_ARCH.EUROBERT,
    classes=("EuroBertModel", "JinaEmbeddingsV5Model"),
    defaults={},
    keys=(
        key("attention.causal", lambda config: False, type=BOOL),
        key("rope.scaling.type", lambda config: "none", type=STRING),
        *POOLED,
    ),
    tensors={name: shape for name, shape in LLAMA.tensors.items() if name != "output"},
    optional=(),
    rearranged={},
    renamed={"model.": ""},
    extra=(),
    tokenizer=EURO_BERT_TOKENIZER,
)
