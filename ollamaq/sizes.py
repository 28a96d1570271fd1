"""Amounts of bytes as people write them: ``GB`` counts in thousands, ``GiB`` and ``G`` in 1024."""

from __future__ import annotations

import re

UNITS = {"": 1, "B": 1}
for _power, _prefix in enumerate("KMGT", start=1):
    UNITS |= {f"{_prefix}B": 1000**_power, f"{_prefix}IB": 1024**_power, _prefix: 1024**_power}


def parse_size(text: str) -> int | None:
    """Bytes of ``2GB``, ``1.5 GiB``, ``512M`` or ``300``; None where it is no such amount."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Z]*)", text.strip().upper())
    if not match or match[2] not in UNITS:
        return None
    return int(float(match[1]) * UNITS[match[2]])
