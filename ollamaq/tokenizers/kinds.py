"""A vocabulary from each kind of tokenizer files: the keys of GGUF in llama.cpp's order, without special roles.

Every function of ``Files`` gives ``model``, ``pre``, ``tokens``, ``scores``, ``token_type``, ``merges`` as far as
its kind has them. Rows of the embedding that no token has are ``[PADn]``, unused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gguf import TokenType

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.tokenizers.added import added_tokens, looks_special, role_tokens
from ollamaq.tokenizers.pre import named, recognise
from ollamaq.tokenizers.sentencepiece import SentencePieces, read_sentencepiece
from ollamaq.tokenizers.tekken import read_tekken

UNUSED_SCORE, ADDED_SCORE = -10000.0, -1000.0
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
PHANTOM_SPACE = "▁"
WORDPIECE_PRE = "jina-v2-en"
"""What the converter takes BERT's for; llama.cpp reads no pre-tokenizer of WordPiece."""
NUL = "🐉"
"""Stands for the piece of one NUL, which would end a string in C++."""
VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
"""Gemma 4's control tokens that a chat parser must see in the output."""


class Files(NamedTuple):
    """A checkpoint, the rows of its embedding, the pre-tokenizer the user named, and what llama.cpp calls the model."""

    checkpoint: Checkpoint
    vocab_size: int
    pre: str | None
    arch: str


@dataclass
class Rows:
    """Text, type and score of every row of the embedding."""

    size: int
    tokens: list[str] = field(init=False)
    types: list[int] = field(init=False)
    scores: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = [f"[PAD{i}]" for i in range(self.size)]
        self.types = [int(TokenType.UNUSED)] * self.size
        self.scores = [UNUSED_SCORE] * self.size

    def put(self, at: int, text: str, kind: int, score: float = ADDED_SCORE) -> None:
        """Set a row.

        Raises:
            ValueError: ``at`` is no id.
        """
        if not isinstance(at, int) or at < 0 or not isinstance(text, str):
            raise ValueError(f"token {text!r} with id {at!r}")
        if at < self.size:  # what has no row in the embedding cannot be used
            self.tokens[at], self.types[at], self.scores[at] = text, int(kind), score

    def keys(self, model: str = "llama", pre: str = "default") -> dict[str, Any]:
        return {
            "model": model,
            "pre": pre,
            "tokens": self.tokens,
            "scores": self.scores,
            "token_type": self.types,
        }


def _model(checkpoint: Checkpoint) -> dict[str, Any]:
    model = checkpoint.tokenizer.get("model")
    return model if isinstance(model, dict) else {}


def _model_type(checkpoint: Checkpoint) -> str:
    model = _model(checkpoint)
    return str(model.get("type") or ("BPE" if "merges" in model else "nameless"))


def found(checkpoint: Checkpoint) -> str:
    """What tokenizer a directory has, in words."""
    if checkpoint.tokenizer:
        fallback = " with byte fallback" if _model(checkpoint).get("byte_fallback") else ""
        return f"a {_model_type(checkpoint)} tokenizer{fallback} in tokenizer.json"
    return "a SentencePiece tokenizer" if checkpoint.sentencepiece else "a tokenizer in tekken.json"


def is_byte_level(checkpoint: Checkpoint) -> bool:
    return _model_type(checkpoint) == "BPE" and not _model(checkpoint).get("byte_fallback")


def has_byte_fallback(checkpoint: Checkpoint) -> bool:
    return _model_type(checkpoint) == "BPE" and bool(_model(checkpoint).get("byte_fallback"))


def has_sentencepiece(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.sentencepiece)


def is_wordpiece(checkpoint: Checkpoint) -> bool:
    return _model_type(checkpoint) == "WordPiece"


def is_unigram(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.sentencepiece) or _model_type(checkpoint) == "Unigram"


def has_tekken(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.tekken) and not checkpoint.tokenizer


def gpt2(files: Files) -> dict[str, Any]:
    """Byte-level BPE (``_set_vocab_gpt2``)."""
    tokenizer, where = files.checkpoint.tokenizer, str(files.checkpoint.tokenizer_path / "tokenizer.json")
    rows = _json_rows(files)
    name = named(files.pre) if files.pre else recognise(tokenizer, where)
    keys = rows.keys("gpt2", name) | {"merges": _merges(files.checkpoint)}
    del keys["scores"]
    return keys


