"""What a FROM leads to: files, as Ollama's ``expandPaths`` finds them, or else the name of a model."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ollamaq.errors import UsageError

MAGIC = b"GGUF"
LIKE_A_PATH = re.compile(r"[./~\\]|.*\.(gguf|bin|safetensors|pth)$|.*[*?]", re.IGNORECASE | re.DOTALL)
_LIKE_A_FILE = re.compile(r"[./~]|.*\.(gguf|jinja|j2|gotmpl|tmpl|modelfile)$", re.IGNORECASE | re.DOTALL)
_WEIGHTS = ("model*.safetensors", "consolidated*.safetensors", "pytorch_model*.bin", "consolidated*.pth", "*.gguf")


class Kind(Enum):
    """What lies at the other end."""

    NAME = "a model's name"
    MISSING = "a path at which there is nothing"
    GGUF = "GGUF"
    SAFETENSORS = "safetensors"
    OTHER = "something else"
    UNKNOWN = "directories with wildcards, which are not looked through"


@dataclass(frozen=True)
class From:
    """A value of FROM or DRAFT: its kind, and the paths it stands for."""

    value: str
    kind: Kind
    paths: tuple[Path, ...] = ()


def path_of(argument: str) -> Path | None:
    """The file or directory that a command is to look at; None where it is told the name of a model on a server.

    Raises:
        UsageError: it is written like a path, and there is nothing.
    """
    if os.path.lexists(argument):
        return Path(argument)
    if _LIKE_A_FILE.match(argument):
        raise UsageError(f"there is nothing at {argument}", next_step="see how it is spelled, and where you are")
    return None


def is_gguf(path: Path) -> bool:
    """Whether a file is one, by its first bytes.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", next_step="see its permissions") from error


def resolve(value: str, directory: Path) -> From:
    """Look where ``value`` leads to; only the first bytes of a file are read."""
    if "\0" in value:
        return From(value, Kind.MISSING)
    if glob.has_magic(os.path.dirname(value)):
        return From(value, Kind.UNKNOWN)
    pattern = os.path.join(directory, os.path.expanduser(value))
    try:
        found = tuple(map(Path, sorted(glob.glob(pattern)))) if glob.has_magic(pattern) else ()
        paths = found or ((Path(pattern),) if value and os.path.lexists(pattern) else ())
        kinds = {_kind(path) for path in paths}
    except (OSError, ValueError):
        return From(value, Kind.MISSING)
    if not paths:
        return From(value, Kind.MISSING if LIKE_A_PATH.match(value) else Kind.NAME)
    return From(value, kinds.pop() if len(kinds) == 1 else Kind.OTHER, paths)


def _kind(path: Path) -> Kind:
    if path.is_dir():
        first = next((found for pattern in _WEIGHTS for found in sorted(path.glob(pattern))), None)
        return _kind(first) if first and not first.is_dir() else Kind.OTHER
    if path.suffix == ".safetensors":
        return Kind.SAFETENSORS
    if not path.is_file():
        return Kind.OTHER
    with path.open("rb") as file:
        return Kind.GGUF if file.read(len(MAGIC)) == MAGIC else Kind.OTHER
