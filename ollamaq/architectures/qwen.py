"""Qwen 2, 2.5 and 3, dense; of Qwen 2 and 2.5 VL, the language model."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.bert import POOLED
from ollamaq.architectures.family import STRING, Config, Family, key, with_row_order
from ollamaq.architectures.llama import LLAMA
from ollamaq.checkpoint import Checkpoint
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import SENTENCEPIECE_OR_GPT2

QWEN2 = Family(
    arch=MODEL_ARCH.QWEN2,
    classes=("Qwen2ForCausalLM", "Qwen2Model"),
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
    keys=POOLED,
    tensors=LLAMA.tensors,
    block=LLAMA.block,
    optional=LLAMA.optional,
    tokenizer=SENTENCEPIECE_OR_GPT2,
)

RANK = 4
"""llama.cpp's number for a model that gives a text one number."""
RERANK = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""How a reranker is asked; not Jinja, but what llama.cpp fills in."""
RERANKER = re.compile(r"qwen3-(vl-)?reranker", re.IGNORECASE)


def reranks(checkpoint: Checkpoint) -> dict[str, list[int] | None]:
    """``reranks``: the tokens "yes" and "no" of a reranker, which only its name tells from other models.

    Raises:
        ValueError: its tokenizer has no such tokens.
    """
    hints = (checkpoint.home.name, checkpoint.config.get("_name_or_path"), checkpoint.config.get("model_type"))
    named = any(RERANKER.search(str(hint)) for hint in hints)
    if not named and not re.search(rf"# {RERANKER.pattern}", checkpoint.readme, re.IGNORECASE):
        return {"reranks": None}
    tokens = dict(checkpoint.tokenizer.get("model", {}).get("vocab", {}))
    tokens |= {token["content"]: token["id"] for token in checkpoint.tokenizer.get("added_tokens", ())}
    if not {"yes", "no"} <= tokens.keys():
        raise ValueError("a reranker's tokenizer without the tokens yes and no")
    return {"reranks": [tokens["yes"], tokens["no"]]}


def yes_and_no(tensor: Tensor, config: Config) -> dict[str, Tensor] | None:
    """Of a reranker's head only two tokens are asked for; the embedding is the head where they are tied."""
    if not config["reranks"]:
        return None
    embeds = "embed_tokens" in tensor.name
    if embeds != bool(config.get("tie_word_embeddings", False)):
        return None
    rows = {"cls.output": with_row_order(tensor, np.array(config["reranks"]))}
    return rows | ({"token_embd": tensor} if embeds else {})


QWEN3 = Family(
    arch=MODEL_ARCH.QWEN3,
    classes=("Qwen3ForCausalLM", "Qwen3Model"),
    defaults={**QWEN2.defaults, "head_dim": 128},
    sizes=QWEN2.sizes,
    keys=(
        *POOLED,
        key("pooling_type", lambda config: RANK if config["reranks"] else None),
        key("classifier.output_labels", lambda config: ["yes", "no"] if config["reranks"] else None),
        key("tokenizer.chat_template.rerank", lambda config: RERANK if config["reranks"] else None, type=STRING),
        key("tokenizer.chat_templates", lambda config: ["rerank"] if config["reranks"] else None),
    ),
    tensors={**LLAMA.tensors, "cls.output": (2, "hidden_size")},
    block={**LLAMA.block, "attn_q_norm": ("head_dim",), "attn_k_norm": ("head_dim",)},
    optional=(*LLAMA.optional, "cls.output"),
    split={"lm_head.weight": yes_and_no, "embed_tokens.weight": yes_and_no},
    facts=reranks,
    tokenizer=SENTENCEPIECE_OR_GPT2,
)

QWEN2_VL = replace(
    QWEN2,
    arch=MODEL_ARCH.QWEN2VL,
    classes=("Qwen2_5_VLForConditionalGeneration", "Qwen2VLForConditionalGeneration"),
    keys=(),
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
