"""A picture to ask about: a red disc on white, made here."""

from __future__ import annotations

import base64
import struct
import zlib

SIDE = 112
"""Pixels: a multiple of every published tower's patches."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int) -> bytes:
    """The disc as a PNG (RFC 2083) of 8 bits a colour."""
    rows = []
    for y in range(side):
        inside = [(2 * x + 1 - side) ** 2 + (2 * y + 1 - side) ** 2 < (side * 0.7) ** 2 for x in range(side)]
        rows.append(b"\0" + b"".join(b"\xd0\x10\x10" if red else b"\xff\xff\xff" for red in inside))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(rows), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


PICTURE = base64.b64encode(_png(SIDE)).decode()
"""In base64, as Ollama's API takes pictures."""
