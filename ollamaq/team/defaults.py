"""Settings of this machine's commands that a repository gives: the table ``defaults`` of its catalogue.

Only the catalogue in the working directory or above counts: a model's own directory, which may come from a stranger,
does not say where models are sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamaq.team.files import find_catalogue, read_catalogue, section


@dataclass(frozen=True)
class Defaults:
    """``values`` by the names of options, and the file that says them."""

    values: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def origin(self, name: str) -> str:
        """Where one of them is said."""
        assert self.file
        return f"{self.file}: {f'{section(self.file)}.defaults.{name}'.lstrip('.')}"


def read_defaults(start: Path = Path()) -> Defaults:
    """The defaults for commands run in ``start``; none where there is no catalogue.

    Raises:
        UsageError: the catalogue cannot be read, or is not as its schema says.
    """
    if (found := find_catalogue(start.absolute())) is None:
        return Defaults()
    file = start / os.path.relpath(found, start.absolute())
    return Defaults(read_catalogue(file).get("defaults", {}), file)