def wordpiece(files: Files) -> dict[str, Any]:
    """BERT's: the start of a word is marked, not its continuation (``BertModel.set_vocab``)."""
    rows = _json_rows(files)
    control = int(TokenType.CONTROL)
    rows.tokens = [
        text if kind == control else text[2:] if text.startswith("##") else PHANTOM_SPACE + text
        for text, kind in zip(rows.tokens, rows.types, strict=True)
    ]
    keys = rows.keys("bert", WORDPIECE_PRE)
    del keys["scores"]
    return {"token_type_count": files.checkpoint.config.get("type_vocab_size", 1)} | keys


def llama_hf(files: Files) -> dict[str, Any]:
    """BPE over characters, with bytes for unknown ones (gguf-py's ``LlamaHfVocab``)."""
    return _byte_fallback(files).keys()


def gemma4(files: Files) -> dict[str, Any]:
    rows = _byte_fallback(files)
    rows.types = [
        int(TokenType.USER_DEFINED) if text in VISIBLE else kind
        for text, kind in zip(rows.tokens, rows.types, strict=True)
    ]
    keys = rows.keys("gemma4")
    del keys["pre"]
    return keys | {"merges": _merges(files.checkpoint)}


def sentencepiece(files: Files) -> dict[str, Any]:
    """``_set_vocab_sentencepiece``: pieces, then added tokens over them."""
    rows = _pieces(files, _read(files))
    _put_added(files, rows)
    for at, token in _decoder(files.checkpoint):
        text = token["content"]
        if token.get("special") or looks_special(text):
            rows.put(at, text, TokenType.CONTROL)
        else:
            rows.put(at, text.replace(PHANTOM_SPACE, " "), TokenType.USER_DEFINED)
    return rows.keys()


def phi3(files: Files) -> dict[str, Any]:
    """Phi-3's: only what the files call special is a control token, and tokenizer.json has a say."""
    rows = _pieces(files, _read(files))
    _put_added(files, rows)
    _put_as_said(files.checkpoint, rows)
    return rows.keys()


def internlm2(files: Files) -> dict[str, Any]:
    """As Phi-3's; and the chat's end of turn is the end of text."""
    model = _read(files)
    rows = _pieces(files, model)
    for at, text in enumerate(rows.tokens):
        if text == "\0":
            rows.tokens[at] = NUL
        if text.startswith("[UNUSED"):
            rows.types[at] = int(TokenType.UNUSED)
    _put_added(files, rows)
    _put_as_said(files.checkpoint, rows)
    return rows.keys() | {"add_space_prefix": model.dummy_prefix}


def unigram(files: Files) -> dict[str, Any]:
    """T5's; a model that merges pieces instead is as any other SentencePiece model."""
    model = _read(files)
    if model.bpe:
        return sentencepiece(files)
    rows = _pieces(files, model)
    _put_added(files, rows)
    keys = rows.keys("t5") | {
        "add_space_prefix": model.dummy_prefix,
        "remove_extra_whitespaces": model.remove_extra_whitespaces,
    }
    return keys | ({"precompiled_charsmap": model.charsmap} if model.charsmap else {})


