"""The vocabularies of real models that llama.cpp's sources carry, as a tokenizer.json that Hugging Face would have.

    python integration/vocabularies.py [NAME…]

counts token ids and those that differ, and writes docs/tokenizers.json when no name is given. For each vocabulary a
model directory is made anew from its tokens, merges, scores and types, and converted by ollamaq; a tiny model with that
vocabulary is loaded by llama.cpp, and so is one with the vocabulary as it was. Ids are compared with those of the
library tokenizers over prose in a hundred languages (Django's translations), code, numbers, white space and emoji.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import random
import re
import struct
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import families
import numpy as np
import parts
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType
from tokenizers import Tokenizer

from ollamaq.checkpoint import open_checkpoint
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import write
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.cuts import CORPUS
from ollamaq.tokenizers.pre import DIGIT, DIGITS, GPT2, PRE_TOKENIZERS, PUNCTUATION, Pre
from ollamaq.tokenizers.spec import BERT_TOKENIZER, GEMMA4_TOKENIZER, SENTENCEPIECE_TOKENIZER, TokenizerSpec
from ollamaq.tokenizers.vocabulary import vocabulary

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "tokenizers.json"
KEYS = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = range(1, 5)
OF_LANGUAGE, OF_CODE, SENTENCE = 1000, 20_000, 40
"""Characters."""
RANDOM_TEXTS = 60
NAMED = {pre.name: pre for pre in PRE_TOKENIZERS}
BORROWED = "llama-bpe"
"""Whose vocabulary, of many scripts and with numbers of three digits, shows where other pre-tokenizers cut."""
SAME = {"mpt": "gpt-2", "refact": "smollm"}
"""Names that llama.cpp has beside one that is recognised, for the same cuts."""
UNSAID = {"aquila": "gpt-2", "gpt-neox": "gpt-2"}
"""Pre-tokenizers of vocabularies from before a GGUF had one, as their models' tokenizer.json has them."""


@functools.cache
def texts() -> tuple[str, ...]:
    """What is tokenized: a text for each language, code, each line of the corpus, and pieces of all that shuffled."""
    messages: dict[str, list[str]] = defaultdict(list)
    code = ""
    with zipfile.ZipFile(parts.django()) as packed:
        for name in sorted(packed.namelist()):
            if name.endswith("LC_MESSAGES/django.po"):
                found = packed.read(name).decode()
                messages[name.split("/")[-3]] += re.findall(r'^msgstr(?:\[0\])? "(.+)"$', found, re.MULTILINE)
            elif name.endswith((".py", ".js", ".html", ".css")) and len(code) < OF_CODE and "/locale/" not in name:
                code += packed.read(name).decode()[: OF_CODE // 20]
    sentences = ([one for one in said if len(one) > SENTENCE] + said for said in messages.values())
    prose = ["\n".join(said).replace("\\n", "\n").replace('\\"', '"')[:OF_LANGUAGE] for said in sentences]
    given = [
        *prose,
        *(code[i : i + 2000] for i in range(0, len(code), 2000)),
        *CORPUS.splitlines(keepends=True),
        CORPUS,
    ]
    whole, shuffled = "".join([CORPUS, *prose, code]), random.Random(11434)
    for _ in range(RANDOM_TEXTS):
        starts = [shuffled.randrange(len(whole)) for _ in range(40)]
        given.append("".join(whole[start : start + shuffled.randint(1, 6)] for start in starts))
    return tuple(dict.fromkeys(text for text in given if text.strip()))


@functools.cache
def asked(name: str) -> tuple[str, ...]:
    """The texts, and those of llama.cpp's own test of a vocabulary."""
    file = parts.vocabularies() / f"ggml-vocab-{name}.gguf.inp"
    own = file.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n") if file.exists() else []
    return (*texts(), *(text for text in own if text.strip()))


def recorded(name: str) -> list[tuple[str, list[int]]]:
    """Texts of llama.cpp's own test of a vocabulary and the ids that Hugging Face's tokenizer gave for them once."""
    file = parts.vocabularies() / f"ggml-vocab-{name}.gguf.inp"
    if not file.exists():
        return []
    own = file.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    ids = [[int(at) for at in line.split()] for line in file.with_suffix(".out").read_text().splitlines()]
    return [(text, line) for text, line in zip(own, ids, strict=False) if text.strip()]


class Vocabulary:
    """A vocabulary-only GGUF; ``get`` gives one of its keys."""

    def __init__(self, name: str) -> None:
        self.name = name
        metadata = read_gguf(parts.vocabularies() / f"ggml-vocab-{name}.gguf").metadata
        self.metadata = {key: value for key, value in metadata.items() if key.startswith(KEYS)}
        self.tokens: list[str] = self.get("tokens")
        self.types: list[int] = self.get("token_type")
        self.model: str = self.get("model")

    def get(self, key: str) -> Any:
        value = self.metadata.get(KEYS + key)
        return value.value if value else None

    def of_type(self, *types: int) -> dict[str, int]:
        return {
            token: at for at, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True)) if kind in types
        }

    def own(self) -> dict[str, int]:
        """Tokens that were there before others were added behind them."""
        count = len(self.tokens)
        while self.types[count - 1] in (CONTROL, USER_DEFINED):
            count -= 1
        return {token: at for at, token in enumerate(self.tokens[:count])}

    def added(self) -> list[dict[str, Any]]:
        """Control tokens, and those that are found in any text."""
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        found = self.of_type(UNKNOWN, CONTROL, USER_DEFINED)
        return [
            {"id": at, "content": token, **plain, "special": self.types[at] != USER_DEFINED}
            for token, at in found.items()
        ]


