"""``ollamaq convert``: a checkpoint becomes a GGUF, as llama.cpp's converter makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ollamaq.architectures.general import read_overrides
from ollamaq.chat.choose import hint
from ollamaq.cli.options import Adapters, Base, ChatFormat, DryRun, Json, Mmproj, Quiet, ReplaceTemplate, SourcePath
from ollamaq.cli.output import Output, command, size, table
from ollamaq.convert import KEEP
from ollamaq.convert_kept import counted
from ollamaq.errors import UsageError
from ollamaq.gguf.writer import write
from ollamaq.source import open_adapter, open_projector, open_source

OUTTYPES = ("auto", "f16", "bf16", "f32", "q8_0", "tq1_0", "tq2_0", KEEP)


@command
def convert(
    source: SourcePath,
    output: Annotated[Path, typer.Argument(help="The GGUF to write.", show_default=False)],
    outtype: Annotated[
        str, typer.Option(help="auto, f16, bf16, f32, q8_0, tq1_0, tq2_0, or keep: quantized weights stay.")
    ] = "auto",
    pre: Annotated[
        str | None, typer.Option(help="The pre-tokenizer, where it is not recognised.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    base: Base = None,
    adapter: Adapters = None,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Write the adapter as a GGUF of its own, not merged.")
    ] = False,
    mmproj: Mmproj = False,
    chat_format: ChatFormat = None,
    replace_template: ReplaceTemplate = False,
    metadata: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="general.* keys that the model's files have wrong.", show_default=False),
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="general.name.", show_default="the model's own")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a Hugging Face directory to GGUF, as llama.cpp's converter would, without PyTorch."""
    if outtype not in OUTTYPES:
        raise UsageError(f"unknown --outtype {outtype!r}", next_step=f"choose one of {', '.join(OUTTYPES)}")
    out = Output(as_json=as_json, quiet=quiet)
    if adapter_only and (adapter or chat_format or outtype not in ("auto", "f32")):
        raise UsageError(
            "--adapter-only writes one adapter, in f32", next_step="leave --adapter, --chat-format and --outtype out"
        )
    if mmproj and (adapter_only or chat_format or pre):
        raise UsageError(
            "--mmproj writes the projector alone", next_step="leave --adapter-only, --chat-format and --pre out"
        )
    overrides = read_overrides(metadata) if metadata else {}
    if model_name is not None:
        overrides["general.name"] = model_name
    if overrides and adapter_only:
        raise UsageError("--adapter-only has no --metadata and no --model-name", next_step="leave them out")
    if adapter_only:
        opened = open_adapter(source, base)
    elif mmproj:
        opened = open_projector(source, outtype, base=base, adapters=adapter or (), overrides=overrides)
    else:
        opened = open_source(
            source,
            base=base,
            adapters=adapter or (),
            outtype=outtype,
            pre=pre,
            chat_format=chat_format,
            replace_template=replace_template,
            overrides=overrides,
        )
        if said := hint(opened.model.metadata, str(source)):
            out.note(escape(said))
    written = 0
    if not dry_run:
        with out.progress() as progress:
            written = write(output, opened.model, progress=lambda done, total: progress("converting", done, total))
    rows = table("converted" if written else "would convert", "", ">")
    rows.add_row("tensors", str(len(opened.model.tensors)))
    rows.add_row("checkpoint", size(opened.n_bytes))
    data: dict[str, Any] = {
        "output": str(output),
        "bytes": written,
        "tensors": len(opened.model.tensors),
        "dry_run": dry_run,
    }
    if outtype == KEEP:
        data["kept"], matrices = counted(opened.model.tensors)
        kept = ", ".join(f"{count} {name}" for name, count in data["kept"].items()) or "none"
        rows.add_row("kept without loss", f"{kept} of {matrices} matrices")
    if written:
        rows.add_row(str(output), size(written))
    out.result(data, rows, brief=str(output))
