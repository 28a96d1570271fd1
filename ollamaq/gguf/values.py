"""Metadata values from text: ``uint32`` and the other types of GGUF, ``string[]`` for an array of strings."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, NoReturn

from gguf import GGUFValueType as Kind

from ollamaq.errors import UsageError
from ollamaq.gguf.model import Value
from ollamaq.gguf.reader import ALIGNMENTS
from ollamaq.gguf.writer import SCALARS

NAMES = {kind.name.lower(): kind for kind in Kind if kind is not Kind.ARRAY}
FLOATS = frozenset({Kind.FLOAT32, Kind.FLOAT64})
MAX_KEY = 65535


def type_name(value: Value) -> str:
    """How a value's type is called: ``uint32``, ``string[]``."""
    return f"{value.element.name.lower()}[]" if value.element is not None else value.type.name.lower()


def parse_value(text: str, type_: str) -> Value:
    """The value of a named type that a text stands for: a string as it is, anything else in JSON.

    Raises:
        UsageError: there is no such type, or the text is no value of it.
    """
    scalar = type_.removesuffix("[]")
    if scalar not in NAMES:
        raise UsageError(f"unknown type {type_!r}", next_step=f"use one of {', '.join(NAMES)}, or an array: uint32[]")
    kind = NAMES[scalar]
    if type_ == "string":
        return Value(kind, _scalar(text, kind))
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(text, type_)
    if scalar == type_:
        return Value(kind, _scalar(parsed, kind))
    if not isinstance(parsed, list):
        _refuse(text, type_)
    return Value(Kind.ARRAY, [_scalar(item, kind) for item in parsed], kind)


def check_key(key: str, value: Value) -> None:
    """Raise UsageError for a key that a file cannot have, or not with this value."""
    if not _is_utf8(key) or not 0 < len(key.encode()) <= MAX_KEY:
        raise UsageError(f"{key[:60]!r} is no key", next_step=f"use 1 to {MAX_KEY} bytes of UTF-8")
    if key == "general.alignment" and (value.type is not Kind.UINT32 or value.value not in ALIGNMENTS):
        raise UsageError(f"tensors cannot be aligned to {value.value!r} bytes", next_step="use a uint32 such as 32")


def _scalar(item: Any, kind: Kind) -> Any:
    """An item as it will be read back."""
    if kind is Kind.STRING:
        if not isinstance(item, str) or not _is_utf8(item):
            _refuse(item, "string in UTF-8")
        return item
    python = bool if kind is Kind.BOOL else (int, float) if kind in FLOATS else int
    if not isinstance(item, python) or isinstance(item, bool) != (kind is Kind.BOOL):
        _refuse(item, kind.name.lower())
    try:
        (stored,) = struct.unpack(SCALARS[kind], struct.pack(SCALARS[kind], item))
    except (struct.error, OverflowError):
        _refuse(item, kind.name.lower())
    if kind in FLOATS and not math.isfinite(stored):
        _refuse(item, kind.name.lower())
    return stored


def _is_utf8(text: str) -> bool:
    """Whether it can be written: a command line may hold bytes that are not UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _refuse(item: Any, type_: str) -> NoReturn:
    text = str(item)
    raise UsageError(f"{text if len(text) <= 60 else text[:60] + '…'!r} is no {type_}") from None
