"""Mistral's own format is converted as llama.cpp's converter converts it with ``--mistral-format``.

``data/mistral.json.gz`` holds what b11434 wrote (mistral-common 1.13.1, outtype f16, no community's chat template) for
tiny models, whose tekken.json has the first tokens of Mistral's; long lists as their length and the SHA-256 of their
JSON. ``mistral-hf-tekken`` is in Hugging Face's format beside a tekken.json.
"""

import base64
import gzip
import hashlib
import json
import logging
import zlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType

from ollamaq.chat.stops import stop_tokens
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.tokenizers.spec import MISTRAL_TOKENIZER
from ollamaq.tokenizers.tekken import letters, read_tekken
from ollamaq.tokenizers.vocabulary import vocabulary

DATA = Path(__file__).parent / "data"
GOLDENS = json.loads(gzip.decompress((DATA / "mistral.json.gz").read_bytes()))
SENTENCEPIECE = json.loads(gzip.decompress((DATA / "tokenizers.json.gz").read_bytes()))


def seeded(name, dtype, shape):
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if dtype == "F8_E4M3":
        return dtype, shape, random.integers(0, 127, shape, dtype=np.uint8).tobytes()
    values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
    if dtype != "BF16":
        return dtype, shape, values.astype({"F16": np.float16, "F32": np.float32}[dtype]).tobytes()
    bits = values.view(np.uint32)
    return dtype, shape, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


@pytest.fixture
def directory(tmp_path, write_safetensors):
    """A golden's directory."""

    def build(name):
        golden, path = GOLDENS[name], tmp_path / name
        path.mkdir()
        for file, text in golden["files"].items():
            (path / file).write_text(text)
        if "tokenizer" in golden:
            model = SENTENCEPIECE[golden["tokenizer"]]["binary"]["tokenizer.model"]
            (path / "tokenizer.model.v3").write_bytes(base64.b64decode(model))
        stem = "consolidated" if "params.json" in golden["files"] else "model"
        n, names = golden.get("parts", 1), list(golden["tensors"])
        for i in range(n):
            file = f"{stem}-{i + 1:05}-of-{n:05}.safetensors" if n > 1 else f"{stem}.safetensors"
            write_safetensors(path / file, {name: seeded(name, *golden["tensors"][name]) for name in names[i::n]})
        return path

    return build


def brief(value):
    plain = value.value
    if GGUFValueType.FLOAT32 in (value.type, value.element):
        plain = np.float32(plain).tolist()
    if not isinstance(plain, list) or len(plain) <= 64:
        return plain
    text = json.dumps([int(i) if not isinstance(i, str | float) else i for i in plain], ensure_ascii=False)
    return {"len": len(plain), "sha256": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("name", GOLDENS)
def test_metadata_and_tensors_are_the_converters(name, directory):
    model = convert(open_checkpoint(directory(name)), "f16")
    metadata = {key: brief(value) for key, value in model.metadata.items()}
    assert list(metadata.items()) == list(GOLDENS[name]["metadata"].items())
    written = {
        tensor.name: [tensor.type.name, hashlib.sha256(tensor.rows(0, tensor.n_rows).tobytes()).hexdigest()]
        for tensor in model.tensors
    }
    assert list(written.items()) == list(GOLDENS[name]["written"].items())
    assert {tensor.name: list(tensor.shape) for tensor in model.tensors} == GOLDENS[name]["shapes"]


def test_a_missing_chat_template_is_said_with_what_to_do(directory, caplog):
    with caplog.at_level(logging.WARNING):
        open_checkpoint(directory("mistral-tekken-v3"))
        assert "no chat_template.jinja" in caplog.text
        assert "Hugging Face" in caplog.text
        caplog.clear()
        open_checkpoint(directory("mistral-tekken-v13"))
    assert not caplog.text


def test_the_end_of_an_answer_is_known(directory):
    path = directory("mistral-tekken-v13")
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}[INST]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    assert [stop.text for stop in stop_tokens(open_checkpoint(path))] == ["</s>"]


