"""A model directory is read lazily; what is damaged, hostile or missing gets one sentence that names the file."""

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.safetensors import read_safetensors
from ollamaq.errors import ModelRefused

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def refusal(path: Path, said: str) -> ModelRefused:
    """The refusal to open ``path``, which must be one line that names it and matches ``said``."""
    with pytest.raises(ModelRefused, match=said) as refused:
        open_checkpoint(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.next_step
    return refused.value


def test_everything_of_a_directory_is_read(tiny_checkpoint):
    path = tiny_checkpoint()
    (path / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    checkpoint = open_checkpoint(path)
    assert {file.name for file in checkpoint.files} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        WEIGHTS,
    }
    assert checkpoint.config["model_type"] == "llama"
    assert checkpoint.generation_config["top_p"] == 0.9
    assert checkpoint.tokenizer["model"]["type"] == "BPE"
    assert checkpoint.tokenizer_config["eos_token"] == "<|im_end|>"
    assert "<|im_start|>" in checkpoint.chat_template
    assert checkpoint.model_card == {"license": "mit"}
    assert len(checkpoint.tensors) == 20


def test_shards_hold_the_same_tensors_as_one_file(tiny_checkpoint):
    whole, sharded = open_checkpoint(tiny_checkpoint("whole")), open_checkpoint(tiny_checkpoint("sharded", shards=3))
    assert set(whole.tensors) == set(sharded.tensors)
    for name, tensor in whole.tensors.items():
        assert (tensor.rows(0, tensor.n_rows) == sharded.tensors[name].rows(0, tensor.n_rows)).all()
    assert sum(file.name.endswith(".safetensors") for file in sharded.files) == 3
    assert INDEX in {file.name for file in sharded.files}


@pytest.mark.parametrize(("dtype", "stored"), [("F32", np.float32), ("F16", np.float16), ("BF16", np.uint16)])
def test_rows_come_in_chunks_of_the_stored_type(dtype, stored, write_safetensors, tmp_path):
    values = np.arange(60).astype(stored)
    tensors = {"b": (dtype, (3, 4, 5), values.tobytes()), "a": (dtype, (5,), values[:5].tobytes())}
    write_safetensors(tmp_path / WEIGHTS, tensors)
    found = read_safetensors(tmp_path / WEIGHTS)
    assert list(found) == ["a", "b"]
    assert (found["b"].type, found["b"].shape, found["b"].n_rows) == (Type[dtype], (3, 4, 5), 12)
    assert found["b"].rows(2, 7).dtype == stored
    assert (found["b"].rows(2, 7) == values.reshape(12, 5)[2:7]).all()
    assert (found["a"].rows(0, 1) == values[:5].reshape(1, 5)).all()


def test_shards_without_an_index_are_read_if_none_is_missing(tiny_checkpoint):
    path = tiny_checkpoint(shards=3)
    expected = open_checkpoint(path)
    (path / INDEX).unlink()
    found = open_checkpoint(path)
    assert list(found.tensors) == list(expected.tensors)
    assert set(found.files) == set(expected.files) - {path / INDEX}
    (path / "model-00001-of-00003.safetensors").rename(path / "kept")
    refusal(path, r"model-00001-of-00003\.safetensors is missing")
    (path / "model-00001-of-00003.safetensors").write_bytes((path / "model-00002-of-00003.safetensors").read_bytes())
    refusal(path, r"model-00002-of-00003\.safetensors has tensor .*, as a part before it")
    (path / "kept").rename(path / "model-00001-of-00002.safetensors")
    refusal(path, r"has model-00001-of-00002\.safetensors beside the parts of a model of 3 files")


def test_a_template_file_comes_before_the_tokenizers_own(tiny_checkpoint):
    path = tiny_checkpoint()
    (path / "chat_template.jinja").write_bytes(b"file\r\n{{ x }}\n")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    checkpoint = open_checkpoint(path)
    assert checkpoint.chat_template == "file\n{{ x }}\n"
    assert checkpoint.chat_templates["tool_use"] == "tools"
    assert path / "additional_chat_templates" / "tool_use.jinja" in checkpoint.files


def test_of_named_templates_the_default_is_taken(tiny_checkpoint):
    templates = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}, {"name": 7}, "odd"]
    checkpoint = open_checkpoint(tiny_checkpoint(tokenizer_config={"chat_template": templates}))
    assert checkpoint.chat_template == "d"
    assert checkpoint.chat_templates == {"tool_use": "t", "default": "d"}