def tekken(files: Files) -> dict[str, Any]:
    """Mistral's byte-level BPE (gguf-py's ``MistralVocab``), with the roles of its tokens."""
    data = files.checkpoint.tekken
    read, where = read_tekken(data), str(files.checkpoint.tokenizer_path / "tekken.json")
    if len(read.texts) > files.vocab_size:
        raise _too_many(where, len(read.texts), files.vocab_size)
    rows = Rows(files.vocab_size)
    for at, text in enumerate(read.texts):
        rows.put(at, text, TokenType.CONTROL if at < len(read.special) else TokenType.NORMAL)
    split = {"type": "Split", "pattern": {"Regex": data["config"]["pattern"]}, "behavior": "Isolated"}
    steps = {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel", "use_regex": False}]}
    like = {"pre_tokenizer": steps, "model": {"vocab": {}, "ignore_merges": True}}
    first = {
        "model": "gpt2",
        "pre": named(files.pre) if files.pre else recognise(like, where),
        "merges": read.merges(),
    }
    rows.scores = [0] * rows.size
    return first | _mistral(files, rows, {text: at for at, text in enumerate(read.special)})


def mistral_sentencepiece(files: Files) -> dict[str, Any]:
    """SentencePiece of Mistral's own format (``MistralVocab``), with the roles of its tokens."""
    model = _read(files)
    rows = _pieces(files, model)
    ids = {
        text: at for at, (text, _, kind) in enumerate(model.pieces) if kind in (TokenType.CONTROL, TokenType.UNKNOWN)
    }
    return {"model": "llama"} | _mistral(files, rows, {"<pad>": ids["</s>"]} | ids)


def _mistral(files: Files, rows: Rows, special: Mapping[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": special["<s>"],
        "eos_token_id": special["</s>"],
        "unknown_token_id": special["<unk>"],
        "padding_token_id": special["<pad>"],
        "tokens": rows.tokens,
        "scores": rows.scores,
        "token_type": rows.types,
        f"{files.arch}.vocab_size": rows.size,
        "add_bos_token": True,
        "add_eos_token": False,
    }


def _json_rows(files: Files) -> Rows:
    """The vocabulary of a tokenizer.json (``get_vocab_base``)."""
    checkpoint, model = files.checkpoint, _model(files.checkpoint)
    vocabulary: dict[str, int] = model["vocab"]
    added = added_tokens(checkpoint, vocabulary)
    _fits(files, vocabulary | {text: at for text, (at, _) in added.items()})
    rows = Rows(files.vocab_size)
    for text, at in vocabulary.items():
        rows.put(at, text, TokenType.NORMAL)
    for text, (at, special) in added.items():
        if special:
            rows.put(at, text, TokenType.CONTROL)
        else:
            rows.put(at, text.replace(PHANTOM_SPACE, " "), TokenType.USER_DEFINED)
    return rows


def _byte_fallback(files: Files) -> Rows:
    vocabulary: dict[str, int] = _model(files.checkpoint)["vocab"]
    added = added_tokens(files.checkpoint, vocabulary)
    special = set(role_tokens(files.checkpoint))
    ids = vocabulary | {text: at for text, (at, _) in added.items()}
    _fits(files, ids)
    rows = Rows(max(ids.values()) + 1)
    for text, at in ids.items():
        if at < len(vocabulary) and BYTE.fullmatch(text):
            kind = TokenType.BYTE
        elif text in special:
            kind = TokenType.CONTROL
        else:
            kind = TokenType.NORMAL if at < len(vocabulary) else TokenType.USER_DEFINED
        rows.put(at, text, kind)
    return rows


def _fits(files: Files, ids: dict[str, int]) -> None:
    largest = max(ids, key=lambda text: ids[text])
    if ids[largest] >= files.vocab_size:
        raise ModelRefused(
            f"{files.checkpoint.tokenizer_path / 'tokenizer.json'} has token {largest!r} at {ids[largest]},"
            f" and the embedding has {files.vocab_size} rows",
            next_step="resize the embedding to the tokenizer: model.resize_token_embeddings(len(tokenizer))",
        )


def _merges(checkpoint: Checkpoint) -> list[str]:
    return [_merge(merge) for merge in _model(checkpoint)["merges"]]


def _merge(merge: Any) -> str:
    """A merge as "left right", whichever way it is written; a space in a part becomes its byte-level letter."""
    if isinstance(merge, str):
        return merge
    left, right = merge
    return f"{left.replace(' ', 'Ġ')} {right.replace(' ', 'Ġ')}"


def _read(files: Files) -> SentencePieces:
    return read_sentencepiece(files.checkpoint.sentencepiece, str(files.checkpoint.tokenizer_path / "tokenizer.model"))


def _pieces(files: Files, model: SentencePieces) -> Rows:
    if len(model.pieces) > files.vocab_size:
        raise _too_many(files.checkpoint.tokenizer_path / "tokenizer.model", len(model.pieces), files.vocab_size)
    rows = Rows(files.vocab_size)
    for at, (text, score, kind) in enumerate(model.pieces):
        rows.put(at, text, TokenType.NORMAL if kind == TokenType.USER_DEFINED else kind, score)
    return rows


def _too_many(where: str | Path, pieces: int, rows: int) -> ModelRefused:
    return ModelRefused(
        f"{where} has {pieces} pieces, and the embedding has {rows} rows",
        next_step="is it the tokenizer that the model was trained with?",
    )


def _put_added(files: Files, rows: Rows) -> None:
    for text, at in files.checkpoint.added_tokens.items():
        rows.put(at, text, TokenType.USER_DEFINED)


def _put_as_said(checkpoint: Checkpoint, rows: Rows) -> None:
    listed = [(token["id"], token) for token in checkpoint.tokenizer.get("added_tokens") or []]
    for at, token in [*_decoder(checkpoint), *listed]:
        rows.put(at, token["content"], TokenType.CONTROL if token.get("special") else TokenType.USER_DEFINED)


def _decoder(checkpoint: Checkpoint) -> list[tuple[int, dict[str, Any]]]:
    decoder = checkpoint.tokenizer_config.get("added_tokens_decoder") or {}
    return [(int(at), token) for at, token in decoder.items()]
