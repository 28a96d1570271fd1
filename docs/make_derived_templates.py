"""Writes docs/derived-templates.md: the chat templates of real models in Go, and on a server.

    python docs/make_derived_templates.py > docs/derived-templates.md

Made of what `docs/measure_templates.py` measured (``docs/templates.json``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
KINDS = ("text", "tools", "thinking")
EQUAL, DIFFERS, OWN_WAY, LIMIT, REFUSED = range(5)
FORMS = {"go": "derived TEMPLATE", "jinja": "chat template on Ollama 0.34.2", "template": "TEMPLATE on Ollama 0.34.2"}
HEAD = """# The chat templates of real models
Made by `docs/make_derived_templates.py` of what `docs/measure_templates.py` measured: the chat templates that
llama.cpp's sources carry (b11434), each rendered as transformers does it, and compared, byte for byte, with

- the **derived TEMPLATE** (`ollamaq template derive`), by our own engine of Go templates, over the suite and 300 random
  conversations;
- the **chat template on a server**: a tiny model that carries it, on Ollama 0.34.2, where llama.cpp's Jinja engine
  renders it, over the suite, by `_debug_render_only`;
- the **TEMPLATE on a server**, over the suite, if the server takes it;
- the nearest **RENDERER**, over the suite, of all that Ollama 0.34.2 has.

A cell is *equal of those that should be*. Left out of both are conversations that the chat template refuses, and those
that Ollama's API does not carry to any template: for a TEMPLATE merged messages and the order of arguments, for a chat
template the order of a tool's keys (it puts `required` before `properties`) and earlier thoughts. Where nobody says
whether to think, Ollama has a model that can do so: it is told then what training takes silence for. `*` marks
templates whose prompts differ only by what llama.cpp does with every one: it begins an answer that is to be gone on
with in its own way, and trims only ASCII's white space.

A template counts for *text* where every text is equal, for *tools* where every text and every conversation with tools
is, for *thinking* where all are. One that refuses every conversation of a kind has nothing that differs. *Looked at*
are those on which the translation was worked out (`docs/templates-tuned.txt`); *unseen* ones were never opened. When
there were 23 of these, 18 were equal on text and 13 on all; most of those that were not have been opened since, so that
the unseen ones below are the easier ones.