def test_a_template_in_json_is_taken_where_the_tokenizer_has_none(tiny_checkpoint):
    silent = tiny_checkpoint("silent", tokenizer_config={"chat_template": None})
    told = tiny_checkpoint("told", tokenizer_config={"chat_template": "own"})
    for path in (silent, told):
        (path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    checkpoint = open_checkpoint(silent)
    assert checkpoint.chat_template == "{{ messages }}"
    assert silent / "chat_template.json" in checkpoint.files
    assert open_checkpoint(told).chat_template == "own"
    assert told / "chat_template.json" not in open_checkpoint(told).files
    (silent / "chat_template.json").write_text("[")
    refusal(silent, r"chat_template\.json")


@pytest.mark.parametrize("template", [None, 7, {}, []])
def test_what_is_no_template_is_none(template, tiny_checkpoint):
    assert open_checkpoint(tiny_checkpoint(tokenizer_config={"chat_template": template})).chat_template is None


def test_links_into_the_blobs_of_the_same_cache_are_followed(tiny_checkpoint, tmp_path):
    """Hugging Face keeps ``snapshots/<commit>/<file> -> ../../blobs/<hash>``."""
    files = tiny_checkpoint()
    repository = tmp_path / "models--org--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for i, file in enumerate(sorted(files.iterdir())):
        file.rename(repository / "blobs" / f"{i}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{i}")
    assert len(open_checkpoint(snapshot).tensors) == 20
    (tmp_path / "elsewhere").symlink_to(snapshot)
    assert len(open_checkpoint(tmp_path / "elsewhere").tensors) == 20
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../secret.json")
    (tmp_path / "secret.json").write_text("{}")
    refusal(snapshot, r"config\.json is a link out of the directory, to .*secret\.json")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md", "chat_template.jinja", WEIGHTS])
def test_a_link_out_of_the_directory_is_refused(name, tiny_checkpoint, tmp_path):
    path = tiny_checkpoint()
    (tmp_path / "outside").write_text("{}")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / "outside")
    refusal(path, rf"{name} is a link out of the directory, to .*outside")


def test_links_within_the_directory_are_followed(tiny_checkpoint):
    path = tiny_checkpoint()
    (path / WEIGHTS).rename(path / "weights")
    (path / WEIGHTS).symlink_to("weights")
    assert len(open_checkpoint(path).tensors) == 20


@pytest.mark.parametrize("name", ["/etc/passwd", "../tiny2/model.safetensors", "a/../../b", "nul\0"])
def test_a_shard_out_of_the_directory_is_refused(name, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / INDEX).write_text(json.dumps({"weight_map": {"x": name}}))
    refusal(path, "outside of the directory")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_missing_file_is_named(name, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / name).unlink()
    refusal(path, rf"has no {name}")


def test_a_missing_shard_is_named(tiny_checkpoint):
    path = tiny_checkpoint(shards=2)
    (path / "model-00002-of-00002.safetensors").unlink()
    refusal(path, r"model-00002-of-00002\.safetensors is missing")


def test_an_index_that_disagrees_with_its_shards_is_refused(tiny_checkpoint):
    path = tiny_checkpoint(shards=2)
    index = json.loads((path / INDEX).read_text())
    index["weight_map"]["extra.weight"] = "model-00001-of-00002.safetensors"
    (path / INDEX).write_text(json.dumps(index))
    refusal(path, r"model-00001-of-00002\.safetensors lacks tensor 'extra\.weight'")
    del index["weight_map"]["extra.weight"], index["weight_map"]["model.norm.weight"]
    (path / INDEX).write_text(json.dumps(index))
    refusal(path, r"has tensor 'model\.norm\.weight', which model\.safetensors\.index\.json has in 'no file'")


