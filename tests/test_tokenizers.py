"""Vocabularies are those of llama.cpp's converter, whatever kind of tokenizer training left.

``data/tokenizers.json.gz`` holds tiny tokenizers (SentencePiece models, tokenizer.json with byte fallback) and what
``convert_hf_to_gguf.py`` b11434 wrote of them; long lists as their length and the SHA-256 of their JSON.
"""

import base64
import gzip
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType

from ollamaq.architectures import family_of
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Value
from ollamaq.tokenizers.ends import with_end_of_turn
from ollamaq.tokenizers.vocabulary import vocabulary

GOLDENS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "tokenizers.json.gz").read_bytes()))


@pytest.fixture
def directory(tmp_path, write_safetensors):
    """A golden's directory, with a weight that nobody looks at."""

    def build(name):
        path = tmp_path / name
        path.mkdir()
        for file, text in GOLDENS[name]["files"].items():
            (path / file).parent.mkdir(exist_ok=True)
            (path / file).write_text(text)
        for file, data in GOLDENS[name]["binary"].items():
            (path / file).write_bytes(base64.b64decode(data))
        write_safetensors(path / "model.safetensors", {"x": ("F32", [1], bytes(4))})
        return path

    return build


def brief(value):
    if isinstance(value, float):
        return float(np.float32(value))
    if not isinstance(value, list):
        return value
    items = [float(np.float32(item)) if isinstance(item, float) else item for item in value]
    if len(items) <= 64:
        return items
    text = json.dumps([int(i) if not isinstance(i, str | float) else i for i in items], ensure_ascii=False)
    return {"len": len(items), "sha256": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("name", GOLDENS)
def test_a_vocabulary_is_the_converters(name, directory):
    expected = GOLDENS[name]["keys"]
    checkpoint = open_checkpoint(directory(name))
    tokens = expected["tokenizer.ggml.tokens"]
    rows = tokens["len"] if isinstance(tokens, dict) else len(tokens)
    spec = family_of(checkpoint.config, "config.json").tokenizer
    found = {key: brief(value.value) for key, value in vocabulary(checkpoint, rows, spec).items()}
    assert list(found.items()) == list(expected.items())


def piece(text=b"a", score=b"", kind=b""):
    body = b"\x0a" + bytes([len(text)]) + text + score + kind
    return b"\x0a" + bytes([len(body)]) + body


DAMAGED = {
    "text": b"this is no model at all",
    "a piece beyond the end": b"\x0a\x7fab",
    "a length without an end": b"\x0a" + b"\xff" * 20,
    "a group": b"\x0b\x0a",
    "a piece that is not UTF-8": piece(b"\xff\xfe"),
    "half a score": piece(score=b"\x15\x00\x00"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_sentencepiece_model_is_one_sentence(damage, directory):
    path = directory("gemma")
    (path / "tokenizer.model").write_bytes(DAMAGED[damage])
    checkpoint = open_checkpoint(path)
    spec = family_of(checkpoint.config, "config.json").tokenizer
    with pytest.raises(ModelRefused, match=r"tokenizer\.model") as refused:
        vocabulary(checkpoint, 416, spec)
    assert "\n" not in str(refused.value)


def test_more_tokens_than_the_embedding_has_rows_are_found_before_a_byte_is_written(directory):
    checkpoint = open_checkpoint(directory("gemma"))
    with pytest.raises(ModelRefused, match="embedding"):
        vocabulary(checkpoint, 300, family_of(checkpoint.config, "config.json").tokenizer)


def test_a_family_says_which_tokenizers_it_takes(tiny_checkpoint):
    path = tiny_checkpoint(config={"architectures": ["GemmaForCausalLM"]})
    checkpoint = open_checkpoint(path)
    with pytest.raises(ModelRefused, match="this family takes sentencepiece"):
        vocabulary(checkpoint, 384, family_of(checkpoint.config, "config.json").tokenizer)


def split_by(expression):
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, level]}


def edited_tokenizer(path, **changes):
    tokenizer = json.loads((path / "tokenizer.json").read_text()) | changes
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


def test_an_unknown_pre_tokenizer_gets_the_nearest_and_says_how_far_it_is(tiny_checkpoint, caplog):
    words, spaces = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+", r"\s*[\r\n]+|\s+(?!\S)|\s+"
    nearly_llama3 = rf"{words}|\p{{N}}{{1,4}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{spaces}"
    path = edited_tokenizer(tiny_checkpoint(), pre_tokenizer=split_by(nearly_llama3))
    with caplog.at_level(logging.WARNING):
        metadata = convert(open_checkpoint(path), "f16").metadata
    assert metadata["tokenizer.ggml.pre"].value in ("llama-bpe", "smaug-bpe")
    assert "cuts differ on a corpus" in caplog.text
    assert "--pre" in caplog.text


def test_a_pattern_that_never_ends_is_ended(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("ollamaq.tokenizers.cuts.SECONDS", 1)
    checkpoint = open_checkpoint(edited_tokenizer(tiny_checkpoint(), pre_tokenizer=split_by(r"(\w+\s?)+$x")))
    with pytest.raises(ModelRefused, match="in a way that is not known") as refused:
        convert(checkpoint, "f16")
    assert "--pre" in refused.value.next_step
    assert convert(checkpoint, "f16", pre="qwen2").metadata["tokenizer.ggml.pre"].value == "qwen2"


def metadata(*tokens, **keys):
    ids = {f"tokenizer.ggml.{key}_token_id": Value(GGUFValueType.UINT32, at) for key, at in keys.items()}
    return {"tokenizer.ggml.tokens": Value(GGUFValueType.ARRAY, list(tokens), GGUFValueType.STRING)} | ids


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        (metadata("</s>", "<|im_end|>", eos=0), "<|im_end|>", None),  # llama.cpp knows that text
        (metadata("</s>", "<end>", eos=1), "<end>", None),
        (metadata("</s>", "<end>", eos=0), "<end>", "eot"),
        (metadata("</s>", "x", "<end>", eos=0, eot=1), "<end>", "eom"),
        (metadata("</s>", "x", "y", "<end>", eos=0, eot=1, eom=2), "<end>", None),
        (metadata("</s>", eos=0), "<end>", None),
    ],
)
def test_the_token_that_ends_a_turn_has_a_key_at_which_the_server_stops(before, text, expected):
    after = with_end_of_turn(before, text)
    new = {key: value.value for key, value in after.items() if key not in before}
    tokens = before["tokenizer.ggml.tokens"].value
    assert new == ({f"tokenizer.ggml.{expected}_token_id": tokens.index(text)} if expected else {})
