"""The package: ``model.gguf``, ``Modelfile`` and ``release.json`` in one directory.

The same input and the same version of ollamaq give the same bytes: nothing in it tells a time, a path or a duration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ollamaq.digests import digest_of
from ollamaq.files import write_text
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import render
from ollamaq.quantize import Plan, write_plan
from ollamaq.servers.target import Progress

SCHEMA_VERSION = 1
GGUF, MODELFILE, RELEASE, LOG = "model.gguf", "Modelfile", "release.json", "server.log"


@dataclass(frozen=True)
class Package:
    """A package on disk; ``sha256`` and ``size`` are those of its GGUF."""

    directory: Path
    modelfile: Modelfile
    sha256: str
    size: int

    @property
    def gguf(self) -> Path:
        return self.directory / GGUF


def build(directory: Path, plan: Plan, modelfile: Modelfile, *, threads: int | None, progress: Progress) -> Package:
    """Quantize into ``directory`` and write the Modelfile beside the GGUF."""
    gguf = directory / GGUF
    for old in (RELEASE, LOG):  # they spoke of the GGUF that is replaced now
        (directory / old).unlink(missing_ok=True)
    text = render(modelfile)
    size = write_plan(gguf, plan, threads=threads, progress=lambda done, total: progress("quantizing", done, total))
    write_text(directory / MODELFILE, text)
    return Package(directory, modelfile, digest_of(gguf, _counter("hashing model.gguf", size, progress)), size)


def input_digests(inputs: dict[str, Path], progress: Progress) -> dict[str, str]:
    """SHA-256 of every input file, by name."""
    count = _counter("hashing the checkpoint", sum(path.stat().st_size for path in inputs.values()), progress)
    return {name: digest_of(inputs[name], count) for name in sorted(inputs)}


def write_release(package: Package, plan: Plan, **facts: Any) -> dict[str, Any]:
    """Write ``release.json``: what went in, what came out, and what was seen of it. Returns what it says."""
    release = {
        "schema_version": SCHEMA_VERSION,
        "versions": {name: version(name) for name in ("ollamaq", "gguf")},
        "gguf": {"file": GGUF, "bytes": package.size, "sha256": package.sha256},
        "bits_per_weight": round(plan.bits_per_weight, 4),
        **facts,
        "tensors": [
            {"name": planned.tensor.name, "type": planned.type.name, "shape": list(planned.tensor.shape)}
            for planned in plan.tensors
        ],
    }
    write_text(package.directory / RELEASE, json.dumps(release, ensure_ascii=False, indent=2) + "\n")
    return release


def write_log(directory: Path, logs: Sequence[str]) -> Path:
    """Keep what servers have logged of a package that failed; where it is."""
    write_text(directory / LOG, "\n".join(logs))
    return directory / LOG


def _counter(label: str, total: int, progress: Progress) -> Callable[[int], None]:
    """Adds up what is read, and passes it on."""
    done = 0

    def count(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        progress(label, done, total)

    return count
