"""Versions of Ollama, and since which one it knows which instruction.

From the history of Ollama's ``parser`` and ``cmd``.
"""

from __future__ import annotations

import re

from ollamaq.errors import UsageError

Version = tuple[int, ...]

NEWEST = "0.34.2"
"""The version that these rules were written for."""

JINJA = (0, 30, 0)
"""From here on a GGUF's own chat template can be what renders a chat."""
FINISHED_ONLY = (0, 34, 1)
"""From here on nothing is converted, merged or quantized: ADAPTER is refused, safetensors become MLX models."""

SINCE: dict[str, Version] = {
    "MESSAGE": (0, 1, 34),
    "RENDERER": (0, 12, 0),
    "PARSER": (0, 12, 0),
    "REQUIRES": (0, 14, 0),
    "DRAFT": (0, 23, 1),
}

_NUMBER = r"(?:0|[1-9]\d*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER = re.compile(
    rf"v?{_NUMBER}(\.{_NUMBER}(\.{_NUMBER}(-{_IDENTIFIER}(\.{_IDENTIFIER})*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?",
    re.ASCII,
)
"""What Ollama takes in REQUIRES (``semver.IsValid`` of golang.org/x/mod)."""


def parse_version(text: str) -> Version:
    """``0.34.2`` or ``v0.34.2-rc1`` as numbers; what follows them does not count.

    Raises:
        UsageError: it is not a version.
    """
    if not SEMVER.fullmatch(text):
        raise UsageError(f"{text!r} is not a version of Ollama", next_step=f"write it as {NEWEST}")
    numbers = [int(number) for number in re.split(r"[-+]", text.removeprefix("v"))[0].split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def written(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


NEWEST_VERSION = parse_version(NEWEST)
