"""Which way llama.cpp's converter takes from a family's tokenizer files to a vocabulary, as data of the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TokenizerSpec:
    """How a family's vocabulary is made. The default is that of most families: ``tokenizer.json``, byte-level BPE.

    ``kinds`` are tried in order, the first whose file is there and of that kind is taken:

    * ``gpt2``: tokenizer.json, byte-level BPE
    * ``sentencepiece``: tokenizer.model
    * ``llama_hf``: tokenizer.json, BPE with byte fallback
    * ``gemma4``: the same with its merges
    * ``phi3``, ``internlm2``: tokenizer.model with these families' own rules for added tokens
    * ``wordpiece``: tokenizer.json of BERT
    * ``tekken``, ``mistral_sentencepiece``: Mistral's tekken.json, and tokenizer.model beside params.json
    * ``unigram``: tokenizer.model or tokenizer.json of XLM-RoBERTa and T5

    ``special`` has the token (text) of roles (``bos``, ``eot``, …) for which the files give none; ``eos`` is the end of
    text where the tokenizer has it, whatever the files say. ``first`` keys are written before all others, ``keys`` last
    (``tokenizer.ggml.`` is put before their names); ``sized`` has more of these for vocabularies of one size.
    ``space_prefix``: where ``add_space_prefix`` is written, as tokenizer_config.json has it. ``padded``: the number of
    tokens is a multiple of this, if config.json has no other ``pad_vocab_size_multiple``.
    """

    kinds: tuple[str, ...] = ("gpt2",)
    special: Mapping[str, str] = field(default_factory=dict)
    eos: str = ""
    first: Mapping[str, bool] = field(default_factory=dict)
    keys: Mapping[str, int | bool] = field(default_factory=dict)
    sized: Mapping[int, Mapping[str, int | bool]] = field(default_factory=dict)
    space_prefix: Literal["", "first", "last"] = ""
    padded: int = 1


GPT2_TOKENIZER = TokenizerSpec()
LLAMA_TOKENIZER = TokenizerSpec(
    ("tekken", "sentencepiece", "llama_hf", "gpt2"),
    space_prefix="first",
    sized={
        32016: {"eot_token_id": 32010},
        49152: {"add_bos_token": False},
    },
)
"""Llama's, and that of every family which the converter derives from it (Mistral, Mixtral, Granite, SmolLM3, …).

By size: CodeLlama's end of an infilling; Granite's and SmolLM's texts never start with a BOS.
"""
MISTRAL_TOKENIZER = TokenizerSpec(("tekken", "mistral_sentencepiece"))
SENTENCEPIECE_OR_GPT2 = TokenizerSpec(("sentencepiece", "gpt2"))
"""Qwen 2 and later, and others that ask for ``tokenizer.model`` first."""
SENTENCEPIECE_TOKENIZER = TokenizerSpec(("sentencepiece",))
GEMMA2_TOKENIZER = TokenizerSpec(("sentencepiece",), keys={"add_space_prefix": False})
GEMMA_TOKENIZER = TokenizerSpec(("sentencepiece",), keys={"eot_token_id": 107, "add_space_prefix": False})
GEMMA3_TOKENIZER = TokenizerSpec(("sentencepiece", "gpt2"), keys={"add_space_prefix": False})
GEMMA4_TOKENIZER = TokenizerSpec(("gemma4",), keys={"add_space_prefix": False, "add_bos_token": True})
PHI3_TOKENIZER = TokenizerSpec(("phi3", "gpt2"))
GLM4_TOKENIZER = TokenizerSpec(
    special={"eos": "<|endoftext|>", "eot": "<|user|>", "unk": "<|endoftext|>", "bos": "<|endoftext|>"}
)
GLM4_MOE_TOKENIZER = TokenizerSpec(
    special={"bos": "[gMASK]", "eot": "<|user|>", "unk": "<|endoftext|>", "eom": "<|observation|>"}
)
INTERNLM2_TOKENIZER = TokenizerSpec(("internlm2",), eos="<|im_end|>")
ERNIE_TOKENIZER = TokenizerSpec(("sentencepiece",), space_prefix="last")
BERT_TOKENIZER = TokenizerSpec(("wordpiece",))
NOMIC_TOKENIZER = TokenizerSpec(("wordpiece", "unigram"))
EURO_BERT_TOKENIZER = TokenizerSpec(first={"add_bos_token": False})
ROBERTA_TOKENIZER = TokenizerSpec(("unigram", "gpt2"))
MODERN_BERT_TOKENIZER = TokenizerSpec(first={"add_bos_token": True, "add_eos_token": True, "add_sep_token": True})
MAMBA2_TOKENIZER = TokenizerSpec(("sentencepiece", "gpt2"), padded=16)
GRANITE_HYBRID_TOKENIZER = TokenizerSpec(("sentencepiece", "gpt2"), padded=8)