"""
CALLS = """*Calls found by* is what finds the calls of tools in answers on a server that renders the TEMPLATE: the
TEMPLATE's own tags (or the template has no calls), a PARSER of Ollama's that `publish` names beside it, or nothing.
Those of PARSERs are held to Ollama's own package in `integration/test_answers.py`.
"""


def sums(found: dict[str, Any], kind: str) -> str:
    if "error" in found:
        return "-"
    counts = found[kind]
    wanted = counts[EQUAL] + counts[DIFFERS] + counts[OWN_WAY]
    if not wanted:
        return "beyond Ollama" if counts[LIMIT] else "refused"
    return f"{counts[EQUAL]} of {wanted}" + ("\\*" if counts[OWN_WAY] and not counts[DIFFERS] else "")


def reached(found: dict[str, Any], kinds: tuple[str, ...], *, strictly: bool = True) -> bool:
    """Whether nothing differs on these kinds of conversations."""
    return "error" not in found and not any(
        found[kind][DIFFERS] or (strictly and found[kind][OWN_WAY]) for kind in kinds
    )


def in_effect(row: dict[str, Any]) -> bool:
    return row.get("template", {}).get("in_effect") == "Go"


def either(row: dict[str, Any], kinds: tuple[str, ...]) -> bool:
    """Whether one of the two forms gives the prompts of training on a server."""
    return reached(row["jinja"], kinds) or (in_effect(row) and reached(row["template"], kinds))


def published(row: dict[str, Any], kinds: tuple[str, ...]) -> bool:
    """As `publish` chooses: the chat template if it is rendered as in training, but for `*`; else the TEMPLATE."""
    return reached(row["jinja"], kinds, strictly=False) or either(row, kinds)


def figures(measured: dict[str, Any]) -> list[str]:
    tuned = set((DOCS / "templates-tuned.txt").read_text().split())
    groups = {"looked at": [n for n in measured if n in tuned], "unseen": [n for n in measured if n not in tuned]}
    lines = ["| templates | form | text | and tools | and thinking |", "|---|---|---|---|---|"]
    for group, names in groups.items():
        rows = [measured[name] for name in names]
        if not rows:
            continue
        tests = {
            FORMS[form]: lambda row, kinds, form=form: reached(row.get(form, {"error": ""}), kinds) for form in FORMS
        }
        tests[FORMS["template"]] = lambda row, kinds: in_effect(row) and reached(row["template"], kinds)
        tests[FORMS["jinja"] + "\\*"] = lambda row, kinds: reached(row["jinja"], kinds, strictly=False)
        tests["either, on Ollama 0.34.2"] = either
        tests["either, on Ollama 0.34.2\\*"] = published
        for form, test in tests.items():
            cells = [f"{sum(test(row, KINDS[: n + 1]) for row in rows)} of {len(rows)}" for n in range(len(KINDS))]
            lines.append(f"| {group} | {form} | {' | '.join(cells)} |")
    return lines


def reasons(row: dict[str, Any]) -> str:
    """Why not all is equal."""
    go = row["go"]
    if "error" in go:
        return f"nothing derived: {go['error']}"
    told = [f"without {feature}: {why}" for feature, why in go["without"].items()]
    if "first" in go:
        name, jinja, template = go["first"]
        told.append(f"{name}: {code(template)} for {code(jinja)}")
    limits = sum(go[kind][LIMIT] for kind in KINDS)
    refused = sum(go[kind][REFUSED] for kind in KINDS)
    told += [f"{n} {what}" for n, what in ((limits, "beyond Ollama"), (refused, "refused")) if n]
    return cell("; ".join(told))


def on_server(row: dict[str, Any]) -> str:
    found = row["jinja"]
    if "error" in found:
        return cell(found["error"])
    told = []
    if "first" in found:
        name, jinja, server = found["first"]
        told.append(f"{name}: {code(server)} for {code(jinja)}")
    if not in_effect(row) and "error" not in row.get("template", {"error": ""}):
        told.append("the chat template wins over a TEMPLATE")
    return cell("; ".join(told))


def by_renderer(measured: dict[str, Any]) -> list[str]:
    """The nearest renderers, of templates of which they prompt half of the suite or more as in training."""
    rows = {name: row["renderer"] for name, row in measured.items()}
    differing = {name: sum(found[kind][DIFFERS] for kind in KINDS) for name, found in rows.items()}
    suite = max(sum(sum(found[kind]) for kind in KINDS) for found in rows.values())
    equal = [name for name, n in differing.items() if not n and any(rows[name][kind][EQUAL] for kind in KINDS)]
    lines = [
        f"Ollama's own renderers prompt all conversations of {len(equal)} of {len(rows)} templates as in training, so"
        " that one is tried only where Ollama attaches it anyway. These are the nearest, where at most half of the"
        f" {suite} conversations differ:",
        "",
        "| template | RENDERER | text | tools | thinking | first difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        if differing[name] <= suite // 2 and any(found[kind][EQUAL] for kind in KINDS):
            told, jinja, rendered = found.get("first", ("", "", ""))
            first = f"{told}: {code(rendered)} for {code(jinja)}" if told else ""
            counts = " | ".join(sums(found, kind) for kind in KINDS)
            lines.append(f"| {name} | {found['name']} | {counts} | {cell(first)} |")
    return lines


def code(text: str) -> str:
    return "`" + json.dumps(text, ensure_ascii=False)[1:-1].replace("`", "'") + "`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def page() -> str:
    measured: dict[str, Any] = json.loads((DOCS / "templates.json").read_text())
    lines = [*figures(measured), "", "## In Go", CALLS]
    lines += ["| template | text | tools | thinking | calls found by | why not all |", "|---|---|---|---|---|---|"]
    for name, row in measured.items():
        cells = [name, *(sums(row["go"], kind) for kind in KINDS), row["go"].get("calls") or "nothing", reasons(row)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## On Ollama 0.34.2"]
    lines += ["| template | form | text | tools | thinking | first difference |", "|---|---|---|---|---|---|"]
    for name, row in measured.items():
        lines.append(
            f"| {name} | Jinja | {' | '.join(sums(row['jinja'], kind) for kind in KINDS)} | {on_server(row)} |"
        )
        if in_effect(row):
            lines.append(f"| | TEMPLATE | {' | '.join(sums(row['template'], kind) for kind in KINDS)} | |")
    lines += ["", "## By a RENDERER", *by_renderer(measured)]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