def steps(expressions: Sequence[str], published: bool) -> list[dict[str, Any]]:
    """Expressions as the pre-tokenizer of a tokenizer.json; GPT-2's as it is ``published`` goes with the byte level."""
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    found: list[dict[str, Any]] = []
    for i, expression in enumerate(expressions):
        if expression == GPT2 and (published or i == len(expressions) - 1):
            found.append(bytes_ | {"use_regex": True})
        elif expression in (DIGIT, DIGITS):
            found.append({"type": "Digits", "individual_digits": expression == DIGIT})
        elif expression == f"{PUNCTUATION}+":
            found.append({"type": "Punctuation", "behavior": "Contiguous"})
        else:
            pattern = {"Regex": expression}
            found.append({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False})
    return found if any(step["type"] == "ByteLevel" for step in found) else [*found, bytes_]


def byte_level(words: Vocabulary, pre: Pre, expressions: Sequence[str]) -> dict[str, Any]:
    """A tokenizer.json of byte-level BPE."""
    cuts = steps(expressions, expressions != pre.expressions)
    model = {
        "type": "BPE",
        "vocab": words.own(),
        "merges": words.get("merges"),
        "ignore_merges": pre.whole,
        "byte_fallback": False,
        "fuse_unk": False,
    }
    return _tokenizer(words, model, pre_tokenizer={"type": "Sequence", "pretokenizers": cuts})


def wordpiece(words: Vocabulary) -> dict[str, Any]:
    """BERT's, where the start of a word is not marked, but its continuation."""
    vocab = {}
    for at, (token, kind) in enumerate(zip(words.tokens, words.types, strict=True)):
        plain = kind == CONTROL or re.fullmatch(r"\[unused\d+\]", token)
        vocab[token[1:] if token.startswith("▁") else token if plain else f"##{token}"] = at
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
    normalizer["strip_accents"] = None
    return _tokenizer(words, model, normalizer=normalizer, pre_tokenizer={"type": "BertPreTokenizer"})


def sentencepiece(words: Vocabulary) -> dict[str, Any]:
    """BPE over characters with bytes for unknown ones; a piece's score says when it is merged."""
    ids, scores = {token: at for at, token in enumerate(words.tokens)}, words.get("scores")
    merges = []
    for piece, at in ids.items():
        if words.types[at] == NORMAL:
            halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
            known = [half for half in halves if half[0] in ids and half[1] in ids]
            merges += [(scores[at], half) for half in sorted(known, key=lambda half: (ids[half[0]], ids[half[1]]))]
    merges.sort(key=lambda merge: -merge[0])
    return _fallback(words, [half for _, half in merges], [{"type": "Prepend", "prepend": "▁"}])


def gemma4(words: Vocabulary) -> dict[str, Any]:
    return _fallback(words, [merge.split(" ", 1) for merge in words.get("merges")], [])


def _fallback(words: Vocabulary, merges: list[Any], first: list[dict[str, Any]]) -> dict[str, Any]:
    model = {
        "type": "BPE",
        "vocab": words.own(),
        "merges": merges,
        "unk_token": "<unk>",
        "byte_fallback": True,
        "fuse_unk": True,
    }
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return _tokenizer(words, model, normalizer={"type": "Sequence", "normalizers": [*first, blanks]})


def unigram(words: Vocabulary) -> dict[str, Any]:
    charsmap = base64.b64encode(bytes(words.get("precompiled_charsmap"))).decode()
    model = {
        "type": "Unigram",
        "unk_id": words.get("unknown_token_id"),
        "vocab": list(zip(words.tokens, words.get("scores"), strict=True)),
        "byte_fallback": False,
    }
    cuts = [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]
    return _tokenizer(
        words,
        model,
        normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap},
        pre_tokenizer={"type": "Sequence", "pretokenizers": cuts},
    )


