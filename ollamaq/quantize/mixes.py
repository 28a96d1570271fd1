"""Mixes: which type each kind of tensor gets, as llama.cpp's ``llama-quantize`` decides it (``src/llama-quant.cpp``).

A mix is a default type and a few exceptions. An exception names a kind of tensor, where in the model it holds, and the
type; the first that holds wins.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from ollamaq.errors import UsageError
from ollamaq.gguf.types import MOSTLY_Q2_0, Q2_0


class Kind(Enum):
    """What a tensor is for, told by its name; the first pattern that is found in the name decides."""

    OUTPUT = r"^output\.weight$"
    TOKEN_EMBD = r"^(token_embd|per_layer_token_embd)\.weight$"
    ATTN_V = r"attn_(qkv|kv_b|v)\.weight"
    ATTN_K = r"attn_k\.weight"
    ATTN_Q = r"attn_q\.weight"
    ATTN_OUTPUT = r"attn_output\.weight"
    FFN_UP = r"ffn_up"
    FFN_GATE = r"ffn_gate"
    FFN_DOWN = r"ffn_down"
    OTHER = r""

    @classmethod
    def of(cls, name: str) -> Kind:
        return next(kind for kind in cls if re.search(kind.value, name))


@dataclass(frozen=True)
class Place:
    """Where a tensor stands among those of its kind, and the facts that rules ask for.

    ``shared_heads`` is where four query heads or more share a value head, ``stacked`` where the tensor holds matrices
    of several experts, ``imatrix`` where an importance matrix is at hand; ``four_experts`` are four or more.
    """

    layer: int
    layers: int
    falcon: bool = False
    eight_experts: bool = False
    shared_heads: bool = False
    stacked: bool = False
    imatrix: bool = False
    four_experts: bool = False


Where = Callable[[Place], bool]


def everywhere(place: Place) -> bool:
    return True


def first(count: int) -> Where:
    """In the first ``count`` layers."""
    return lambda place: place.layer < count


def first_part(divisor: int) -> Where:
    """In the first ``1 / divisor`` of the layers."""
    return lambda place: place.layer < place.layers // divisor


def more_bits(place: Place) -> bool:
    """In the first and the last eighth of the layers, and in every third one between."""
    eighth = place.layers // 8
    return place.layer < eighth or place.layer >= 7 * place.layers // 8 or (place.layer - eighth) % 3 == 2


def falcon(where: Where) -> Where:
    return lambda place: place.falcon and where(place)


def not_falcon(where: Where) -> Where:
    return lambda place: not place.falcon and where(place)


def eight_experts(place: Place) -> bool:
    return place.eight_experts and not place.falcon


def other_experts(place: Place) -> bool:
    return not place.eight_experts and not place.falcon


def shared_heads(place: Place) -> bool:
    return place.shared_heads


def shared_heads_or_experts(place: Place) -> bool:
    return place.shared_heads or place.four_experts


def of_eight_experts(where: Where) -> Where:
    return lambda place: place.eight_experts and where(place)


def middle(place: Place) -> bool:
    """In all layers but the first and the last eighth."""
    return place.layers // 8 <= place.layer < 7 * place.layers // 8


def not_stacked(place: Place) -> bool:
    return not place.stacked


def imatrix(where: Where) -> Where:
    return lambda place: place.imatrix and where(place)


def no_imatrix(where: Where) -> Where:
    return lambda place: not place.imatrix and where(place)


LOW_BIT = frozenset({Type.IQ1_S, Type.IQ1_M, Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS})


@dataclass(frozen=True)
class Mix:
    """A named plan of types; ``file_type`` is what ``general.file_type`` says. None leaves them as they are.

    ``output`` is the type of the output matrix (and of tied embeddings). ``lowest`` mixes, of one and two bits, count
    layers by their tensors, and take no bits more for large models or eight experts. ``imatrix_for`` are the types that
    are not written without an importance matrix.
    """

    file_type: int | None
    default: Type | None
    exceptions: tuple[tuple[Kind, Where, Type], ...] = ()
    output: Type = Type.Q6_K
    lowest: bool = False
    imatrix_for: frozenset[Type] = LOW_BIT

    def exception(self, kind: Kind, place: Place) -> Type | None:
        """The type for a tensor of this kind at this place, if it is not the default."""
        for exception_kind, where, type_ in self.exceptions:
            if exception_kind is kind and where(place):
                return type_
        return None


def lowest(file_type: LlamaFileType, default: Type, rest: Type, embedding: Type, attn_output: Type) -> Mix:
    """A mix of one or two bits: ``rest`` is for values and the first layers' ffn_down."""
    exceptions = (
        (Kind.TOKEN_EMBD, everywhere, embedding),
        (Kind.ATTN_V, shared_heads_or_experts, Type.Q4_K),
        (Kind.ATTN_V, everywhere, rest),
        (Kind.ATTN_K, of_eight_experts(everywhere), Type.Q4_K),
        (Kind.FFN_DOWN, first_part(8), rest),
        (Kind.ATTN_OUTPUT, of_eight_experts(everywhere), Type.Q5_K),
        (Kind.ATTN_OUTPUT, everywhere, attn_output),
    )
    return Mix(file_type, default, exceptions, output=Type.Q5_K, lowest=True)


