"""A report as one HTML file: no scripts, nothing from elsewhere, every text escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import gguf
import jinja2

from ollamaq.modelfile.printable import printed
from ollamaq.report.outcome import VERDICTS, Outcome

HUES = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
"""Of types, most bytes first; the last one is for all others."""


def render(tested: Sequence[Outcome]) -> str:
    """The page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["printed"] = lambda value: printed(str(value))
    environment.filters["size"] = _size
    page = environment.from_string((files(__package__) / "report.html.jinja").read_text(encoding="utf-8"))
    return page.render(models=[_drawn(one) for one in tested], verdicts=VERDICTS)


def _drawn(one: Outcome) -> dict[str, Any]:
    tensors: Sequence[Mapping[str, Any]] = one.release.get("tensors", ())
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor["type"]] += _bytes(tensor)
    colours = {type_: HUES[min(i, len(HUES) - 1)] for i, (type_, _) in enumerate(sizes.most_common())}
    return {
        "outcome": one,
        "sizes": sizes.most_common(),
        "total": sum(sizes.values()),
        "colours": colours,
        "layers": _layers(tensors),
    }


def _bytes(tensor: Mapping[str, Any]) -> int:
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor["type"]]]
    count = 1
    for length in tensor["shape"]:
        count *= length
    return count // block * size


def _layers(tensors: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """The type in each layer, by what a tensor is: only those that some layer has in blocks."""
    kinds: dict[str, dict[int, str]] = {}
    for tensor in tensors:
        blk, _, rest = tensor["name"].partition(".")
        layer, _, kind = rest.partition(".")
        if blk == "blk" and layer.isdecimal():
            kinds.setdefault(kind, {})[int(layer)] = tensor["type"]
    return {kind: types for kind, types in sorted(kinds.items()) if set(types.values()) != {"F32"}}


def _size(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
