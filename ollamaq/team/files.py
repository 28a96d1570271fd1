"""Files of presets, which may come from strangers: small, checked, and never outside of their directory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.team.schema import check

CATALOGUE = "ollamaq.toml"
PYPROJECT, SECTION = "pyproject.toml", "tool.ollamaq"
"""Where a catalogue may stand instead, and the table that it is there."""
MAX_BYTES = 1 << 20


def inside(root: Path, directory: Path, path: str, said: str) -> Path:
    """``path``, relative to ``directory``, if it stays within ``root``, symbolic links and all.

    Raises:
        UsageError: it does not; ``said`` names file and key.
    """
    if "\0" not in path:
        found = (directory / path).resolve()
        if not Path(path).is_absolute() and found.is_relative_to(root.resolve()):
            return found
    raise UsageError(f"{said}: {path!r} leaves {root}", next_step="give a path below that directory")


def read_text(path: Path, said: str = "") -> str:
    """The text of a file of at most `MAX_BYTES`.

    Raises:
        UsageError: it cannot be read, is larger, or is not UTF-8.
    """
    named = f"{said}: {path}" if said else str(path)
    try:
        if not path.is_file():
            raise UsageError(f"{named} is not a file", next_step="give the path of a text file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{named} cannot be read: {error.strerror}", next_step="see its permissions") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{named} has more than {MAX_BYTES >> 20} MiB", next_step="is this the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{named} is not UTF-8 at byte {error.start}", next_step="save it as UTF-8") from error


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} is not TOML: {why}", next_step="see https://toml.io") from error


def catalogue_in(directory: Path) -> Path | None:
    """The file of a directory that holds a catalogue, if one does.

    Raises:
        UsageError: its ``pyproject.toml`` cannot be read, or is not TOML.
    """
    if (directory / CATALOGUE).is_file():
        return directory / CATALOGUE
    project = directory / PYPROJECT
    return project if project.is_file() and _section(read_toml(project)) is not None else None


def find_catalogue(start: Path) -> Path | None:
    """The file of the catalogue in ``start`` or above it; the way up ends at the root of a Git repository."""
    for directory in (start, *start.parents):
        if found := catalogue_in(directory):
            return found
        if (directory / ".git").exists():
            break
    return None


def read_catalogue(path: Path) -> dict[str, Any]:
    """The catalogue in a file.

    Raises:
        UsageError: it cannot be read, is not TOML, or says something that the schema does not know.
    """
    data, key = read_toml(path), section(path)
    if key:
        data = _section(data) or {}
    check(data, "ollamaq", str(path), key)
    return data


def section(path: Path) -> str:
    """The key of the catalogue in its file: empty where it is the whole file."""
    return SECTION if path.name == PYPROJECT else ""


def read_preset(path: Path) -> dict[str, Any]:
    """A preset in a file of its own.

    Raises:
        UsageError: it cannot be read, is not TOML, or says something that the schema does not know.
    """
    data = read_toml(path)
    check(data, "preset", str(path))
    return data


def _section(data: dict[str, Any]) -> dict[str, Any] | None:
    tool = data.get("tool")
    found = tool.get("ollamaq") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else None
