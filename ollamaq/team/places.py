"""Where presets are found: the model's directory, the repository, shared directories, installed packages, in order."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.modelfile.words import did_you_mean
from ollamaq.team.files import CATALOGUE, catalogue_in, find_catalogue, inside, read_catalogue, read_preset, section

SHARED = "OLLAMAQ_PRESETS"
"""Environment variable: directories with presets, separated as in PATH."""
ENTRY_POINTS = "ollamaq.presets"
"""Group of entry points: each value is a package whose directory has presets."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True)
class Table:
    """A preset, or a ``model``, as it is written: ``data`` at ``key`` of ``file``; its paths stay within ``root``."""

    name: str
    data: dict[str, Any]
    file: Path
    root: Path
    key: str = ""
    model: bool = False

    def where(self, key: str) -> str:
        """A key of it, for people."""
        return f"{self.file}: {f'{self.key}.{key}' if self.key else key}"


@dataclass(frozen=True)
class Place:
    """Somewhere presets are: in ``folder``, a file each, and in the ``catalogue`` of ``file``; their paths stay within
    ``root``.
    """

    label: str
    root: Path
    folder: Path
    catalogue: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def names(self) -> list[str]:
        files = [path.stem for path in self.folder.glob("*.toml") if path.name != CATALOGUE]
        return sorted({*self.catalogue.get("presets", {}), *(name for name in files if _NAME.fullmatch(name))})

    def get(self, name: str) -> Table | None:
        """A preset, if it is here.

        Raises:
            UsageError: it cannot be read, or is here twice.
        """
        path = self.folder / f"{name}.toml"
        written = self.catalogue.get("presets", {}).get(name)
        if not os.path.lexists(path):
            return _table(self.root, self.file, "presets", name, written) if self.file and written is not None else None
        if written is not None:
            raise UsageError(f"{self.file} has a preset {name}, and so has {path}", next_step="remove one")
        inside(self.root, self.folder, path.name, f"preset {name}")
        return Table(name, read_preset(path), path, self.root)


@dataclass(frozen=True)
class Team:
    """What is known of a team from a directory: its models and environments, and every place with presets."""

    places: tuple[Place, ...]
    root: Path | None = None
    catalogue: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    @property
    def models(self) -> dict[str, Table]:
        if not (self.root and self.file):
            return {}
        written = self.catalogue.get("models", {}).items()
        return {name: _table(self.root, self.file, "models", name, data) for name, data in written}

    @property
    def environments(self) -> list[str]:
        return list(self.catalogue.get("environments", ()))

    def model(self, name: str) -> Table:
        """A model of the catalogue.

        Raises:
            UsageError: there is none of that name.
        """
        if (model := self.models.get(name)) is None:
            step = f"it has {', '.join(self.models)}" if self.models else f"write one into {CATALOGUE}"
            raise UsageError(
                f"{self.file or CATALOGUE} has no model {name!r}{did_you_mean(name, self.models)}", next_step=step
            )
        return model

    def presets(self, name: str) -> Iterator[Table]:
        """Every preset of that name, the one that counts first."""
        if _NAME.fullmatch(name):
            yield from (found for place in self.places if (found := place.get(name)))

    def preset(self, name: str) -> Table:
        """The preset of that name that counts.

        Raises:
            UsageError: there is none.
        """
        if (found := next(self.presets(name), None)) is None:
            names = list(dict.fromkeys(name for place in self.places for name in place.names()))
            looked = ", ".join(str(place.folder) for place in self.places)
            raise UsageError(
                f"there is no preset {name[:80]!r}{did_you_mean(name, names)}",
                next_step=f"looked in {looked}" if looked else f"write presets/{name[:80]}.toml beside an {CATALOGUE}",
            )
        return found


def find_team(start: Path = Path(), model: Path | None = None) -> Team:
    """The team's catalogue in ``start`` or above it, and where its presets are; ``model`` is a model's directory.

    The way up ends at the root of a Git repository. What is not below the catalogue's directory is only looked into
    where the user says so, by OLLAMAQ_PRESETS or by installing a package.

    Raises:
        UsageError: a file cannot be read, or is not as its schema says.
    """
    found = find_catalogue(start.absolute())
    root = start / os.path.relpath(found.parent, start.absolute()) if found else None
    file = root / found.name if root and found else None
    catalogue = read_catalogue(file) if file else {}
    places = []
    if model and model.is_dir() and not (root and model.resolve() == root.resolve()):
        own = catalogue_in(model)
        places.append(Place("the model's directory", model, model / "presets", read_catalogue(own) if own else {}, own))
    if root and file:
        places.append(Place("the repository", root, root / "presets", catalogue, file))
        for i, path in enumerate(catalogue.get("shared", ())):
            inside(root, root, path, f"{file}: {_key(file, f'shared[{i}]')}")
            places.append(Place("shared", root / path, root / path))
    given = [Path(path).expanduser() for path in os.environ.get(SHARED, "").split(os.pathsep) if path]
    places += [Place(SHARED, path, path) for path in given]
    places += [Place(f"package {name}", path, path) for name, path in _packages()]
    return Team(tuple(places), root, catalogue, file)


def _table(root: Path, file: Path, kind: str, name: str, data: dict[str, Any]) -> Table:
    return Table(name, data, file, root, _key(file, f"{kind}.{name}"), model=kind == "models")


def _key(file: Path, key: str) -> str:
    return f"{section(file)}.{key}".lstrip(".")


def _packages() -> Iterator[tuple[str, Path]]:
    """Directories of installed packages with presets; nothing of theirs is run but their parents' ``__init__``."""
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            spec = importlib.util.find_spec(entry.module)
        except (ImportError, ValueError):
            spec = None
        for path in (spec.submodule_search_locations if spec else None) or ():
            yield entry.name, Path(path)
