"""Writes docs/families.md: what can be converted, and what shows that it is right.

    python docs/make_families.py > docs/families.md

Read from the families themselves and from the goldens of the tests.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import gguf

from ollamaq.architectures import FAMILIES, family_of
from ollamaq.checkpoint.quantized import SCHEMES

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
HEAD = """# What can be converted
Made by `docs/make_families.py`. A golden is a tiny model of random weights that llama.cpp's converter (b11434)
converted; `tests/test_families.py` compares ours with it: every metadata key and their order, the order of tensors,
their types and the SHA-256 of each. `tests/test_tokenizers.py` does the same with vocabularies.

| GGUF architecture | classes in config.json | tokenizers | goldens |
|---|---|---|---|
"""
QUANTIZED = """
## Quantized checkpoints
| `quant_method` | goldens of the converter |
|---|---|
"""
WITHOUT = "none: the converter cannot read it; compared with its formula, value by value"


def goldens(pattern: str) -> dict[str, dict]:
    """The goldens of files in ``tests/data``, by name."""
    files = sorted(DATA.glob(pattern))
    return {name: golden for file in files for name, golden in json.loads(gzip.decompress(file.read_bytes())).items()}


def page() -> str:
    shown: dict[str, list[str]] = {}
    for name, golden in goldens("families*.json.gz").items():
        family = family_of(json.loads(golden["files"]["config.json"]), name)
        shown.setdefault(family.classes[0], []).append(name)
    lines = []
    for family in FAMILIES:
        names = ", ".join(shown.get(family.classes[0], ["none"]))
        cells = [
            gguf.MODEL_ARCH_NAMES[family.arch],
            ", ".join(family.classes),
            ", ".join(family.tokenizer.kinds),
            names,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    read: dict[str, list[str]] = {}
    configs = {name: golden["config"] for name, golden in goldens("quantized.json.gz").items()}
    configs |= {name: golden["files"]["config.json"] for name, golden in goldens("families*.json.gz").items()}
    for name, config in configs.items():
        if method := json.loads(config).get("quantization_config", {}).get("quant_method"):
            read.setdefault(method, []).append(name)
    schemes = [f"| {name} | {', '.join(read.get(name, [WITHOUT]))} |" for name in SCHEMES]
    return HEAD + "\n".join(sorted(lines)) + "\n" + QUANTIZED + "\n".join(schemes) + "\n"


if __name__ == "__main__":
    print(page(), end="")
