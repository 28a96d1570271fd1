"""The chat formats in use, for models that come without any: ``templates/formats.toml`` and the two forms of each."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.modelfile.words import did_you_mean

FOLDER, TABLE = "templates", "formats.toml"


@dataclass(frozen=True)
class KnownFormat:
    """A chat format by its name; formats.toml tells what the fields mean."""

    name: str
    title: str
    models: tuple[str, ...]
    source: str
    stops: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    proved: tuple[str, ...] = ()
    proved_with_system: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    llamacpp: str = ""
    parameters: dict[str, int | float] = field(default_factory=dict)

    @property
    def jinja(self) -> str:
        """The chat template that a GGUF carries."""
        return _read(f"{self.name}.jinja")

    @property
    def go(self) -> str:
        """The TEMPLATE that a Modelfile carries."""
        return _read(f"{self.name}.gotmpl")


@cache
def known_formats() -> dict[str, KnownFormat]:
    """All of them, by name."""
    table: dict[str, dict[str, Any]] = tomllib.loads(_read(TABLE))
    return {
        name: KnownFormat(name, **{key: _frozen(value) for key, value in row.items()}) for name, row in table.items()
    }


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def find_format(name: str) -> KnownFormat:
    """The one of that name.

    Raises:
        UsageError: there is none.
    """
    found = known_formats().get(name.lower())
    if found is None:
        raise UsageError(
            f"there is no chat format {name[:80]!r}{did_you_mean(name, known_formats())}",
            next_step="see `ollamaq template list`",
        )
    return found


def suggested(special: Collection[str]) -> list[KnownFormat]:
    """Those that a vocabulary with these special tokens was made for: it has all of theirs, and of no other more."""
    fitting = [known for known in known_formats().values() if known.tokens and set(known.tokens) <= set(special)]
    most = max((len(known.tokens) for known in fitting), default=0)
    return [known for known in fitting if len(known.tokens) == most]


def shown(texts: Iterable[str]) -> str:
    """Stops or tokens on one line, with their white space to be seen."""
    return " ".join(text.replace(" ", "·").replace("\n", "↵") for text in texts)


def _read(name: str) -> str:
    return (_folder() / name).read_text(encoding="utf-8").removesuffix("\n")


@cache
def _folder() -> Traversable:
    """In the installed package, or beside it where it runs from its sources."""
    installed = files("ollamaq") / FOLDER
    return installed if installed.is_dir() else Path(__file__).parents[2] / FOLDER
