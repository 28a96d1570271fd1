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
from ollamaq.checkpoint.consolidated import as_hugging_face
from ollamaq.checkpoint.quantized import SCHEMES

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
HEAD = """# What can be converted
Made by `docs/make_families.py`. A golden is a tiny model of random weights that llama.cpp's converter (b11434)
converted; `tests/test_families.py` compares ours with it: every metadata key and their order, the order of tensors,
their types and the SHA-256 of each. `tests/test_tokenizers.py` does the same with vocabularies, and
`tests/test_mistral_format.py` with Mistral's own format, which names no class.

`integration/test_families.py` has llama.cpp run every golden's model, with a small tokenizer in the place of its own.
What it refuses is told there with the reason: a tiny model's settings that no published one has. The last column is
measured by `docs/measure_families.py`: of random prompts, those for which the likeliest next token is the same in
llama.cpp with our GGUF (F32) and in transformers 4.57.6 with the checkpoint, up to near ties (0.01 % in probability);
empty where that transformers does not run the model. Gemma 2 and 3 were given a `query_pre_attn_scalar` equal to the
width of a head, as llama.cpp takes it to be. PhiMoE differs because llama.cpp normalizes
by root mean square where the model has LayerNorm; made to do the same, transformers agrees on all prompts.

| GGUF architecture | classes in config.json | tokenizers | goldens | in llama.cpp | as in transformers |
|---|---|---|---|---|---|
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


def summed(measured: dict[str, dict], names: list[str]) -> tuple[str, str]:
    """What became of models in llama.cpp, and of how many prompts the next token was transformers'."""
    names = [name for name in names if name in measured]
    ends = [measured[name]["llama.cpp"] for name in names]
    states = ", ".join(f"{ends.count(end)} {end}" if len(set(ends)) > 1 else end for end in dict.fromkeys(ends))
    counts = [measured[name] for name in names if "top1" in measured[name]]
    top1 = f"{sum(one['top1'] for one in counts)} of {sum(one['of'] for one in counts)}" if counts else ""
    return states, top1


def page() -> str:
    shown: dict[str, list[str]] = {}
    for name, golden in goldens("families*.json.gz").items():
        family = family_of(json.loads(golden["files"]["config.json"]), name)
        shown.setdefault(family.classes[0], []).append(name)
    for name, golden in goldens("mistral.json.gz").items():
        if "params.json" in golden["files"]:
            params = as_hugging_face(json.loads(golden["files"]["params.json"]), Path(name))
            shown.setdefault(params["architectures"][0], []).append(name)
    measured = json.loads((Path(__file__).parent / "families.json").read_text())
    lines = []
    for family in FAMILIES:
        names = shown.get(family.classes[0], ["none"])
        cells = [
            gguf.MODEL_ARCH_NAMES[family.arch],
            ", ".join(family.classes),
            ", ".join(family.tokenizer.kinds),
            ", ".join(names),
            *summed(measured, names),
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
