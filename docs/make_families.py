"""Writes docs/families.md: what can be converted, and what shows that it is right.

    python docs/make_families.py > docs/families.md

Read from the families themselves and from the goldens of the tests.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
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
SOURCES_HEAD = """
## Sources
A family sees lazy tensors under Hugging Face's names, and a config: where they come from is nothing to it. So every
family above takes every source below, but for MLX's where it has changed weights (convolutions, norms). The proof of
each source is what tests show, in their words.

| source | shown by |
|---|---|
"""
SOURCES: dict[str, tuple[str, ...]] = {
    "safetensors: one file, shards with an index or without": (
        "test_families: metadata_and_tensors_are_the_converters",
        "test_checkpoint: shards_hold_the_same_tensors_as_one_file,"
        " shards_without_an_index_are_read_if_none_is_missing",
    ),
    "`pytorch_model*.bin`": (
        "test_pickled: what_pytorch_saved_is_read, a_pickled_model_converts_like_its_safetensors,"
        " a_pickle_that_would_run_a_command_runs_nothing",
    ),
    "Mistral's `consolidated*.safetensors`": ("test_mistral_format: metadata_and_tensors_are_the_converters",),
    "MLX": (
        "test_mlx_names: stacked_experts_are_the_same_model, weights_that_mlx_changed_are_refused",
        "test_quantized: affine_groups_of_mlx",
    ),
    "GGUF, in parts too": (
        "test_gguf: reading_gives_back_what_was_written_in_its_order",
        "test_splits: any_part_stands_for_the_whole",
        "integration/test_quantize: quantizing_again_reads_blocks_as_llama_quantize_does",
    ),
    "`hf://org/name@revision`": (
        "test_hub: a_repository_is_opened_under_its_name, pickled_weights_are_fetched_only_where_there_are_no_others",
    ),
    "PEFT adapters ({adapters})": (
        "test_lora: a_merge_equals_pefts, adapters_are_added_up_by_their_weights,"
        " a_pickled_adapter_is_read_without_running_it",
        "integration/test_publish: an_adapter_is_published_as_the_model_it_makes_of_its_base",
    ),
    "adapters of mlx-lm": ("test_lora: adapters_of_mlx_are_merged_by_its_rules",),
    "adapters on a quantized base": ("test_lora: an_adapter_is_merged_into_what_a_quantized_base_stands_for",),
    "adapters on the wrong base, refused": (
        "test_lora: another_revision_of_the_base_than_the_adapters_is_refused,"
        " a_base_of_another_shape_than_the_trainers_config_is_refused, what_cannot_be_merged_is_refused",
    ),
    "an adapter as a GGUF of its own": (
        "test_lora: an_adapter_alone_is_what_the_reference_converter_writes, an_adapter_alone_adds_what_a_merge_adds",
    ),
    "blocks kept as they are (`--outtype keep`: {kept})": (
        "test_kept: four_bit_floats_are_kept_as_the_converter_keeps_them, weights_are_kept_where_no_number_changes",
        "integration/test_families: llama_cpp_runs_what_is_kept_as_the_floats_that_it_was",
    ),
}
"""By source: the tests, of each file, that show it is read rightly."""
QUANTIZED = """
## Quantized checkpoints
What is not in this table is refused by its name (hqq, aqlm, exl2, …). What is kept without loss is in
[quantized-checkpoints.md](quantized-checkpoints.md).

| `quant_method` | goldens of the converter | value by value, against the scheme's formula or library |
|---|---|---|
"""
FORMULAS = {
    "awq": "test_quantized: awq_for_matrices, awq_for_vectors",
    "bitsandbytes": "test_quantized: four_bits_of_bitsandbytes, eight_bits_of_bitsandbytes",
    "compressed-tensors": "test_quantized: four_bit_floats",
    "fp8": "test_quantized: eight_bit_floats_are_those_of_the_standard, blocks_of_stacked_experts",
    "gptq": "test_quantized: three_bits_of_gptq_cross_words",
    "mlx": "test_quantized: affine_groups_of_mlx, a_layer_of_mlx_may_have_bits_of_its_own",
    "modelopt": "test_quantized: four_bit_floats",
    "torchao": "test_quantized: integers_of_torchao",
    "mxfp4": "test_experts: mxfp4_weights_keep_their_values",
}


def shown(proof: str) -> str:
    """``file: test, test`` in words.

    Raises:
        LookupError: there is no such test.
    """
    file, _, names = proof.partition(": ")
    path = f"{file}.py" if "/" in file else f"tests/{file}.py"
    source = ast.parse((DATA.parent.parent / path).read_text())
    tests = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
    words = []
    for name in re.split(r",\s*", names):
        if f"test_{name}" not in tests:
            raise LookupError(f"{path} has no test_{name}")
        words.append(name.replace("_", " "))
    return f"{', '.join(words)} (`{path}`)"


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
    proved: dict[str, list[str]] = {}
    for name, golden in goldens("families*.json.gz").items():
        family = family_of(json.loads(golden["files"]["config.json"]), name)
        proved.setdefault(family.classes[0], []).append(name)
    for name, golden in goldens("mistral.json.gz").items():
        if "params.json" in golden["files"]:
            params = as_hugging_face(json.loads(golden["files"]["params.json"]), Path(name))
            proved.setdefault(params["architectures"][0], []).append(name)
    measured = json.loads((Path(__file__).parent / "families.json").read_text())
    lines = []
    for family in FAMILIES:
        names = proved.get(family.classes[0], ["none"])
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
    for files in ("families*.json.gz", "kept.json.gz"):
        configs |= {name: golden["files"]["config.json"] for name, golden in goldens(files).items()}
    for name, config in configs.items():
        if method := json.loads(config).get("quantization_config", {}).get("quant_method"):
            read.setdefault(method, []).append(name)
    facts = {
        "adapters": ", ".join(goldens("lora.json.gz")["cases"]).replace("_", " "),
        "kept": ", ".join(goldens("kept.json.gz")),
    }
    sources = [f"| {name.format_map(facts)} | {'; '.join(map(shown, tests))} |" for name, tests in SOURCES.items()]
    schemes = [
        f"| {name} | {', '.join(read.get(name, ['none, it cannot read them']))}"
        f" | {shown(FORMULAS[name]) if name in FORMULAS else ''} |"
        for name in SCHEMES
    ]
    parts = (HEAD, "\n".join(sorted(lines)), "\n", SOURCES_HEAD, "\n".join(sources), "\n", QUANTIZED)
    return "".join(parts) + "\n".join(schemes) + "\n"


if __name__ == "__main__":
    print(page(), end="")
