"""``ollamaq gguf``: a file's metadata, read and edited, and models in several files."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ollamaq.cli.inspect import brief
from ollamaq.cli.options import DryRun, Json, Quiet
from ollamaq.cli.output import Output, command, size, table
from ollamaq.errors import UsageError
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.splits import file_size, join, part_name, read_parts, split, write_parts
from ollamaq.gguf.values import check_key, parse_value, type_name
from ollamaq.gguf.writer import write

UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}

gguf = typer.Typer(help="Look into GGUF files, edit their metadata, split and merge them.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A GGUF file.", show_default=False)]
Key = Annotated[str, typer.Argument(help="A key, such as tokenizer.chat_template.", show_default=False)]
Target = Annotated[Path | None, typer.Option("--output", "-o", help="Write here.", show_default="in the place of FILE")]


@gguf.command("get")
@command
def get_(file: File, key: Key, as_json: Json = False) -> None:
    """Print the value of a key: a string as it is, anything else in JSON."""
    value = _find(file, read_gguf(file).metadata, key)
    text = value.value if isinstance(value.value, str) else json.dumps(value.value, ensure_ascii=False)
    data = {"file": str(file), "key": key, "type": type_name(value), "value": value.value}
    Output(as_json=as_json, quiet=True).result(data, brief=text)


@gguf.command("set")
@command
def set_(
    file: File,
    key: Key,
    value: Annotated[str, typer.Argument(help="The value: a string as it is, anything else in JSON.")],
    type_: Annotated[
        str | None,
        typer.Option("--type", help="uint32, string, string[], …", show_default="the type that the key has"),
    ] = None,
    output: Target = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Set a key; the tensors are copied as they are."""
    model = read_gguf(file)
    old = model.metadata.get(key)
    if old is None and type_ is None:
        raise UsageError(f"{file} has no key {key!r} yet", next_step="say of which type it is to be, with --type")
    new = parse_value(value, type_ or type_name(_find(file, model.metadata, key)))
    check_key(key, new)
    _rewrite(file, output, Model(model.metadata | {key: new}, model.tensors), key, old, new, as_json, quiet)


@gguf.command("rm")
@command
def rm(file: File, key: Key, output: Target = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Remove a key; the tensors are copied as they are."""
    model = read_gguf(file)
    old = _find(file, model.metadata, key)
    kept = {name: value for name, value in model.metadata.items() if name != key}
    _rewrite(file, output, Model(kept, model.tensors), key, old, None, as_json, quiet)


@gguf.command("split")
@command
def split_(
    file: File,
    prefix: Annotated[
        Path | None, typer.Argument(help="Write PREFIX-00001-of-….gguf.", show_default="FILE without .gguf")
    ] = None,
    max_size: Annotated[
        str, typer.Option("--split-max-size", help="Bytes of tensors in a part: a number with K, M or G.")
    ] = "48G",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in several files, as llama-gguf-split would."""
    out = Output(as_json=as_json, quiet=quiet)
    limit = _bytes(max_size)
    prefix = prefix or file
    prefix = prefix.with_name(prefix.name.removesuffix(".gguf"))
    parts = split(join(read_parts(file).values()), limit)
    names = [str(prefix.with_name(part_name(prefix.name, i, len(parts)))) for i in range(len(parts))]
    if not dry_run:
        with out.progress() as progress:
            write_parts(prefix, parts, lambda done, total: progress("splitting", done, total))
    rows = table("would split" if dry_run else "split", "", ">", ">")
    for name, part in zip(names, parts, strict=True):
        rows.add_row(escape(name), size(file_size(part)), f"{len(part.tensors)} tensors")
    listing = [
        {"path": name, "bytes": file_size(part), "tensors": len(part.tensors)}
        for name, part in zip(names, parts, strict=True)
    ]
    out.result({"parts": listing, "dry_run": dry_run}, rows, brief="\n".join(names))


@gguf.command("merge")
@command
def merge(
    file: Annotated[Path, typer.Argument(help="Any part of a split model.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="The GGUF to write.", show_default=False)],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the parts of a split model as one file, which is the one that was split."""
    out = Output(as_json=as_json, quiet=quiet)
    parts = read_parts(file)
    if len(parts) == 1:
        raise UsageError(f"{file} is not split", next_step="give a part, such as model-00001-of-00003.gguf")
    model = join(parts.values())
    with out.progress() as progress:
        written = write(output, model, lambda done, total: progress("merging", done, total))
    rows = table("merged", "", ">")
    rows.add_row(f"{len(parts)} parts", f"{len(model.tensors)} tensors")
    rows.add_row(escape(str(output)), size(written))
    data = {"output": str(output), "bytes": written, "parts": len(parts), "tensors": len(model.tensors)}
    out.result(data, rows, brief=str(output))


def _find(file: Path, metadata: Metadata, key: str) -> Value:
    if key in metadata:
        return metadata[key]
    close = difflib.get_close_matches(key, metadata, n=1)
    step = f"did you mean {close[0]}?" if close else f"ollamaq inspect {file} lists the keys"
    raise UsageError(f"{file} has no key {key!r}", next_step=step)


def _rewrite(
    file: Path,
    output: Path | None,
    model: Model,
    key: str,
    old: Value | None,
    new: Value | None,
    as_json: bool,
    quiet: bool,
) -> None:
    out = Output(as_json=as_json, quiet=quiet)
    target = output or file
    with out.progress() as progress:
        write(target, model, lambda done, total: progress("writing", done, total))
    rows = table(str(target), "", "")
    data: dict[str, Any] = {"file": str(file), "output": str(target), "key": key}
    for name, value in (("old", old), ("new", new)):
        data[name] = None if value is None else {"type": type_name(value), "value": value.value}
        rows.add_row(name, "" if value is None else escape(str(brief(value.value))))
    out.result(data, rows, brief=str(target))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,15})([KMG]?)", text.upper().removesuffix("B"))
    if match is None:
        raise UsageError(f"{text!r} is no size", next_step="say it as 500M or 2G")
    return int(match[1]) * UNITS.get(match[2], 1)