F = LlamaFileType
MIXES: dict[str, Mix] = {
    "F32": Mix(F.ALL_F32, Type.F32),
    "F16": Mix(F.MOSTLY_F16, Type.F16),
    "BF16": Mix(F.MOSTLY_BF16, Type.BF16),
    "Q8_0": Mix(F.MOSTLY_Q8_0, Type.Q8_0),
    "Q5_0": Mix(F.MOSTLY_Q5_0, Type.Q5_0, ((Kind.FFN_DOWN, imatrix(first_part(8)), Type.Q5_1),)),
    "Q5_1": Mix(F.MOSTLY_Q5_1, Type.Q5_1),
    "Q4_0": Mix(F.MOSTLY_Q4_0, Type.Q4_0, ((Kind.FFN_DOWN, imatrix(first_part(8)), Type.Q4_1),)),
    "Q4_1": Mix(F.MOSTLY_Q4_1, Type.Q4_1),
    "IQ4_NL": Mix(
        F.MOSTLY_IQ4_NL,
        Type.IQ4_NL,
        (
            (Kind.ATTN_V, shared_heads, Type.Q5_K),
            (Kind.FFN_DOWN, no_imatrix(first_part(8)), Type.Q5_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "MXFP4_MOE": Mix(
        F.MOSTLY_MXFP4_MOE, Type.MXFP4, tuple((kind, not_stacked, Type.Q8_0) for kind in Kind), output=Type.Q8_0
    ),
    "TQ2_0": Mix(F.MOSTLY_TQ2_0, Type.TQ2_0, ((Kind.TOKEN_EMBD, everywhere, Type.Q4_K),)),
    "TQ1_0": Mix(F.MOSTLY_TQ1_0, Type.TQ1_0, ((Kind.TOKEN_EMBD, everywhere, Type.Q4_K),)),
    "Q1_0": Mix(F.MOSTLY_Q1_0, Type.Q1_0),
    "Q2_0": Mix(MOSTLY_Q2_0, Q2_0, ((Kind.TOKEN_EMBD, everywhere, Type.Q4_K),)),
    "Q6_K": Mix(F.MOSTLY_Q6_K, Type.Q6_K),
    "Q5_K_S": Mix(F.MOSTLY_Q5_K_S, Type.Q5_K),
    "Q5_K_M": Mix(
        F.MOSTLY_Q5_K_M,
        Type.Q5_K,
        (
            (Kind.ATTN_V, more_bits, Type.Q6_K),
            (Kind.FFN_DOWN, more_bits, Type.Q6_K),
        ),
    ),
    "Q4_K_S": Mix(
        F.MOSTLY_Q4_K_S,
        Type.Q4_K,
        (
            (Kind.ATTN_V, first(4), Type.Q5_K),
            (Kind.FFN_DOWN, not_falcon(first_part(8)), Type.Q5_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "Q4_K_M": Mix(
        F.MOSTLY_Q4_K_M,
        Type.Q4_K,
        (
            (Kind.ATTN_V, more_bits, Type.Q6_K),
            (Kind.FFN_DOWN, falcon(first_part(16)), Type.Q6_K),
            (Kind.FFN_DOWN, falcon(more_bits), Type.Q5_K),
            (Kind.FFN_DOWN, not_falcon(more_bits), Type.Q6_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "Q3_K_S": Mix(F.MOSTLY_Q3_K_S, Type.Q3_K, ((Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),)),
    "Q3_K_M": Mix(
        F.MOSTLY_Q3_K_M,
        Type.Q3_K,
        (
            (Kind.ATTN_V, first(2), Type.Q5_K),
            (Kind.ATTN_V, everywhere, Type.Q4_K),
            (Kind.FFN_DOWN, first_part(16), Type.Q5_K),
            (Kind.FFN_DOWN, falcon(more_bits), Type.Q4_K),
            (Kind.FFN_DOWN, not_falcon(everywhere), Type.Q4_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
            (Kind.ATTN_OUTPUT, other_experts, Type.Q4_K),
        ),
    ),
    "Q3_K_L": Mix(
        F.MOSTLY_Q3_K_L,
        Type.Q3_K,
        (
            (Kind.ATTN_V, everywhere, Type.Q5_K),
            (Kind.FFN_DOWN, falcon(everywhere), Type.Q4_K),
            (Kind.FFN_DOWN, everywhere, Type.Q5_K),
            (Kind.ATTN_OUTPUT, falcon(everywhere), Type.Q4_K),
            (Kind.ATTN_OUTPUT, other_experts, Type.Q5_K),
        ),
    ),
    "Q2_K": Mix(
        F.MOSTLY_Q2_K,
        Type.Q2_K,
        (
            (Kind.ATTN_V, shared_heads, Type.Q4_K),
            (Kind.ATTN_V, everywhere, Type.Q3_K),
            (Kind.FFN_DOWN, everywhere, Type.Q3_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
            (Kind.ATTN_OUTPUT, other_experts, Type.Q3_K),
        ),
    ),
    "Q2_K_S": Mix(
        F.MOSTLY_Q2_K_S,
        Type.Q2_K,
        (
            (Kind.ATTN_V, shared_heads, Type.Q4_K),
            (Kind.FFN_DOWN, first_part(8), Type.Q4_K),
        ),
        imatrix_for=LOW_BIT | {Type.Q2_K},
    ),
    "IQ4_XS": Mix(
        F.MOSTLY_IQ4_XS,
        Type.IQ4_XS,
        (
            (Kind.ATTN_V, shared_heads, Type.Q5_K),
            (Kind.FFN_DOWN, no_imatrix(first_part(8)), Type.Q5_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "IQ3_M": Mix(
        F.MOSTLY_IQ3_M,
        Type.IQ3_S,
        (
            (Kind.ATTN_V, everywhere, Type.Q4_K),
            (Kind.FFN_DOWN, first_part(8), Type.Q4_K),
            (Kind.FFN_DOWN, of_eight_experts(more_bits), Type.Q4_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
            (Kind.ATTN_OUTPUT, other_experts, Type.Q4_K),
        ),
    ),
    "IQ3_S": Mix(
        F.MOSTLY_IQ3_S,
        Type.IQ3_S,
        (
            (Kind.ATTN_V, shared_heads, Type.Q4_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "IQ3_XS": Mix(
        F.MOSTLY_IQ3_XS,
        Type.IQ3_S,
        (
            (Kind.ATTN_V, shared_heads, Type.Q4_K),
            (Kind.ATTN_Q, everywhere, Type.IQ3_XXS),
            (Kind.ATTN_K, everywhere, Type.IQ3_XXS),
            (Kind.FFN_GATE, middle, Type.IQ3_XXS),
            (Kind.FFN_UP, middle, Type.IQ3_XXS),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
        ),
    ),
    "IQ3_XXS": Mix(
        F.MOSTLY_IQ3_XXS,
        Type.IQ3_XXS,
        (
            (Kind.TOKEN_EMBD, everywhere, Type.IQ3_S),
            (Kind.ATTN_V, shared_heads, Type.Q4_K),
            (Kind.ATTN_V, no_imatrix(everywhere), Type.IQ3_S),
            (Kind.ATTN_Q, everywhere, Type.IQ2_S),
            (Kind.ATTN_K, everywhere, Type.IQ2_S),
            (Kind.FFN_DOWN, no_imatrix(first_part(8)), Type.Q4_K),
            (Kind.FFN_DOWN, no_imatrix(everywhere), Type.Q3_K),
            (Kind.ATTN_OUTPUT, eight_experts, Type.Q5_K),
            (Kind.ATTN_OUTPUT, other_experts, Type.IQ3_S),
        ),
        output=Type.Q5_K,
    ),
    "IQ2_M": lowest(F.MOSTLY_IQ2_M, Type.IQ2_S, Type.IQ3_S, Type.IQ3_S, Type.IQ3_S),
    "IQ2_S": lowest(F.MOSTLY_IQ2_S, Type.IQ2_XS, Type.IQ3_S, Type.IQ3_S, Type.IQ3_S),
    "IQ2_XS": lowest(F.MOSTLY_IQ2_XS, Type.IQ2_XS, Type.Q2_K, Type.Q2_K, Type.IQ2_XS),
    "IQ2_XXS": lowest(F.MOSTLY_IQ2_XXS, Type.IQ2_XXS, Type.Q2_K, Type.Q2_K, Type.IQ2_XXS),
    "IQ1_M": lowest(F.MOSTLY_IQ1_M, Type.IQ1_M, Type.Q2_K, Type.Q2_K, Type.IQ2_XXS),
    "IQ1_S": lowest(F.MOSTLY_IQ1_S, Type.IQ1_S, Type.Q2_K, Type.Q2_K, Type.IQ2_XXS),
    "COPY": Mix(None, None),
}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

FALLBACKS = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ1_S: Type.IQ4_NL,
    Type.IQ1_M: Type.IQ4_NL,
    Type.IQ2_XXS: Type.IQ4_NL,
    Type.IQ2_XS: Type.IQ4_NL,
    Type.IQ2_S: Type.IQ4_NL,
    Type.IQ3_XXS: Type.IQ4_NL,
    Type.IQ3_S: Type.IQ4_NL,
    Type.IQ4_XS: Type.IQ4_NL,
    Type.TQ1_0: Type.Q4_0,
    Q2_0: Type.Q4_0,
    Type.TQ2_0: Type.Q4_0,
}
"""What a row gets whose width the type's block does not divide; where that does not fit either, F16."""


def find_mix(name: str) -> tuple[str, Mix]:
    """The canonical name and the mix; case does not matter.

    Raises:
        UsageError: there is no such mix.
    """
    canonical = ALIASES.get(name.upper(), name.upper())
    if canonical in MIXES:
        return canonical, MIXES[canonical]
    close = difflib.get_close_matches(canonical, MIXES, n=1, cutoff=0.5)
    raise UsageError(
        f"unknown quantization {name!r}" + (f": did you mean {close[0]}?" if close else ""),
        next_step=f"choose one of {', '.join(MIXES)}",
    )
