"""Writes docs/tokenizers.md: how token ids compare.

    python docs/make_tokenizers.py > docs/tokenizers.md

Read from docs/tokenizers.json, which integration/vocabularies.py measures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD = """# Token ids
Made by `docs/make_tokenizers.py` of what `integration/vocabularies.py` measured; `integration/test_tokenizers.py`
measures it again. The vocabularies are those of real models that llama.cpp b11434 carries. From each one's tokens,
merges, scores and types a Hugging Face directory is made, which ollamaq converts; llama.cpp then tokenizes with
ollamaq's GGUF what the library tokenizers 0.23 tokenizes with the directory's tokenizer.json.

The texts: up to a thousand characters in each of the hundred languages of Django's translations, code in Python,
JavaScript, HTML and CSS, the lines of `ollamaq/tokenizers/corpus.json` (numbers, white space, signs, emoji), pieces of
all that shuffled, and llama.cpp's own tests of the vocabulary.

*Differ* counts texts whose ids are not the same; *as it was*, those whose ids by llama.cpp are others with the original
GGUF; *recorded*, those of llama.cpp's own tests whose ids, recorded when the vocabulary was made, the library does not
give. Two rows of a vocabulary are two ways to write its pre-tokenizer in a tokenizer.json.

| vocabulary | its pre-tokenizer | recognised | texts | ids | differ | as it was | recorded |
|---|---|---|---|---|---|---|---|
"""
NOTES = """
- `mpt` is `gpt-2` to llama.cpp, and `refact` is `starcoder`: the ids are the same.
- The GGUFs of `aquila` and `gpt-neox` are from before a GGUF named its pre-tokenizer; their models have GPT-2's.
- `starcoder`, other: GPT-2's expressions alone, which the converter takes for `starcoder` where the vocabulary is its
  own. Fractions such as ½ differ, for llama.cpp cuts them off as digits.
- `bert-bge`: llama.cpp drops vowel signs of Indic scripts and vowels of Hangul, where BERT's normalizer drops accents
  only. The vocabulary has hardly a word in these scripts; nothing in a GGUF could mend it.
- `nomic-bert-moe`: some texts in Indic scripts write a vowel in two parts, which the library does not compose, and
  llama.cpp does.

# Pre-tokenizers
Every pre-tokenizer that is recognised by its expressions, over the vocabulary of `llama-bpe`: its expressions in a
tokenizer.json against its name in a GGUF. What is compared is where each of them cuts.

| pre-tokenizer | texts | ids | differ |
|---|---|---|---|
"""

END = """
`gpt-4o`, `tekken` and `tiny_aya` differ where a combining mark follows a letter (vowel signs of Indic scripts, Arabic
diacritics): their tokenizer.json takes marks for letters, and llama.cpp's expressions of these names do not. Texts in
other scripts are the same.
"""


def page() -> str:
    measured: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "tokenizers.json").read_text())
    rows, cuts = [], []
    for result in measured["vocabularies"]:
        own = result["recorded"]
        cells = [
            result["vocabulary"] + (f" ({result['expressions']} expressions)" if result["expressions"] else ""),
            result["said"] if result["kind"] == "gpt2" else f"none: {result['kind']}",
            result["recognised"] if result["kind"] == "gpt2" else "",
            *(result[key] for key in ("texts", "ids", "differ")),
            "" if result["as_before"] is None else result["as_before"],
            f"{own['differ']} of {own['texts']}" if own else "",
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |\n")
    for one in measured["pre"]:
        cuts.append(f"| {one['pre']} | {one['texts']} | {one['ids']} | {one['differ']} |\n")
    return HEAD + "".join(rows) + NOTES + "".join(cuts) + END


if __name__ == "__main__":
    print(page(), end="")