@pytest.mark.parametrize("content", [[], {}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {}}])
def test_an_index_of_another_form_is_refused(content, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / INDEX).write_text(json.dumps(content))
    refusal(path, "has no weight_map|is not a JSON object")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("consolidated.safetensors", "Hugging Face format"),
        ("weights.00.safetensors", r"index\.json with its shards"),
        ("model-Q8_0.gguf", "give the GGUF file itself"),
        ("weights.npz", "newer mlx-lm"),
        ("training_args.bin", r"pytorch_model\.bin"),
        ("last.pt", "convert to safetensors"),
    ],
)
def test_weights_of_another_format_are_named(name, step, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / WEIGHTS).rename(path / name)
    refused = refusal(path, rf"has no model\.safetensors, and {name} is not read in its place")
    assert re.search(step, refused.next_step)


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file", "is not a directory")
    refusal(tmp_path / "nothing", "is not a directory")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("7", "is not a JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"a":' * 100_000, "is not JSON"),
        ("1" * 10_000, "is not JSON|is not a JSON object"),
        ("\xff", "cannot read|is not JSON"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "tokenizer_config.json"])
def test_what_is_not_a_json_object_is_refused(name, text, said, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / name).write_text(text, encoding="latin-1")
    refusal(path, rf"{name}.*({said})|cannot read .*{name}")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md", "chat_template.jinja"])
def test_a_file_of_an_absurd_size_is_not_read(name, tiny_checkpoint):
    path = tiny_checkpoint()
    with (path / name).open("ab") as file:
        file.truncate(1 << 40)  # a hole: no disk is used
    refusal(path, rf"{name} has 1,099,511,627,776 bytes; [0-9,]+ are allowed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tiny_checkpoint):
    path = tiny_checkpoint()
    (path / "config.json").unlink()
    os.mkfifo(path / "config.json")
    refusal(path, r"config\.json is missing")


def test_a_rule_at_the_top_of_a_readme_is_no_front_matter(tiny_checkpoint):
    path = tiny_checkpoint()
    for text in ("", "---", "---\n: [\n----\n", "# Title\n---\na: [\n---\n"):
        (path / "README.md").write_text(text)
        assert open_checkpoint(path).model_card == {}


BOMB = "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk"))  # noqa: B905


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("a: [", "has front matter that is not YAML"),
        ("a: !!python/object/apply:os.system [id]", "has front matter that is not YAML"),
        ("a: " + "[" * 5_000, "has front matter that is not YAML"),
        (BOMB, "has more than 10,000 values in front"),
        ("a: &a [*a]", "has more than 10,000 values in front"),
        ("a: " + "b" * 200_000, "has front matter of 200,"),
    ],
)
def test_a_hostile_model_card_is_refused(front, said, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / "README.md").write_text(f"---\n{front}\n---\n")
    refusal(path, rf"README\.md {said}")


