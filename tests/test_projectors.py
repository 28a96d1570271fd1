"""What makes pictures into something that a language model reads is converted as llama.cpp's converter does it.

``data/projectors.json.gz`` holds what ``convert_hf_to_gguf.py --mmproj`` b11434 wrote (transformers 4.57.6; outtypes
f16, bf16, q8_0) for tiny models: metadata, order of tensors, types and hashes. Those named ``-defaults`` leave out what
a class in transformers has a default for, and have the language model's embedding where published models have it: there
the converter passes Pixtral's [IMG_BREAK] over, which llama.cpp then misses.
"""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli import app
from ollamaq.convert_projector import convert_projector, left_out
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import Blob, sha256_of
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.render import render
from ollamaq.ollama.store import Store
from ollamaq.source import open_projector, open_source

PROJECTORS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "projectors.json.gz").read_bytes()))
BREAK = "v.token_embd.img_break"


@pytest.fixture
def made(tiny_checkpoint, write_safetensors, seeded):
    """A golden's directory, with the tests' tokenizer; ``settings`` go over its config, ``towers`` over the eyes'."""

    def make(name, *, without=(), towers=None, **settings):
        golden = PROJECTORS[name]
        path = tiny_checkpoint(name)
        (path / "generation_config.json").unlink()
        for file, text in golden["files"].items():
            (path / file).write_text(text)
        for file in without:
            (path / file).unlink()
        config = json.loads((path / "config.json").read_text()) | settings
        config["vision_config"] |= towers or {}
        (path / "config.json").write_text(json.dumps(config))
        tensors = {tensor: seeded(tensor, *spec) for tensor, spec in golden["tensors"].items()}
        write_safetensors(path / "model.safetensors", tensors)
        return path

    return make


@pytest.mark.parametrize(
    ("name", "outtype"), [(name, outtype) for name, golden in PROJECTORS.items() for outtype in golden["written"]]
)
def test_metadata_and_tensors_are_the_converters(name, outtype, made, plain):
    golden = PROJECTORS[name]
    model = convert_projector(open_checkpoint(made(name)), outtype)
    expected = golden["metadata"] | {"general.file_type": golden["written"][outtype]["general.file_type"]}
    assert [(key, plain(value)) for key, value in model.metadata.items()] == list(expected.items())
    written = {
        tensor.name: [tensor.type.name, hashlib.sha256(tensor.rows(0, tensor.n_rows).tobytes()).hexdigest()]
        for tensor in model.tensors
    }
    if "v.token_embd.img_break" not in golden["shapes"]:
        written.pop(BREAK, None)
    assert list(written.items()) == list(golden["written"][outtype]["tensors"].items())
    assert {tensor.name: list(tensor.shape) for tensor in model.tensors if tensor.name in written} == golden["shapes"]


@pytest.mark.parametrize("name", ["pixtral", "pixtral-defaults"])
def test_a_break_between_rows_of_a_picture_is_always_there(name, made, seeded):
    embedding = "model.embed_tokens" if name == "pixtral" else "language_model.model.embed_tokens"
    checkpoint = open_checkpoint(made(name))
    found = {tensor.name: tensor for tensor in convert_projector(checkpoint, "f32").tensors}[BREAK]
    _, _, data = seeded(f"{embedding}.weight", "BF16" if name == "pixtral" else "F16", [304, 64])
    stored = np.frombuffer(data, np.uint16 if name == "pixtral" else np.float16).reshape(304, 64)[7]
    values = (stored.astype(np.uint32) << 16).view(np.float32) if name == "pixtral" else stored.astype(np.float32)
    np.testing.assert_array_equal(found.rows(0, 1)[0], values)


