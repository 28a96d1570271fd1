"""The one sink of the command line: the result on stdout, for people or as JSON; everything else on stderr."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from ollamaq.errors import OllamaqError

SCHEMA_VERSION = 1
INTERRUPTED = 130

P = ParamSpec("P")
R = TypeVar("R")

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Output:
    """How this run speaks: ``json`` for machines, ``quiet`` for scripts, else for people."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet

    def note(self, text: RenderableType) -> None:
        """Say something in passing."""
        if not self.quiet:
            stderr.print(text)

    def result(self, data: dict[str, Any], *renderables: RenderableType, brief: str) -> None:
        """The outcome: ``data`` as JSON, ``renderables`` for people, or just ``brief`` when quiet."""
        if self.as_json:
            print_json(data)
        elif self.quiet:
            print(brief, end="\n" if brief else "")
        else:
            for renderable in renderables:
                stdout.print(renderable)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """A ``progress(label, done, total)`` in bytes: bars in a terminal, a line for each finished step elsewhere."""
        if self.quiet:
            yield lambda label, done, total: None
        elif stderr.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=stderr) as bars:
                tasks: dict[str, Any] = {}

                def show(label: str, done: int, total: int) -> None:
                    if label not in tasks:
                        tasks[label] = bars.add_task(label, total=total or None)
                    bars.update(tasks[label], completed=done, total=total or None)

                yield show
        else:
            started: set[str] = set()

            def line(label: str, done: int, total: int) -> None:
                if label not in started:
                    started.add(label)
                    stderr.print(label)

            yield line


def print_json(data: dict[str, Any]) -> None:
    """One JSON document on stdout, with the version of its schema."""
    print(json.dumps({"schema_version": SCHEMA_VERSION} | data, ensure_ascii=False, indent=2))


def table(title: str, *columns: str) -> Table:
    """A table in the house's style; columns starting with ``>`` are aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return made


def size(n_bytes: int) -> str:
    """Bytes as people write them, in powers of 1000 as ``ollama list`` does."""
    value = float(n_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "KB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def command(run: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors into one sentence, the next step and an exit code; clean up on Ctrl-C and SIGTERM."""

    @functools.wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return run(*args, **kwargs)
        except OllamaqError as error:
            if kwargs.get("as_json"):
                print_json(described(error))
            raise failure(error) from None
        except KeyboardInterrupt:
            stderr.print("interrupted: nothing was left behind")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def described(error: OllamaqError) -> dict[str, Any]:
    """An error for machines."""
    return {"error": {"message": str(error), "next_step": error.next_step, "exit_code": error.exit_code}}


def failure(error: OllamaqError) -> typer.Exit:
    """Say what is wrong and what to do, and give the exit to raise."""
    stderr.print(f"[bold red]error:[/] {plain(str(error))}")
    if error.next_step:
        stderr.print(f"[bold]next:[/] {plain(error.next_step)}")
    return typer.Exit(error.exit_code)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def plain(text: str) -> str:
    """Somebody else's text, for a terminal: without control characters, and no markup."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text).replace("[", r"\[")
