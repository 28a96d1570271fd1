"""A tokenizer.json becomes a GGUF vocabulary."""

from ollamaq.tokenizers.vocabulary import vocabulary

__all__ = ["vocabulary"]
