"""``ollamaq template``: chat templates shown, compared with each other, and derived."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ollamaq.chat.answers import UNREAD, calls_in_answers
from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, OWN_WAY, REFUSED, Verdict, compare, read_chats
from ollamaq.chat.conversations import KINDS, SUITE
from ollamaq.chat.derive import CannotDerive
from ollamaq.chat.derive import derive as derive_template
from ollamaq.chat.features import features
from ollamaq.chat.forms import Form, go_form, known_in, open_form
from ollamaq.chat.known import known_formats, shown
from ollamaq.chat.prove import RANDOM, prove
from ollamaq.chat.selection import claims_of_jinja
from ollamaq.cli.options import Json, Quiet
from ollamaq.cli.output import Output, command, table
from ollamaq.errors import UsageError
from ollamaq.files import write_text
from ollamaq.modelfile.printable import printed

DIFFERENT = 1
"""Exit code where two templates differ."""
COLOURS = {EQUAL: "green", DIFFERS: "red", LIMIT: "yellow", OWN_WAY: "yellow", REFUSED: "dim"}
LINES = 4
"""Of each prompt, from where they differ on."""

SourceName = Annotated[
    str,
    typer.Argument(
        help="A model directory, a GGUF, a .jinja or .gotmpl file, a Modelfile, a model on the server, or format:NAME,"
        " a known format's TEMPLATE (format:NAME.jinja: its chat template).",
        show_default=False,
    ),
]
Server = Annotated[str, typer.Option("--server", envvar="OLLAMA_HOST", help="Where models are that are no files.")]

template = typer.Typer(help="Show, compare and derive chat templates.", no_args_is_help=True)


@template.command("list")
@command
def list_formats(as_json: Json = False) -> None:
    """List the known chat formats, which --chat-format takes."""
    formats = known_formats().values()
    rows = table("", "name", "models", "stops", "special tokens")
    for known in formats:
        texts = ", ".join(known.models), shown(known.stops), shown(known.tokens)
        rows.add_row(f"[bold]{known.name}[/]", *map(Text, texts))
    Output(as_json=as_json, quiet=False).result({"formats": [asdict(known) for known in formats]}, rows, brief="")


@template.command()
@command
def show(source: SourceName, server: Server = "", as_json: Json = False) -> None:
    """Print a chat template, and what it makes use of."""
    form = open_form(source, server)
    overview = table(form.origin, "", "")
    overview.add_row("language", form.language)
    overview.add_row("variables", escape(", ".join(form.variables)))
    data: dict[str, Any] = {
        "source": form.origin,
        "language": form.language,
        "variables": form.variables,
        "template": form.text,
    }
    if known := known_in(source):
        for name, text in (
            ("models", ", ".join(known.models)),
            ("stops", shown(known.stops)),
            ("special tokens", shown(known.tokens)),
            ("parameters", ", ".join(f"{name} {value}" for name, value in known.parameters.items())),
            ("described at", known.source),
        ):
            if text:
                overview.add_row(name, escape(text))
        data["format"] = asdict(known)
    shown_too = _analysed(form, overview, data) if form.chat_format and not form.native else []
    Output(as_json=as_json, quiet=False).result(
        data, overview, "", Text(printed(form.text)), *shown_too, brief=form.text
    )


def _analysed(form: Form, overview: Table, data: dict[str, Any]) -> list[Any]:
    """What a chat template can do, and its form for servers that render no Jinja."""
    assert form.chat_format
    can, believed = features(form), sorted(claims_of_jinja(form.text))
    data |= {"features": can, "ollama_believes": believed}
    overview.add_row("features", ", ".join(can))
    overview.add_row("Ollama believes", ", ".join(believed) or "completion alone")
    try:
        derived = derive_template(form.chat_format, bos=form.bos)
    except CannotDerive as error:
        overview.add_row("before Ollama 0.30", f"nothing: {escape(error.why)}")
        data["derived"] = None
        return []
    data["derived"] = {"template": derived.template, "without": derived.without}
    left = "".join(f", without {feature}" for feature in derived.without)
    overview.add_row("before Ollama 0.30", f"the derived TEMPLATE below{left}; from then on, this")
    return ["", "[bold]derived TEMPLATE[/]", Text(printed(derived.template))]


@template.command()
@command
def check(
    a: SourceName,
    b: SourceName,
    server: Server = "",
    chats: Annotated[
        Path | None,
        typer.Option("--chats", metavar="FILE.jsonl", help="Compare over these conversations.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the prompts of two chat templates. Exits with 0 if all are equal, 1 if not.

    Conversations that a Jinja template refuses have no prompt to compare with; what no Go TEMPLATE could say in
    Ollama is told as its limit.
    """
    forms = open_form(a, server), open_form(b, server)
    verdicts = compare(*forms, read_chats(chats) if chats else SUITE)
    counts = Counter(verdict.verdict for verdict in verdicts)
    rows = table(f"A {forms[0].origin} ({forms[0].language}), B {forms[1].origin} ({forms[1].language})", "", "")
    for verdict in verdicts:
        told = f"{verdict.verdict}: {verdict.why}" if verdict.why else verdict.verdict
        rows.add_row(escape(verdict.conversation), Text(printed(told), COLOURS[verdict.verdict]))
    shown: list[Any] = [rows, ", ".join(f"{count} {name}" for name, count in counts.items())]
    first = next((verdict for verdict in verdicts if verdict.verdict == DIFFERS), None)
    if first:
        shown += ["", _side_by_side(first)]
    data = {
        "a": forms[0].origin,
        "b": forms[1].origin,
        "counts": dict(counts),
        "conversations": [_described(verdict) for verdict in verdicts],
    }
    Output(as_json=as_json, quiet=False).result(data, *shown, brief="")
    if first:
        raise typer.Exit(DIFFERENT)