def _tokenizer(words: Vocabulary, model: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {**EMPTY, "added_tokens": words.added(), **rest, "model": model}


def sentencepiece_model(words: Vocabulary) -> bytes:
    """A ``tokenizer.model`` (sentencepiece_model.proto) of the pieces."""

    def field(number: int, data: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(data)) + data

    scores = words.get("scores")
    out = b""
    for at, token in enumerate(words.tokens):
        score = struct.pack("<Bf", 2 << 3 | 5, scores[at])
        kind = NORMAL if words.types[at] == USER_DEFINED else words.types[at]
        out += field(1, field(1, token.encode()) + score + bytes([3 << 3, kind]))
    trainer = bytes([3 << 3, 1 if words.model == "t5" else 2])
    charsmap = bytes(words.get("precompiled_charsmap") or b"")
    normalizer = (field(2, charsmap) if charsmap else b"") + bytes([3 << 3, 1, 4 << 3, words.model == "t5"])
    return out + field(2, trainer) + field(3, normalizer)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


EMPTY = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
EMPTY |= {"version": "1.0", "added_tokens": []}
ROLES = {"unk": "unknown", "pad": "padding"}
UNIGRAM = TokenizerSpec(("unigram",))
OTHERS = {"bert": wordpiece, "llama": sentencepiece, "gemma4": gemma4, "t5": unigram}
SPECS = {"bert": BERT_TOKENIZER, "llama": SENTENCEPIECE_TOKENIZER, "gemma4": GEMMA4_TOKENIZER, "t5": UNIGRAM}


def converted(words: Vocabulary, tokenizer: dict[str, Any], place: Path, pre: str | None = None) -> Metadata:
    """The vocabulary's keys, by ollamaq, from a directory with this tokenizer.json (or a ``tokenizer.model``)."""
    place.mkdir()
    (place / "config.json").write_text("{}")
    settings: dict[str, Any] = {
        "added_tokens_decoder": {str(token["id"]): token for token in tokenizer["added_tokens"]}
    }
    for role in ("bos", "eos", "unk", "pad"):
        if (at := words.get(f"{ROLES.get(role, role)}_token_id")) is not None:
            settings[f"{role}_token"] = words.tokens[at]
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    (place / "tokenizer.json").write_text(json.dumps(tokenizer))
    if words.model in ("llama", "t5"):
        (place / "tokenizer.model").write_bytes(sentencepiece_model(words))
    families.tiny.save_safetensors(place / "model.safetensors", {"x": ("F32", [1], bytes(4))})
    spec = SPECS.get(words.model, TokenizerSpec())
    return vocabulary(open_checkpoint(place), len(words.tokens), spec, pre=pre)


def tokenized(keys: Metadata, given: Sequence[str], place: Path) -> list[list[int]]:
    """Ids by llama.cpp, of a llama of one layer with these keys of a vocabulary."""
    width, count = 32, len(keys[f"{KEYS}tokens"].value)
    shapes = {"token_embd": (count, width), "output_norm": (width,), "blk.0.attn_norm": (width,)}
    shapes |= {f"blk.0.{part}": (width, width) for part in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{part}": (width, width) for part in ("ffn_gate", "ffn_up", "ffn_down")}
    shapes["blk.0.ffn_norm"] = (width,)

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        dtype, type_ = (np.float32, Type.F32) if len(shape) < 2 else (np.float16, Type.F16)
        return Tensor(f"{name}.weight", type_, shape, lambda start, stop: np.zeros((stop - start, width), dtype))

    sizes = {"context_length": 512, "embedding_length": width, "block_count": 1, "feed_forward_length": width}
    sizes |= {"attention.head_count": 1, "vocab_size": count}
    metadata = {"general.architecture": Value(GGUFValueType.STRING, "llama")}
    metadata |= {f"llama.{key}": Value(GGUFValueType.UINT32, value) for key, value in sizes.items()}
    metadata["llama.attention.layer_norm_rms_epsilon"] = Value(GGUFValueType.FLOAT32, 1e-5)
    write(place, Model(metadata | keys, tuple(tensor(*one) for one in shapes.items())))
    with families.running(parts.llamacpp() / "bin" / "llama-server", place) as client:
        bodies = ({"content": text, "add_special": False, "parse_special": False} for text in given)
        return [client.post("/tokenize", json=body).json()["tokens"] for body in bodies]


def library(tokenizer: dict[str, Any]) -> Tokenizer:
    """A tokenizer.json in the library tokenizers; what looks like a control token is text."""
    made = Tokenizer.from_str(json.dumps(tokenizer))
    made.encode_special_tokens = True
    return made


def ids_of(tokenizer: Tokenizer, given: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(list(given), add_special_tokens=False)]


def compare(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> dict[str, int]:
    """How many texts and ids there are, and how many texts differ."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "texts": len(pairs),
        "ids": sum(len(one) for one in theirs),
        "differ": sum(one != other for one, other in pairs),
    }


def show(words: Vocabulary, text: str, ours: list[int], theirs: list[int]) -> None:
    """Print the first place where ids differ."""
    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0)
    around = ([words.tokens[token] for token in ids[max(0, at - 2) : at + 6]] for ids in (ours, theirs))
    print(f"  {text[:60]!r} at {at}:", *around)


def measure(name: str, place: Path, shown: int = 0) -> Iterator[dict[str, Any]]:
    """For each way to write a vocabulary's tokenizer.json: what is recognised, and how ids compare."""
    words = Vocabulary(name)
    given = asked(name)
    if words.model == "gpt2":
        said = words.get("pre") or UNSAID[name]
        pre = NAMED[SAME.get(said, said)]
        other = [one.expressions for one in PRE_TOKENIZERS if one.name == pre.name and one != pre]
        ways = [("llama.cpp's", pre.expressions), *(("published", one) for one in pre.published)]
        ways += [("other", one) for one in other]
        made = {way: byte_level(words, pre, expressions) for way, expressions in ways}
    else:
        said, made = words.get("pre"), {"": OTHERS[words.model](words)}
    named = words.get("pre") is not None or words.model != "gpt2"  # else llama.cpp takes a default that nobody means
    original = tokenized(words.metadata, given, place / "original.gguf") if named else None
    for i, (way, tokenizer) in enumerate(made.items()):
        keys = converted(words, tokenizer, place / f"directory{i}")
        ours = tokenized(keys, given, place / f"ours{i}.gguf")
        made_of = library(tokenizer)
        theirs = ids_of(made_of, given)
        differing = (one for one in zip(given, ours, theirs, strict=True) if one[1] != one[2])
        for one in itertools.islice(differing, shown):
            show(words, *one)
        own = [ids for _, ids in recorded(name)]
        yield {
            "vocabulary": name,
            "kind": words.model,
            "said": said or "",
            "expressions": way,
            "recognised": keys[f"{KEYS}pre"].value if f"{KEYS}pre" in keys else "",
            **compare(ours, theirs),
            "as_before": compare(ours, original)["differ"] if original else None,
            "recorded": compare(ids_of(made_of, [text for text, _ in recorded(name)]), own) if own else None,
        }


@functools.cache
def _borrowed(whole: bool) -> tuple[Metadata, Tokenizer]:
    words = Vocabulary(BORROWED)
    pre = NAMED[BORROWED]._replace(whole=whole)
    return words.metadata, library(byte_level(words, pre, pre.expressions))


def borrowed(pre: Pre, place: Path) -> dict[str, Any]:
    """A pre-tokenizer over a vocabulary that is not its own: what is compared is only where it cuts."""
    metadata, tokenizer = _borrowed(pre.whole)
    cuts = json.dumps({"type": "Sequence", "pretokenizers": steps(pre.expressions, published=False)})
    like = json.dumps({**EMPTY, "model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": json.loads(cuts)})
    tokenizer.pre_tokenizer = Tokenizer.from_str(like).pre_tokenizer
    keys = metadata | {f"{KEYS}pre": Value(GGUFValueType.STRING, pre.name)}
    ours = tokenized(keys, texts(), place / "ours.gguf")
    return {"pre": pre.name, **compare(ours, ids_of(tokenizer, texts()))}


def names() -> list[str]:
    return sorted(path.stem.removeprefix("ggml-vocab-") for path in parts.vocabularies().glob("*.gguf"))


def main(chosen: Sequence[str]) -> None:
    found: dict[str, list[Mapping[str, Any]]] = {"vocabularies": [], "pre": []}
    for name in chosen or names():
        with tempfile.TemporaryDirectory() as place:
            if name in NAMED and name not in names():
                print(borrowed(NAMED[name], Path(place)), flush=True)
                continue
            for result in measure(name, Path(place), shown=12 if chosen else 0):
                print(result, flush=True)
                found["vocabularies"].append(result)
    if not chosen:
        for pre in NAMED.values():
            with tempfile.TemporaryDirectory() as place:
                found["pre"].append(borrowed(pre, Path(place)))
                print(found["pre"][-1], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
