"""LoRA adapters: read, placed on their base, and merged into it while its rows are read."""

from ollamaq.checkpoint.lora.adapter import Adapter, is_adapter, parse_weighted, read_adapter
from ollamaq.checkpoint.lora.base import base_of, find_base
from ollamaq.checkpoint.lora.merge import merge, products

__all__ = ["Adapter", "base_of", "find_base", "is_adapter", "merge", "parse_weighted", "products", "read_adapter"]
