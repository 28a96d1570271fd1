"""Reads a SentencePiece model: its pieces, and how it treats text.

Fields are those of ``sentencepiece_model.proto`` (github.com/google/sentencepiece); a message is a row of tags, each
followed by a varint, 4 or 8 bytes, or a length and as many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ollamaq.errors import ModelRefused

PIECE = 1
TEXT, SCORE, TYPE = 1, 2, 3
SETTINGS = {2: {3: "model_type"}, 3: {2: "charsmap", 3: "dummy_prefix", 4: "remove_extra_whitespaces"}}
"""Fields of the trainer's and the normalizer's specification."""
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of pieces; GGUF's token types have the same numbers."""
FIXED = {1: 8, 5: 4}
"""Bytes of the wire types that are no varint and no string."""
MAX_PIECES = 1 << 21
MAX_VARINT = 10


@dataclass(frozen=True)
class SentencePieces:
    """A model's pieces (text, score, type), whether BPE merges them (else unigram), and how it normalizes text."""

    pieces: list[tuple[str, float, int]]
    bpe: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True


def read_sentencepiece(data: bytes, where: str) -> SentencePieces:
    """The model in a ``tokenizer.model``; ``where`` names the file in errors.

    Raises:
        ModelRefused: it is damaged, empty or absurdly large.
    """
    try:
        pieces: list[tuple[str, float, int]] = []
        settings: dict[str, int | bytes] = {}
        for number, value in _fields(data):
            if not isinstance(value, bytes):
                continue
            if number == PIECE:
                pieces.append(_piece(value))
                if len(pieces) > MAX_PIECES:
                    raise ValueError(f"more than {MAX_PIECES:,} pieces")
            elif number in SETTINGS:
                names = SETTINGS[number]
                settings |= {names[inner]: found for inner, found in _fields(value) if inner in names}
        if not pieces:
            raise ValueError("no pieces")
        charsmap = settings.get("charsmap", b"")
        return SentencePieces(
            pieces,
            settings.get("model_type", UNIGRAM) == BPE,
            charsmap if isinstance(charsmap, bytes) else b"",
            bool(settings.get("dummy_prefix", True)),
            bool(settings.get("remove_extra_whitespaces", True)),
        )
    except (ValueError, IndexError, struct.error) as error:
        raise ModelRefused(
            f"{where} is not a SentencePiece model: {error}", next_step="fetch or save it again"
        ) from None


def _piece(data: bytes) -> tuple[str, float, int]:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in _fields(data):
        if number == TEXT and isinstance(value, bytes):
            text = value
        elif number == SCORE and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == TYPE and isinstance(value, int):
            kind = value
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"a piece of type {kind}")
    return text.decode(), score, kind


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers of a message with their values: an int for a varint, else bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in FIXED:
            size = FIXED[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if size > len(data) - at:
            raise ValueError(f"{size} bytes at byte {at} of {len(data)}")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(MAX_VARINT):
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError(f"a number without end at byte {at}")