def test_names_with_model_before_them_are_the_same(made, write_safetensors, seeded):
    path = made("gemma3-vision")
    expected = convert_projector(open_checkpoint(path), "f16")
    tensors = {f"model.{name}": seeded(name, *spec) for name, spec in PROJECTORS["gemma3-vision"]["tensors"].items()}
    write_safetensors(path / "model.safetensors", tensors)
    found = convert_projector(open_checkpoint(path), "f16")
    assert [tensor.name for tensor in found.tensors] == [tensor.name for tensor in expected.tensors]


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("gemma3-vision", {"without": ["preprocessor_config.json"]}, r"has no preprocessor_config\.json"),
        ("pixtral", {"without": ["tokenizer_config.json"]}, r"no token \[IMG_BREAK\]"),
        ("pixtral", {"towers": {"model_type": "clip_vision_model"}}, "whose projector is supported"),
        ("pixtral", {"towers": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
        ("qwen2_5_vl", {"towers": {"fullatt_block_indexes": [1, 2]}}, r"fullatt_block_indexes \[1, 2\]"),
        ("qwen2_5_vl", {"towers": {"fullatt_block_indexes": []}}, "settings that cannot be used"),
        ("gemma3-vision", {"towers": {"patch_size": 0}}, "patch_size = 0"),
        ("gemma3-vision", {"towers": {"image_size": 28}}, r"position_embedding.* means \[4, 32\]"),
        ("qwen2_vl", {"towers": {"embed_dim": 16}}, r"of shape \[32\], where config.json means \[16\]"),
        ("mistral3-vision", {"spatial_merge_size": 3}, "patch_merger"),
        ("mistral3-vision", {"vision_config": {}}, "mistral3-vision"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(name, how, said, made):
    with pytest.raises(ModelRefused, match=said) as refusal:
        convert_projector(open_checkpoint(made(name, **how)), "f16")
    assert refusal.value.next_step


def test_a_model_that_sees_nothing_has_no_projector(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint())
    assert left_out(checkpoint) is None
    with pytest.raises(ModelRefused, match="whose projector is supported"):
        convert_projector(checkpoint, "f16")


def test_what_is_left_out_is_said_with_what_to_do(made):
    assert left_out(open_checkpoint(made("gemma3-vision"))).endswith("--mmproj makes a projector of it")
    unknown = replace(open_checkpoint(made("pixtral", towers={"model_type": "clip_vision_model"})))
    assert "Gemma 3, Qwen 2 VL" in left_out(unknown)


def test_the_command_writes_the_projector_alone(made, tmp_path):
    line = ["convert", str(made("gemma3-vision")), str(tmp_path / "out.gguf"), "--mmproj"]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert read_gguf(tmp_path / "out.gguf").metadata["general.type"].value == "mmproj"
    done = CliRunner().invoke(app, [*line, "--pre", "qwen2"])
    assert (done.exit_code, "--mmproj writes the projector alone" in done.stderr) == (2, True)


def test_a_projector_is_made_of_a_directory_only(made, tmp_path):
    write(tmp_path / "eyes.gguf", open_projector(made("gemma3-vision"), "f16").model)
    with pytest.raises(UsageError, match="no projector is made"):
        open_source(tmp_path / "eyes.gguf", projector="f16")


def test_a_modelfile_names_both_files():
    text = render(Modelfile("./model.gguf", projector="./mmproj.gguf"))
    assert text == "FROM ./model.gguf\nFROM ./mmproj.gguf\n"
    assert [command.value for command in parse(text).commands] == ["./model.gguf", "./mmproj.gguf"]


def test_a_store_keeps_the_projector_beside_the_model(made, tmp_path):
    path = tmp_path / "eyes.gguf"
    write(path, open_projector(made("gemma3-vision"), "f16").model)
    model, eyes = tmp_path / "model.gguf", Blob(path, sha256_of(path), path.stat().st_size)
    write(model, open_source(made("qwen2_5_vl"), outtype="f16").model)
    store = Store(tmp_path / "models")
    store.create("seer", model, sha256_of(model), Modelfile("./model.gguf"), lambda *step: None, eyes)
    assert store.projector_path("seer").read_bytes() == path.read_bytes()
    assert store.model_path("seer").read_bytes() == model.read_bytes()
    store.delete("seer")
    assert not any((tmp_path / "models" / "blobs").iterdir())
