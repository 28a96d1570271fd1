"""The package: ``model.gguf``, ``Modelfile`` and ``release.json`` in one directory, ``mmproj.gguf`` if it sees.

The same input and the same version of ollamaq give the same bytes: nothing in it tells a time, a path or a duration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ollamaq.digests import digest_of
from ollamaq.errors import UsageError
from ollamaq.files import Blob, sha256_of, write_text
from ollamaq.gguf.model import Model
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.read import load_modelfile
from ollamaq.modelfile.render import render
from ollamaq.ollama import silent
from ollamaq.ollama.contents import GGUF, PROJECTOR
from ollamaq.provenance import BOM, STATEMENT, bill_of_materials, statement, written
from ollamaq.quantize import Plan, write_plan
from ollamaq.servers.target import Progress
from ollamaq.signing import ENVELOPE, sign

SCHEMA_VERSION = 1
MODELFILE = "Modelfile"
RELEASE, LOG = "release.json", "server.log"


@dataclass(frozen=True)
class Package:
    """A package on disk; ``sha256`` and ``size`` are those of its GGUF, ``projector`` is the one beside it."""

    directory: Path
    modelfile: Modelfile
    sha256: str
    size: int
    projector: Blob | None = None

    @property
    def gguf(self) -> Path:
        return self.directory / GGUF


def open_package(directory: Path, progress: Progress = silent) -> Package:
    """A package that was built before.

    Raises:
        UsageError: the directory is not a package, or its Modelfile is not one.
        ModelRefused: the GGUF cannot be read.
    """
    gguf = directory / GGUF
    if not gguf.is_file():
        raise UsageError(f"{directory} has no {GGUF}", next_step="give a package, as `ollamaq publish` leaves it")
    modelfile = load_modelfile(directory / MODELFILE)
    named = [text.removeprefix("./") for text in (modelfile.from_, modelfile.projector) if text]
    if named not in ([GGUF], [GGUF, PROJECTOR]):
        raise UsageError(
            f"{directory / MODELFILE} is FROM {', '.join(named)}, not ./{GGUF}", next_step="give a package of ollamaq's"
        )
    found = [_hashed(directory / name, progress) for name in named]
    return Package(directory, modelfile, found[0].sha256, found[0].size, *found[1:])


def _hashed(path: Path, progress: Progress) -> Blob:
    size = path.stat().st_size if path.is_file() else 0
    return Blob(path, digest_of(path, _counter(f"hashing {path.name}", size, progress)), size)


def build(
    directory: Path,
    plan: Plan,
    modelfile: Modelfile,
    *,
    projector: Model | None = None,
    threads: int | None,
    progress: Progress,
) -> Package:
    """Quantize into ``directory`` and write the Modelfile beside the GGUF, and the projector where there is one."""
    gguf, eyes = directory / GGUF, directory / PROJECTOR
    for old in (RELEASE, LOG, STATEMENT, BOM, ENVELOPE):  # they spoke of the GGUF that is replaced now
        (directory / old).unlink(missing_ok=True)
    text = render(modelfile)
    size = write_plan(gguf, plan, threads=threads, progress=lambda done, total: progress("quantizing", done, total))
    beside = None
    if projector:
        write(eyes, projector, progress=lambda done, total: progress("converting the projector", done, total))
        beside = _hashed(eyes, silent)
    write_text(directory / MODELFILE, text)
    return Package(directory, modelfile, _hashed(gguf, progress).sha256, size, beside)


def with_modelfile(package: Package, modelfile: Modelfile) -> Package:
    """The package with another Modelfile beside the same GGUF."""
    if modelfile != package.modelfile:
        write_text(package.directory / MODELFILE, render(modelfile))
    return replace(package, modelfile=modelfile)


def input_digests(inputs: dict[str, Path], progress: Progress) -> dict[str, str]:
    """SHA-256 of every input file, by name."""
    count = _counter("hashing the checkpoint", sum(path.stat().st_size for path in inputs.values()), progress)
    return {name: digest_of(inputs[name], count) for name in sorted(inputs)}


def write_release(package: Package, plan: Plan, **facts: Any) -> dict[str, Any]:
    """Write ``release.json``: what went in, what came out, and what was seen of it. Returns what it says."""
    eyes = package.projector
    release = {
        "schema_version": SCHEMA_VERSION,
        "versions": {name: version(name) for name in ("ollamaq", "gguf")},
        "gguf": {"file": GGUF, "bytes": package.size, "sha256": package.sha256},
        **({"projector": {"file": PROJECTOR, "bytes": eyes.size, "sha256": eyes.sha256}} if eyes else {}),
        "modelfile": {"file": MODELFILE, "sha256": sha256_of(package.directory / MODELFILE)},
        "bits_per_weight": round(plan.bits_per_weight, 4),
        **facts,
        "tensors": [
            {"name": planned.tensor.name, "type": planned.type.name, "shape": list(planned.tensor.shape)}
            for planned in plan.tensors
        ],
    }
    write_text(package.directory / RELEASE, json.dumps(release, ensure_ascii=False, indent=2) + "\n")
    for name, told in ((STATEMENT, statement(release)), (BOM, bill_of_materials(release))):
        write_text(package.directory / name, written(told))
    return release


def sign_package(directory: Path, key: Path) -> None:
    """Sign a package's provenance with an ed25519 key; the signature stays beside it.

    Raises:
        UsageError: it is no package, or no such key.
        ToolchainError: the extra ``sign`` is missing.
    """
    try:
        payload = (directory / STATEMENT).read_bytes()
    except OSError as error:
        raise UsageError(f"{directory} has no {STATEMENT}", next_step="give the directory of a package") from error
    write_text(directory / ENVELOPE, sign(payload, key))


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
