"""Amounts of bytes as people write them."""

from __future__ import annotations

import re

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str) -> int | None:
    """Bytes of ``2GB``, ``1.5 GiB`` or ``300``; None where it is no such amount."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)?", text.strip().upper())
    if not match or (match[2] or "B") not in UNITS:
        return None
    return int(float(match[1]) * UNITS[match[2] or "B"])
