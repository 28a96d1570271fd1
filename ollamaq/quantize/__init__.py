"""Quantization: the types and their kernels, the mixes, the plan, and the pipeline that streams it to a file."""

from ollamaq.quantize.imatrix import Imatrix, read_imatrix
from ollamaq.quantize.mixes import MIXES, find_mix
from ollamaq.quantize.overrides import Overrides
from ollamaq.quantize.pipeline import default_threads, write_plan
from ollamaq.quantize.plan import Plan, PlannedTensor, make_plan

__all__ = [
    "MIXES",
    "Imatrix",
    "Overrides",
    "Plan",
    "PlannedTensor",
    "default_threads",
    "find_mix",
    "make_plan",
    "read_imatrix",
    "write_plan",
]
