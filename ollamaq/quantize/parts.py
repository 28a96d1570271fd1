"""A plan written in several files, as ``llama-quantize --keep-split`` does: in the parts that its source has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFValueType

from ollamaq.files import new_files
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.splits import COUNT, NUMBER, TENSORS, part_name
from ollamaq.quantize.overrides import Overrides
from ollamaq.quantize.pipeline import MAX_MEMORY, Progress, write_plan
from ollamaq.quantize.plan import Plan


def split_plan(plan: Plan, sources: Sequence[Model], overrides: Overrides) -> list[Plan]:
    """A plan for each part of a split model; the first has the metadata, and each says which part it is.

    Args:
        plan: that of the whole model, its tensors in the order of the parts.
        sources: the parts.
        overrides: those that the plan was made with.
    """
    renamed = overrides.renaming(tensor for part in sources for tensor in part.tensors)
    parts, at = [], 0
    for i, source in enumerate(sources):
        count = sum(renamed(tensor.name) is not None for tensor in source.tensors)
        kept: Metadata = plan.metadata if i == 0 else {}
        facts = {
            NUMBER: Value(GGUFValueType.UINT16, i),
            COUNT: Value(GGUFValueType.UINT16, len(sources)),
            TENSORS: Value(GGUFValueType.INT32, len(plan.tensors)),
        }
        parts.append(Plan(kept | facts, plan.tensors[at : at + count]))
        at += count
    return parts


def part_paths(output: Path, count: int) -> list[Path]:
    """Where ``count`` plans go: ``output`` itself, or ``output-00001-of-….gguf``."""
    if count == 1:
        return [output]
    prefix = output.name.removesuffix(".gguf")
    return [output.with_name(part_name(prefix, i, count)) for i in range(count)]


def write_parts(
    output: Path,
    parts: Sequence[Plan],
    *,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
    resume: str | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Path]:
    """Write plans to their `part_paths`, each as `write_plan` does; they appear when all of them are whole.

    Raises:
        ModelRefused, ToolchainError: as `write_plan` does.
    """
    paths = part_paths(output, len(parts))
    if len(parts) == 1:
        write_plan(output, parts[0], threads=threads, max_memory=max_memory, resume=resume, progress=progress)
        return paths
    names = [path.name for path in paths]
    total, before = sum(part.n_bytes for part in parts), 0
    types = [(one.tensor.name, one.type) for part in parts for one in part.tensors]
    with new_files(output.parent, names, resume=resume and f"{resume} {parts[0].metadata} {types}") as hidden:
        for name, part in zip(names, parts, strict=True):
            if not (hidden / name).exists():  # it was written before an interruption
                write_plan(
                    hidden / name,
                    part,
                    threads=threads,
                    max_memory=max_memory,
                    resume=resume,
                    progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
                )
            before += part.n_bytes
            progress(before, total)
    return paths
