"""Modelfiles below a directory, by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ollamaq.errors import UsageError

PATTERNS = ("Modelfile", "Modelfile.*", "*.Modelfile", "*.modelfile")

_SKIPPED = frozenset(("node_modules", "venv", "__pycache__", "build", "dist"))


def find_modelfiles(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given, and the Modelfiles below directories; hidden and built directories are passed over.

    Raises:
        UsageError: there is nothing at one of the paths.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(_below(path))
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"{path} does not exist", next_step="give Modelfiles, or directories that hold some")
    return list(found)


def _below(directory: Path) -> Iterable[Path]:
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _SKIPPED and not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if any(Path(name).match(p) for p in PATTERNS))
