"""``ollamaq publish``: from a fine-tune's directory to a tested model in Ollama."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ollamaq.chat.strategy import NONE
from ollamaq.cli.options import (
    Adapters,
    AllowRequantize,
    Base,
    CaFile,
    ChatFormat,
    Cpus,
    DryRun,
    Expect,
    Gpu,
    Image,
    ImatrixFile,
    Insecure,
    Json,
    Keep,
    Mmproj,
    Ollama,
    Port,
    Prompt,
    Quiet,
    ReplaceTemplate,
    Report,
    SourcePath,
    SuiteFile,
    TensorType,
    Threads,
    To,
)
from ollamaq.cli.output import Output, command, described, failure, size, table
from ollamaq.cli.quantize import tensor_types
from ollamaq.cli.report import write_all
from ollamaq.errors import UsageError
from ollamaq.gate import read_gate
from ollamaq.package import RELEASE
from ollamaq.publishing import prepare
from ollamaq.publishing import publish as run_publish
from ollamaq.quantize import Overrides
from ollamaq.release import Planned, PublishFailed, Release
from ollamaq.report import Outcome, check_reports
from ollamaq.servers import DEFAULT_IMAGE
from ollamaq.smoke import CheckResult
from ollamaq.source import Source
from ollamaq.verify import read_release

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[yellow]not checked[/]"}
TOLERATED = "[yellow]tolerated[/]"


@command
def publish(
    source: SourcePath,
    name: Annotated[
        str | None,
        typer.Argument(
            help="What to call it: [namespace/]model[:tag].", show_default="the directory's name, and the mix"
        ),
    ] = None,
    q: Annotated[
        list[str] | None,
        typer.Option(
            "--q", "-q", envvar="OLLAMAQ_Q", help="The mix; repeat it to publish several.", show_default="Q5_K_M"
        ),
    ] = None,
    imatrix: ImatrixFile = None,
    tensor_type: TensorType = None,
    allow_requantize: AllowRequantize = False,
    to: To = "auto",
    keep: Keep = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The package's directory.", show_default="./<name>-<MIX>"),
    ] = None,
    expect: Expect = None,
    prompt: Prompt = None,
    suite: SuiteFile = None,
    report: Report = None,
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="Sign it with this private ed25519 key.", show_default=False),
    ] = None,
    image: Image = DEFAULT_IMAGE,
    ollama: Ollama = None,
    gpu: Gpu = False,
    cpus: Cpus = None,
    port: Port = None,
    threads: Threads = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="REF", help="Push what has passed to host/namespace/name[:tag], too.", show_default=False
        ),
    ] = None,
    insecure: Insecure = False,
    ca_file: CaFile = None,
    dry_run: DryRun = False,
    base: Base = None,
    adapter: Adapters = None,
    chat_format: ChatFormat = None,
    replace_template: ReplaceTemplate = False,
    mmproj: Mmproj = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            envvar="OLLAMAQ_PRESET",
            help="A model of ollamaq.toml, or a preset, whose settings and policy hold.",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str, typer.Option("--env", envvar="OLLAMAQ_ENV", help="With --preset: the environment.", show_default=False)
    ] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantize a model, create it in Ollama, test it there, and only then give it its name."""
    out = Output(as_json=as_json, quiet=quiet)
    if env and not preset:
        raise UsageError("--env without --preset", next_step="name the preset whose environment it is")
    asked: dict[str, Any] = {
        "base": base,
        "adapters": adapter or (),
        "chat_format": chat_format,
        "replace_template": replace_template,
        "mmproj": mmproj,
        "preset": preset,
        "env": env,
        "quantization": q or ["Q5_K_M"],
        "imatrix": imatrix,
        "overrides": Overrides(tensors=tensor_types(tensor_type), allow_requantize=allow_requantize),
        "output": output,
    }
    if dry_run:
        prepared = prepare(source, name, **asked)
        _say_plan(out, prepared.opened, prepared.planned, to)
        return
    check_reports(report or ())
    gate = read_gate()
    try:
        with out.progress() as progress:
            releases = run_publish(
                source,
                name,
                **asked,
                to=to,
                keep=keep,
                image=image,
                ollama=ollama or (),
                gpu=gpu,
                cpus=cpus,
                port=port,
                prompts=prompt,
                expect=expect,
                suite=suite,
                gate=gate,
                sign_with=sign,
                threads=threads,
                push=push,
                insecure=insecure,
                ca_file=ca_file,
                progress=progress,
            )
    except PublishFailed as error:
        _report(out, error.releases, report)
        out.result(_as_json(error.releases) | described(error), *_tables(source, error.releases), brief="")
        raise failure(error) from None
    _report(out, releases, report)
    ending = [_ending(release) for release in releases]
    brief = "\n".join(release.name for release in releases)
    out.result(_as_json(releases), *_tables(source, releases), *ending, brief=brief)


