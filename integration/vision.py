"""Models with eyes: SmolLM2 with random ones of Pixtral's kind, and the tests' tiny models with projectors."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import families

from ollamaq.gguf.writer import write
from ollamaq.source import open_projector

goldens = families.of_tests("test_projectors")
BREAK, SPARE = "[IMG_BREAK]", "<gh_stars>"
TOWER = {
    "model_type": "pixtral",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "head_dim": 32,
    "image_size": 112,
    "patch_size": 14,
    "hidden_act": "silu",
}
PREPROCESSOR = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "size": {"longest_edge": 112}}


def write_seeing(model: Path, outdir: Path) -> None:
    """SmolLM2 as the language model of a Pixtral; a token of its own that is never used separates rows of pictures."""
    shutil.copytree(model, outdir, ignore=lambda _, names: [name for name in names if name.startswith("model.")])
    os.link(model / "model.safetensors", outdir / "model-00001-of-00002.safetensors")
    text = json.loads((model / "config.json").read_text())
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": text,
        "vision_config": TOWER,
    }
    (outdir / "config.json").write_text(json.dumps(config))
    (outdir / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (outdir / name).write_text((outdir / name).read_text().replace(SPARE, BREAK))
    width, inner, words = TOWER["hidden_size"], TOWER["intermediate_size"], text["hidden_size"]
    shapes = {
        "multi_modal_projector.linear_1.weight": (words, width),
        "multi_modal_projector.linear_1.bias": (words,),
        "multi_modal_projector.linear_2.weight": (words, words),
        "multi_modal_projector.linear_2.bias": (words,),
        "vision_tower.patch_conv.weight": (width, 3, TOWER["patch_size"], TOWER["patch_size"]),
        "vision_tower.ln_pre.weight": (width,),
    }
    for i in range(TOWER["num_hidden_layers"]):
        layer = f"vision_tower.transformer.layers.{i}."
        shapes |= {f"{layer}attention.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{layer}{part}_norm.weight": (width,) for part in ("attention", "ffn")}
        shapes |= {f"{layer}feed_forward.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes[f"{layer}feed_forward.down_proj.weight"] = (width, inner)
    tensors = {name: families.tiny.seeded_tensor(name, "BF16", shape) for name, shape in shapes.items()}
    families.tiny.save_safetensors(outdir / "model-00002-of-00002.safetensors", tensors)


def write_tiny(name: str, directory: Path) -> tuple[Path, Path]:
    """The GGUFs of a golden's language model and of its projector."""
    checkpoint = directory / name
    checkpoint.mkdir()
    golden = goldens.PROJECTORS[name]
    files = golden["files"] | {"tokenizer.json": json.dumps(families.tokenizer())}
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "chat_template": families.tiny.CHATML}
    files["tokenizer_config.json"] = json.dumps(config | json.loads(files.get("tokenizer_config.json", "{}")))
    for file, text in files.items():
        (checkpoint / file).write_text(text)
    tensors = {tensor: families.tiny.seeded_tensor(tensor, *spec) for tensor, spec in golden["tensors"].items()}
    families.tiny.save_safetensors(checkpoint / "model.safetensors", tensors)
    words, eyes = directory / "model.gguf", directory / "mmproj.gguf"
    families.write_gguf(checkpoint, words, "f16")
    write(eyes, open_projector(checkpoint, "f16").model)
    return words, eyes
