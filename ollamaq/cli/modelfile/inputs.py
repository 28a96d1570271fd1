"""Modelfiles on the command line, ``-`` among them: read, shown as they would be, written back."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.errors import ToolchainError
from ollamaq.modelfile.files import find_modelfiles
from ollamaq.modelfile.parser import MAX_BYTES, bounded, decode, encode, read_bytes

STDIN = Path("-")
FINDINGS = 1
"""Exit code where something was found, or would change."""

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATHS]...",
        help="Modelfiles, directories that hold some, or - for standard input.",
        show_default="the current directory",
    ),
]
StdinFilename = Annotated[
    Path, typer.Option("--stdin-filename", help="What standard input is called; paths in it are relative to that.")
]
Ollama = Annotated[
    str, typer.Option("--ollama", metavar="VERSION", envvar="OLLAMAQ_OLLAMA", help="The version of Ollama it is for.")
]
Env = Annotated[
    str,
    typer.Option("--env", metavar="ENV", help="The environment, such as prod.", show_default="each of the catalogue's"),
]
Models = Annotated[
    list[str] | None, typer.Argument(metavar="[NAMES]...", help="Models of ollamaq.toml.", show_default=False)
]


@dataclass(frozen=True)
class Input:
    """A file's text: ``path`` is None for standard input, ``name`` what it is called."""

    path: Path | None
    name: Path
    text: str
    encoding: str
    intact: bool
    """Whether the text can be written back: not if there were bytes that mean nothing in its encoding."""

    def put(self, text: str) -> None:
        """Write a new text where the old one came from, to stdout if that was standard input."""
        data = encode(text, self.encoding)
        if self.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif text != self.text:
            try:
                self.path.write_bytes(data)
            except OSError as error:
                raise ToolchainError(
                    f"cannot write {self.path}: {error.strerror}", next_step="see its permissions"
                ) from error

    def diff(self, text: str) -> str:
        """What a new text changes, as a unified diff."""
        return unified(self.name, self.text, text)


def unified(name: Path, old: str, new: str) -> str:
    """What changes in a text, as a unified diff."""
    before, after = (whole.splitlines(keepends=True) for whole in (old, new))
    lines = difflib.unified_diff(before, after, str(name), str(name))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def inputs(paths: list[Path] | None, stdin_filename: Path) -> Iterator[Input]:
    """The files to work on, one after the other.

    Raises:
        UsageError: there is nothing at a path, or it cannot be read.
    """
    for path in [STDIN] if paths == [STDIN] else find_modelfiles(paths or [Path()]):
        name = stdin_filename if path == STDIN else path
        data = read_bytes(path) if path != STDIN else bounded(sys.stdin.buffer.read(MAX_BYTES + 1), name)
        text, encoding = decode(data)
        intact = encode(text, encoding) == data
        yield Input(None if path == STDIN else path, name, text, encoding, intact)