def test_the_files_that_the_model_is_made_of_are_named(directory):
    checkpoint = open_checkpoint(directory("mistral-tekken-v13"))
    assert sorted(file.name for file in checkpoint.files) == [
        "README.md",
        "chat_template.jinja",
        *(f"consolidated-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        "params.json",
        "tekken.json",
    ]


def test_hugging_faces_format_goes_first_where_both_are_there(directory, tiny_checkpoint):
    path = tiny_checkpoint()
    for file in directory("mistral-tekken-v3").iterdir():
        file.rename(path / file.name)
    assert open_checkpoint(path).config_file == "config.json"


def edited(path, name, **changes):
    """A JSON file of a directory with other values at dotted places; None takes one away."""
    data = json.loads((path / name).read_text())
    for place, value in changes.items():
        *above, last = place.split(".")
        part = data
        for step in above:
            part = part[int(step) if step.isdecimal() else step]
        part[int(last) if last.isdecimal() else last] = value
    (path / name).write_text(json.dumps(data))


DAMAGED = {
    "a rank that is not in order": {"vocab.300.rank": 3},
    "bytes that are not base64": {"vocab.300.token_bytes": "!"},
    "a token twice": {"vocab.300.token_bytes": "AA=="},
    "a token that no two others make": {"vocab.300.token_bytes": base64.b64encode(b"ollamaq").decode()},
    "a token without end": {"vocab.300.token_bytes": base64.b64encode(bytes(600)).decode()},
    "no bytes at first": {"vocab.3.token_bytes": base64.b64encode(b"ollamaq").decode()},
    "more tokens than there are": {"config.default_vocab_size": 900},
    "a size that is no number": {"config.default_vocab_size": "many"},
    "special tokens without end": {"config.default_num_special_tokens": 1 << 40, "config.default_vocab_size": 1 << 41},
    "no vocabulary": {"vocab": None},
    "special tokens that are none": {"special_tokens": [1]},
    "a pattern that is none": {"config.pattern": 3},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_tekken_json_is_one_sentence(damage, directory):
    path = directory("mistral-tekken-v3")
    edited(path, "tekken.json", **DAMAGED[damage])
    with pytest.raises(ModelRefused, match=r"tekken\.json") as refused:
        convert(open_checkpoint(path), "f16")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_more_tokens_than_the_embedding_has_rows_are_found_before_a_byte_is_written(directory):
    path = directory("mistral-tekken-v3")
    with pytest.raises(ModelRefused, match="424 pieces, and the embedding has 400 rows"):
        vocabulary(open_checkpoint(path), 400, MISTRAL_TOKENIZER)
    edited(path, "params.json", vocab_size=400)
    with pytest.raises(ModelRefused, match="shape"):
        convert(open_checkpoint(path), "f16")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dim": "wide"}, r"params\.json"),
        ({"max_position_embeddings": None}, "llama.cpp loads no model"),
        ({"n_layers": None}, r"params\.json is damaged"),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2}}, "that of a Mixtral"),
        ({"quantization": {"qformat_weight": "int3"}}, "quantized by 'int3'"),
        ({"yarn": {"factor": 2}}, r"params\.json has settings that cannot be used"),
        ({"llama_4_scaling": 3}, r"params\.json has settings that cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(changes, said, directory):
    path = directory("mistral-tekken-v3")
    edited(path, "params.json", **changes)
    with pytest.raises(ModelRefused, match=said):
        convert(open_checkpoint(path), "f16")


def test_a_directory_without_a_tokenizer_says_so(directory):
    path = directory("mistral-tekken-v3")
    (path / "tekken.json").unlink()
    with pytest.raises(ModelRefused, match=r"no tekken\.json and no tokenizer\.model"):
        open_checkpoint(path)


def test_another_pattern_gets_the_nearest_pre_tokenizer_and_says_so(directory, caplog):
    path = directory("mistral-tekken-v3")
    edited(path, "tekken.json", **{"config.pattern": r"\p{N}{1,2}|\p{L}+|\s+|[^\s\p{L}\p{N}]+"})
    checkpoint = open_checkpoint(path)
    with caplog.at_level(logging.WARNING):
        convert(checkpoint, "f16")
    assert "cuts differ on a corpus" in caplog.text
    assert convert(checkpoint, "f16", pre="gpt-4o").metadata["tokenizer.ggml.pre"].value == "gpt-4o"


def test_a_merge_is_every_way_to_make_a_token_of_two_others(directory):
    read = read_tekken(json.loads(GOLDENS["mistral-tekken-v3"]["files"]["tekken.json"]))
    merges = [merge.split(" ") for merge in read.merges()]
    made = [left + right for left, right in merges]
    assert sorted(set(made), key=made.index) == [letters(token) for token in read.tokens[256:]]
    assert letters(b" \n!\xff") == "ĠĊ!ÿ"