def _report(out: Output, releases: Sequence[Release], paths: Sequence[Path] | None) -> None:
    """Write the reports that are asked for, and those that a workflow shows."""
    tested = [
        Outcome(r.name, r.target or "nothing", r.checks, read_release(r.package / RELEASE), r.source_bytes)
        for r in releases
    ]
    write_all(out, tested, paths)


def _say_plan(out: Output, opened: Source, planned: Sequence[Planned], to: str) -> None:
    rows = table(f"would publish {opened.path} to {to}", "name", "mix", ">size", ">bits per weight", "package")
    for item in planned:
        bits = f"{item.plan.bits_per_weight:.2f}"
        rows.add_row(item.name, item.mix, size(item.plan.n_bytes), bits, f"{item.directory}/")
    data = [
        {
            "name": item.name,
            "mix": item.mix,
            "bytes": item.plan.n_bytes,
            "bits_per_weight": round(item.plan.bits_per_weight, 4),
            "package": str(item.directory),
        }
        for item in planned
    ]
    brief = "\n".join(item.name for item in planned)
    out.result({"dry_run": True, "source_bytes": opened.n_bytes, "to": to, "releases": data}, rows, brief=brief)


def _tables(source: Path, releases: Sequence[Release]) -> list[Table]:
    sizes = table("", "", ">size", ">bits per weight", ">time")
    sizes.add_row(escape(str(source)), size(releases[0].source_bytes), "", "")
    for release in releases:
        saved = f"{size(release.bytes)} ({release.bytes / release.source_bytes:.0%})"
        sizes.add_row(f"[bold]{release.name}[/]", saved, f"{release.bits_per_weight:.2f}", f"{release.seconds:.1f} s")
    titles = [f"smoke test of {r.name} on {r.target}" if r.target else f"gate of {r.name}" for r in releases]
    return [sizes, *(checks_table(title, r.checks) for title, r in zip(titles, releases, strict=True) if r.checks)]


def checks_table(title: str, checks: Sequence[CheckResult]) -> Table:
    """A smoke test's results, a line for each check."""
    rows = table(f"\n{title}", "check", "", ">time", "seen")
    for check in checks:
        rows.add_row(
            escape(check.name),
            TOLERATED if check.tolerated else MARKS[check.ok],
            f"{check.seconds:.1f} s",
            escape(check.detail),
        )
    return rows


def _ending(release: Release) -> str:
    """How it is prompted, and what to do with it."""
    told = release.template
    by = "as the server guesses" if told["strategy"] == NONE else f"by its {told['strategy']}"
    return f"\nprompted {by}: {escape(told['reason'])}{_created(release)}"


def _created(release: Release) -> str:
    if release.target is None:
        create = f"ollama create {release.name} -f {release.package}/Modelfile"
        return f"\nbuilt [bold]{release.package}/[/]; create it with: {create}"
    how = "" if release.sent else " (its GGUF was there already)"
    pushed = f"\npushed [bold]{release.pushed}[/]" if release.pushed else ""
    return f"\npublished [bold]{release.name}[/]{how}; run it with: [bold]ollama run {release.name}[/]{pushed}"


def _as_json(releases: Sequence[Release]) -> dict[str, Any]:
    def plain(release: Release) -> dict[str, Any]:
        data = asdict(release) | {"package": str(release.package), "passed": release.passed}
        return data | {"bits_per_weight": round(release.bits_per_weight, 4), "seconds": round(release.seconds, 3)}

    return {"releases": [plain(release) for release in releases]}
