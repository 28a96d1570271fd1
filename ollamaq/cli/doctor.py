"""``ollamaq doctor``: what is here, and what to do about what isn't."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape

from ollamaq.cli.options import Json, Quiet
from ollamaq.cli.output import Output, command, table
from ollamaq.errors import OllamaqError, ToolchainError
from ollamaq.ollama.client import Client
from ollamaq.ollama.host import parse_host
from ollamaq.ollama.store import default_root
from ollamaq.quantize import default_threads, kernels
from ollamaq.servers.daemon import docker_version


@dataclass(frozen=True)
class Finding:
    """One thing looked at: there or not, what was seen, and what to do where it is missing."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


def _kernels() -> str:
    return f"{kernels.LEVEL}, of {', '.join(kernels.LEVELS)} that run here; {default_threads()} threads"


def _server() -> str:
    url = parse_host(os.environ.get("OLLAMA_HOST", ""))
    with Client(url) as client:
        return f"Ollama {client.version()} at {url}"


def _docker() -> str:
    return docker_version()


def _module(name: str) -> Callable[[], str]:
    def look() -> str:
        if importlib.util.find_spec(name) is None:
            raise ToolchainError(f"{name} is not installed")
        return f"{name} is installed"

    return look


def _store() -> str:
    root = default_root()
    if not os.access(next(path for path in (root, *root.parents) if path.exists()), os.W_OK):
        raise ToolchainError(f"{root} cannot be written", next_step="set OLLAMA_MODELS to a directory of yours")
    return str(root)


LOOKED_AT: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("kernels", _kernels, "install ollamaq where there is a C compiler: pip install --force-reinstall ollamaq"),
    ("server", _server, "start one with `ollama serve`, or set OLLAMA_HOST"),
    ("docker", _docker, "start Docker to gate models in a throwaway container"),
    ("engine", _module("xllamacpp"), "pip install 'ollamaq[embedded]' to test models without a server"),
    ("tokenizers", _module("tokenizers"), "pip install 'ollamaq[verify]' to compare token counts"),
    ("store", _store, "set OLLAMA_MODELS to a directory that can be written"),
)
RUNS_MODELS = frozenset({"server", "docker", "engine"})


@command
def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what of Ollama, Docker, the embedded engine and the kernels is here, and how to get what isn't."""
    out = Output(as_json=as_json, quiet=quiet)
    findings = [_look(*entry) for entry in LOOKED_AT]
    rows = table("", "", "", "")
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[yellow]missing[/]"
        rows.add_row(finding.name, mark, escape(finding.seen))
        if finding.advice:
            rows.add_row("", "", f"[dim]{escape(finding.advice)}[/]")
    data: dict[str, Any] = {"findings": [asdict(finding) for finding in findings]}
    missing = [finding.name for finding in findings if not finding.ok]
    out.result(data, rows, brief=" ".join(missing))
    if RUNS_MODELS.issubset(missing):
        raise ToolchainError(
            "nothing here can run a model: no Ollama server, no Docker, no embedded engine",
            next_step="pip install 'ollamaq[embedded]'",
        )


def _look(name: str, look: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(name, True, look())
    except OllamaqError as error:
        return Finding(name, False, str(error), error.next_step or advice)