def damage(entries, data=bytes(64), length=None):
    """The bytes of a safetensors file of this header, or of this claimed length of it."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin=0, end=64, dtype="F32", shape=(4, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DAMAGED = {
    "an empty file": (b"", "is 0 bytes long"),
    "seven bytes": (b"1234567", "is 7 bytes long"),
    "a header longer than the file": (damage({}, length=1000), "claims a header of 1000 bytes in a file of 74"),
    "a huge header": (damage({}, length=2**63), "claims a header of 9223372036854775808 bytes"),
    "a header that is not JSON": (damage(b"{nonsense}"), "has a header that is not JSON"),
    "a header that is not text": (damage(b"\xff\xfe\xfd"), "has a header that is not JSON"),
    "a header too deep": (damage(b"[" * 100_000), "has a header that is not JSON"),
    "a list as header": (damage([1]), "has a header that is not a JSON object"),
    "a tensor twice": (damage(b'{"t": 1, "t": 2}'), "names a tensor twice"),
    "a number as tensor": (damage({"t": 7}), "describes tensor 't' as 7"),
    "no offsets": (damage({"t": {"dtype": "F32", "shape": [16]}}), "describes tensor 't' as"),
    "offsets of text": (damage({"t": entry("0", "64")}), "describes tensor 't' as"),
    "a shape of text": (damage({"t": entry(shape="44")}), "describes tensor 't' as"),
    "a negative shape": (damage({"t": entry(shape=(-4, -4))}), "describes tensor 't' as"),
    "a fraction as shape": (damage({"t": entry(shape=(4.0, 4))}), "describes tensor 't' as"),
    "a huge shape": (damage({"t": entry(shape=(2**62, 2**62))}), "has 64 bytes for tensor 't' of shape"),
    "too few bytes": (damage({"t": entry(shape=(4, 5))}), r"has 64 bytes for tensor 't' of shape \[4, 5\] in F32"),
    "another width": (damage({"t": entry(dtype="BF16")}), r"has 64 bytes for tensor 't' of shape \[4, 4\] in BF16"),
    "an unknown dtype": (
        damage({"t": entry(dtype="F64")}),
        "tensor 't' .*dtype 'F64'; F32, F16, BF16, I8, .* can be read",
    ),
    "an empty shape": (damage({"t": entry(0, 0, shape=(0, 4))}, b""), r"has tensor 't' of 2 axes, \[0, 4\]"),
    "six axes": (damage({"t": entry(shape=(1, 1, 1, 1, 4, 4))}), "has tensor 't' of 6 axes"),
    "an end beyond the file": (
        damage({"t": entry(0, 128, shape=(4, 8))}),
        "has tensor 't' at bytes 0 to 128 of its 64",
    ),
    "an end before its start": (damage({"t": entry(64, 0)}), "has tensor 't' at bytes 64 to 0"),
    "a negative offset": (damage({"t": entry(-64, 0)}), "has tensor 't' at bytes -64 to 0"),
    "an overlap": (damage({"a": entry(), "b": entry()}), "has tensor 'b' at byte .* where byte .* was due"),
    "a hole": (damage({"a": entry(0, 32, shape=(8,)), "b": entry(48, 64, shape=(4,))}), "tensor 'b' at byte"),
    "bytes left over": (damage({"a": entry(0, 32, shape=(8,))}), "should be .* bytes long by its header, and is"),
    "no bytes at all": (damage({"t": entry()}, b""), "has tensor 't' at bytes 0 to 64 of its 0"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_weights_are_one_sentence(what, tiny_checkpoint):
    path, (data, said) = tiny_checkpoint(), DAMAGED[what]
    (path / WEIGHTS).write_bytes(data)
    refused = refusal(path, said)
    assert WEIGHTS in str(refused)


def test_a_download_that_stopped_is_refused(tiny_checkpoint):
    path = tiny_checkpoint()
    with (path / WEIGHTS).open("r+b") as file:
        file.truncate(100_000)
    refusal(path, r"model\.safetensors has tensor '.*' at bytes")


SAMPLE = damage({"__metadata__": {"format": "pt"}, "a": entry(0, 32, shape=(2, 4)), "b": entry(32, 64, "F16", (16,))})


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 4), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3
    )
)
def test_any_bytes_are_refused_or_tensors_that_can_be_read(edits, tmp_path_factory):
    data = bytearray(SAMPLE)
    for at, new in edits:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(data)
    tensors, said = {}, ""
    try:
        tensors = read_safetensors(path)
    except ModelRefused as refused:
        said = str(refused)
    assert "\n" not in said
    for tensor in tensors.values():
        assert tensor.rows(0, tensor.n_rows).shape == (tensor.n_rows, tensor.row)
