"""Quantization: the types and their kernels, the mixes, the plan, and the pipeline that streams it to a file."""

from ollamaq.quantize.mixes import MIXES, find_mix
from ollamaq.quantize.pipeline import default_threads, write_plan
from ollamaq.quantize.plan import Plan, PlannedTensor, make_plan

__all__ = ["MIXES", "Plan", "PlannedTensor", "default_threads", "find_mix", "make_plan", "write_plan"]
