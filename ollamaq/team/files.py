"""Files of presets, which may come from strangers: small, checked, and never outside of their directory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.team.schema import check

CATALOGUE = "ollamaq.toml"
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


def read_toml(path: Path, schema: str) -> dict[str, Any]:
    """A TOML file, of one of the schemas.

    Raises:
        UsageError: it cannot be read, is not TOML, or says something that the schema does not know.
    """
    text = read_text(path).replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} is not TOML: {why}", next_step="see https://toml.io") from error
    check(data, schema, str(path))
    return data
