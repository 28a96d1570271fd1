"""Every PARAMETER that Ollama takes, or once took: its type, what makes sense for it, and in which versions it works.

Names, types and defaults are those of ``Options`` in Ollama's ``api``; versions are those of its history.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollamaq.modelfile.versions import Version

Number = int | float
Value = str | int | float | bool

_DIGITS, _HEX = r"[0-9](?:_?[0-9])*", r"[0-9a-f](?:_?[0-9a-f])*"
_DECIMAL = re.compile(rf"[+-]?({_DIGITS}\.?({_DIGITS})?|\.{_DIGITS})(e[+-]?{_DIGITS})?", re.ASCII | re.IGNORECASE)
_HEXADECIMAL = re.compile(rf"[+-]?0x(_?{_HEX}\.?({_HEX})?|\.{_HEX})p[+-]?{_DIGITS}", re.ASCII | re.IGNORECASE)
_NO_NUMBER = re.compile(r"[+-]?inf(inity)?|nan", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_TRUTH = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_TRUTH |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)
_LARGEST = 2.0**128 - 2.0**103
"""Halfway between the largest 32-bit float and what would come after it."""


@dataclass(frozen=True)
class Option:
    """A parameter. ``does`` goes on after its name; ``{}`` is its value. ``low`` and ``high`` are still sensible.

    ``since``: the first version that takes it; ``dropped``: the first that warns and ignores it; ``refused``: the first
    that refuses the Modelfile.
    """

    type: type
    does: str
    default: str = ""
    low: Number | None = None
    high: Number | None = None
    since: Version = (0,)
    dropped: Version | None = None
    refused: Version | None = None


def _gone(type_: type, does: str, dropped: Version | None = None, refused: Version | None = None) -> Option:
    return Option(type_, does, dropped=dropped, refused=refused)


OPTIONS: dict[str, Option] = {
    "draft_num_predict": Option(int, "lets the draft model guess {} tokens ahead", "4", 0, 64, since=(0, 30, 0)),
    "frequency_penalty": Option(float, "makes a token less likely, by {}, each time it was used", "0", -2, 2),
    "main_gpu": Option(int, "puts what is not split on GPU {}", low=0),
    "min_p": Option(float, "drops tokens less than {} times as likely as the best", "0", 0, 1, since=(0, 3, 1)),
    "num_batch": Option(int, "reads the prompt {} tokens at a time", "512", 1, 65536),
    "num_ctx": Option(int, "gives prompt and answer together {} tokens", "by the GPU's memory", 4, 1 << 24),
    "num_gpu": Option(int, "puts {} layers on the GPU (-1: as many as fit)", "-1", -1, 1024),
    "num_keep": Option(int, "keeps the first {} tokens when the context overflows", "4", -1),
    "num_predict": Option(int, "ends an answer after {} tokens (-1: never, -2: when the context is full)", "-1", -2),
    "num_thread": Option(int, "computes with {} threads (0: as many as there are cores)", "0", 0, 1024),
    "presence_penalty": Option(float, "makes a token less likely, by {}, once it was used", "0", -2, 2),
    "repeat_last_n": Option(int, "looks {} tokens back for repetitions (0: not at all, -1: num_ctx)", "64", -1),
    "repeat_penalty": Option(float, "divides by {} what a repeated token has (1: nothing happens)", "1.0", 0.5, 2),
    "seed": Option(int, "draws random numbers from seed {} (-1: another one each time)", "-1", -1),
    "stop": Option(list, "ends an answer before {}"),
    "temperature": Option(float, "samples at temperature {} (0: always the likeliest token)", "0.8", 0, 2),
    "top_k": Option(int, "chooses among the {} likeliest tokens (0: all)", "40", 0, 1 << 20),
    "top_p": Option(float, "chooses among the likeliest tokens that together have probability {}", "0.9", 0, 1),
    "use_mmap": Option(bool, "maps the file into memory instead of reading it: {}"),
    "f16_kv": _gone(bool, "kept the cache in 16 bits", (0, 7, 0)),
    "logits_all": _gone(bool, "computed every token's logits", (0, 7, 0)),
    "low_vram": _gone(bool, "kept the scratch buffers off the GPU", (0, 7, 0)),
    "mirostat": _gone(int, "chose a sampler", (0, 7, 0)),
    "mirostat_eta": _gone(float, "tuned that sampler", (0, 7, 0)),
    "mirostat_tau": _gone(float, "tuned that sampler", (0, 7, 0)),
    "penalize_newline": _gone(bool, "counted newlines as repetitions", (0, 5, 5)),
    "use_mlock": _gone(bool, "kept the model from being swapped out", (0, 7, 0)),
    "vocab_only": _gone(bool, "loaded no weights", (0, 7, 0)),
    "num_gqa": _gone(int, "told the number of attention groups", refused=(0, 1, 35)),
    "numa": _gone(bool, "used NUMA", refused=(0, 3, 4)),
    "rope_frequency_base": _gone(float, "changed positions", refused=(0, 1, 35)),
    "rope_frequency_scale": _gone(float, "changed positions", refused=(0, 1, 35)),
    "tfs_z": _gone(float, "cut the tail of unlikely tokens", refused=(0, 5, 2)),
    "typical_p": _gone(float, "kept typical tokens", refused=(0, 34, 1)),
}

CURRENT = {name: option for name, option in OPTIONS.items() if not option.dropped and not option.refused}
"""What the newest version takes."""


def read_parameter(type_: type, text: str) -> Value | None:
    """A value as Ollama's ``FormatParams`` understands it; None where it refuses the text."""
    if type_ is int:
        number = int(text) if _INTEGER.fullmatch(text) and len(text) < 40 else None
        return number if number is not None and -(1 << 63) <= number < 1 << 63 else None
    if type_ is float:
        return _float(text)
    if type_ is bool:
        return _TRUTH.get(text)
    return text


def _float(text: str) -> float | None:
    if _NO_NUMBER.fullmatch(text):
        return float(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
    elif _HEXADECIMAL.fullmatch(text):
        try:
            number = float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    else:
        return None
    return number if abs(number) < _LARGEST else None
