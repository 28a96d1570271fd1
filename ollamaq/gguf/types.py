"""Tensor types that llama.cpp writes and gguf-py does not list yet, made known to it."""

from __future__ import annotations

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType


def _known(name: str, number: int, block: int, size: int) -> GGMLQuantizationType:
    """The type of a name; an enumeration has no public way to take one more."""
    members = GGMLQuantizationType.__members__
    if name not in members:
        type_ = int.__new__(GGMLQuantizationType, number)
        type_._name_, type_._value_ = name, number
        GGMLQuantizationType._member_names_.append(name)
        GGMLQuantizationType._member_map_[name] = type_
        GGMLQuantizationType._value2member_map_[number] = type_
        GGML_QUANT_SIZES[type_] = (block, size)
    return GGMLQuantizationType[name]


Q2_0 = _known("Q2_0", 42, 64, 18)
"""Blocks of 64 codes of 2 bits, from -1 to 2, with one scale (ggml's ``block_q2_0``)."""
MOSTLY_Q2_0 = 41
"""What ``general.file_type`` says of a file of them."""