@template.command()
@command
def derive(
    source: SourceName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the TEMPLATE here.", show_default=False),
    ] = None,
    random: Annotated[
        int, typer.Option("--random", min=0, help="Prove it over so many random conversations.")
    ] = RANDOM,
    seed: Annotated[int, typer.Option("--seed", help="Of the random conversations.")] = 0,
    chats: Annotated[
        Path | None,
        typer.Option("--chats", metavar="FILE.jsonl", help="Prove it over these, too.", show_default=False),
    ] = None,
    server: Server = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Derive a Go TEMPLATE from a chat template in Jinja, and prove the prompts equal.

    Exits with 0 if all are equal, 1 if not. Tools and thinking are left out where Go cannot say them, which is told.
    """
    form = open_form(source, server)
    if form.chat_format is None:
        raise UsageError(f"{source} has a TEMPLATE in Go already", next_step="give one with a chat template in Jinja")
    derived = derive_template(form.chat_format, bos=form.bos)
    conversations = SUITE | (read_chats(chats) if chats else {})
    proof = prove(form, go_form("derived", derived.template), random=random, seed=seed, chats=conversations)
    if output is not None:
        write_text(output, derived.template)
    out = Output(as_json=as_json, quiet=quiet)
    out.note(proof.summary)
    for feature, why in derived.without.items():
        out.note(f"[yellow]without {feature}[/]: {escape(why)}")
    calls = calls_in_answers(form, derived.without)
    if calls.parser:
        out.note(f"with PARSER {calls.parser} in the Modelfile, which finds its calls of tools")
    elif not calls.found:
        out.note(f"[yellow]{UNREAD}[/]")
    if proof.counterexample:
        out.note(_side_by_side(proof.counterexample[1]))
    data: dict[str, Any] = {
        "source": form.origin,
        "template": derived.template,
        "without": derived.without,
        "parser": calls.parser,
        "proof": {kind: dict(proof.counts(kind)) for kind in KINDS},
    }
    if proof.counterexample:
        conversation, verdict = proof.counterexample
        data["counterexample"] = {**_described(verdict), **asdict(conversation)}
    shown = [] if output else [Text(derived.template.removesuffix("\n"))]
    out.result(data, *shown, brief="" if output else derived.template.removesuffix("\n"))
    if proof.counterexample:
        raise typer.Exit(DIFFERENT)


def _described(verdict: Verdict) -> dict[str, Any]:
    told: dict[str, Any] = {"name": verdict.conversation, "verdict": verdict.verdict}
    if verdict.why:
        told["why"] = verdict.why
    if verdict.verdict != EQUAL:
        told |= {"offset": len(verdict.a[: verdict.offset].encode()), "a": verdict.a, "b": verdict.b}
    return told


def _side_by_side(verdict: Verdict) -> Table:
    """The lines at the first difference; what follows it is coloured, and white space can be seen."""
    at = verdict.offset
    start = verdict.a.rfind("\n", 0, at) + 1
    byte = len(verdict.a[:at].encode())
    made = table(f"{escape(verdict.conversation)}: the first difference is at byte {byte}", "A", "B")
    made.add_row(*(_excerpt(text, start, at, colour) for text, colour in ((verdict.a, "red"), (verdict.b, "green"))))
    return made


def _excerpt(text: str, start: int, at: int, colour: str) -> Text:
    rest = "".join(text[at:].splitlines(keepends=True)[:LINES]) or "∎"
    return Text(_visible(text[start:at])) + Text(_visible(rest), colour)


def _visible(text: str) -> str:
    text = text.replace(" ", "·").replace("\t", "→").replace("\n", "↵\n")
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)
