"""What a user asks for beyond a mix, as the options of ``llama-quantize`` have it.

Meanings and precedence are those of llama.cpp's ``tools/quantize/quantize.cpp`` and ``src/llama-quant.cpp``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType

from ollamaq.errors import UsageError
from ollamaq.gguf.model import Metadata, Value
from ollamaq.gguf.values import check_key, parse_value
from ollamaq.quantize.dequantize import UNPACKED
from ollamaq.tensors import Tensor

MAX_FILE = 1 << 20
KINDS = {
    "int": GGUFValueType.UINT32,
    "float": GGUFValueType.FLOAT32,
    "bool": GGUFValueType.BOOL,
    "str": GGUFValueType.STRING,
}
"""What ``--override-kv`` calls a type, and which one is written."""
LAYER = re.compile(r"blk\.(\d+)\.")

TensorTypes = tuple[tuple[re.Pattern[str], Type], ...]


@dataclass(frozen=True)
class Overrides:
    """Exceptions from a mix.

    ``pure`` leaves out all its rules: every tensor gets its default type. ``tensors`` are types by a pattern that is
    found in a tensor's name, the first that is found; ``output`` and ``token_embedding`` go before them. ``metadata``
    replaces what the model says, for the rules too. ``prune`` are layers to leave out. ``in_source_order`` keeps the
    tensors where they are, as parts of a split model need it.
    """

    pure: bool = False
    leave_output: bool = False
    output: Type | None = None
    token_embedding: Type | None = None
    tensors: TensorTypes = ()
    allow_requantize: bool = False
    metadata: Metadata = field(default_factory=dict)
    prune: frozenset[int] = frozenset()
    in_source_order: bool = False

    def type_of(self, name: str) -> Type | None:
        """The type that ``tensors`` have for a name."""
        return next((type_ for pattern, type_ in self.tensors if pattern.search(name)), None)

    def renaming(self, tensors: Iterable[Tensor]) -> Callable[[str], str | None]:
        """A tensor's name once layers are left out and the others have moved up; None for one that is left out.

        Raises:
            UsageError: there are no such layers, or they are all of them.
        """
        layers = sorted({int(match[1]) for tensor in tensors if (match := LAYER.search(tensor.name))})
        kept = [layer for layer in layers if layer not in self.prune]
        if unknown := sorted(self.prune - set(layers)):
            raise UsageError(f"layer {unknown[0]} cannot be pruned: the model has layers 0 to {max(layers, default=0)}")
        if self.prune and not kept:
            raise UsageError("all the layers would be pruned", next_step="keep some")
        numbers = {layer: i for i, layer in enumerate(kept)}

        def renamed(name: str) -> str | None:
            match = LAYER.search(name)
            if not self.prune or not match:
                return name
            if int(match[1]) not in numbers:
                return None
            return f"{name[: match.start(1)]}{numbers[int(match[1])]}{name[match.end(1) :]}"

        return renamed


def prune(tensors: Iterable[Tensor], renamed: Callable[[str], str | None]) -> list[Tensor]:
    """The tensors that are kept, under their new names."""
    return [replace(tensor, name=name) for tensor in tensors if (name := renamed(tensor.name)) is not None]


def parse_type(text: str) -> Type:
    """The type of a name, in any case.

    Raises:
        UsageError: there is no such type, or it cannot be written.
    """
    names = {type_.name: type_ for type_ in UNPACKED}
    if text.upper() in names:
        return names[text.upper()]
    close = difflib.get_close_matches(text.upper(), names, n=1)
    raise UsageError(
        f"unknown type {text!r}" + (f": did you mean {close[0]}?" if close else ""),
        next_step=f"use one of {', '.join(sorted(names))}",
    )


def parse_tensor_type(text: str) -> tuple[re.Pattern[str], Type]:
    """``attn_v=q8_0``: a regular expression (in lower case, as names are) and a type.

    Raises:
        UsageError: it is not of that form.
    """
    pattern, sign, name = text.partition("=")
    if not sign or not pattern:
        raise UsageError(f"{text!r} is not of the form REGEX=TYPE", next_step="say it as attn_v=q8_0")
    try:
        return re.compile(pattern.lower()), parse_type(name)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error


def read_tensor_types(path: Path) -> TensorTypes:
    """The ``REGEX=TYPE`` of a file, between white space.

    Raises:
        UsageError: it cannot be read, or says something else.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", next_step="check the path and its permissions") from error
    if len(text) > MAX_FILE:
        raise UsageError(f"{path} has more than {MAX_FILE} characters", next_step="is it the right file?")
    return tuple(parse_tensor_type(part) for part in text.split())


def parse_override(text: str) -> tuple[str, Value]:
    """``KEY=TYPE:VALUE``, where TYPE is int, float, bool or str.

    Raises:
        UsageError: it is not of that form.
    """
    key, sign, typed = text.partition("=")
    kind, colon, value = typed.partition(":")
    if not sign or not colon or kind not in KINDS:
        raise UsageError(
            f"{text!r} is not of the form KEY=TYPE:VALUE", next_step="TYPE is int, float, bool or str: a.key=int:7"
        )
    parsed = parse_value(value, KINDS[kind].name.lower())
    check_key(key, parsed)
    return key, parsed


def parse_layers(text: str | None) -> frozenset[int]:
    """``0,3,4``: numbers of layers; None stands for none.

    Raises:
        UsageError: it is not of that form.
    """
    if text is None:
        return frozenset()
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        raise UsageError(f"{text!r} are no layers", next_step="say them as 0,3,4")
    return frozenset(map(int, text.split(",")))
