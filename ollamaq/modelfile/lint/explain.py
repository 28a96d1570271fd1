"""What a rule is about, in Markdown: a page each, and one that lists them."""

from __future__ import annotations

from ollamaq.modelfile.lint.rule import Rule
from ollamaq.modelfile.lint.table import RULES

GROUPS = {
    "OQ0": "How it is written",
    "OQ1": "Parameters",
    "OQ2": "Chat format",
    "OQ3": "What it is built from",
    "OQ4": "What it says about the model",
    "OQ5": "Beside the model, with --model",
}


def explained(rule: Rule) -> str:
    """A rule's page."""
    return (
        f"# {rule.id} {rule.name}\n{_severity(rule).capitalize()}.\n\n{rule.why}\n\n"
        f"Found:\n```\n{_visible(rule.bad)}\n```\nInstead:\n```\n{rule.good}\n```\n"
    )


def pages() -> dict[str, str]:
    """All of ``docs/rules``: names of files and their texts."""
    parts = [
        "# Rules of `ollamaq modelfile lint`\n"
        "Made by `docs/make_rules.py`; `ollamaq modelfile rule OQ105` prints a rule's page. To silence a rule for one\n"
        "instruction, write above it `# ollamaq: ignore OQ105 the reason`; for a whole run, use `--ignore OQ105`.\n"
    ]
    for prefix, title in GROUPS.items():
        rows = [
            f"| [{rule.id}]({rule.id}.md) | {rule.name} | {_severity(rule)} |\n"
            for rule in RULES
            if rule.id.startswith(prefix)
        ]
        parts.append("".join((f"## {title}\n| rule | name | severity |\n|---|---|---|\n", *rows)))
    return {"README.md": "\n".join(parts), **{f"{rule.id}.md": explained(rule) for rule in RULES}}


def _severity(rule: Rule) -> str:
    return rule.severity.value + (", fixed by `--fix`" if rule.fixable else "")


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"<U+{ord(c):04X}>" for c in text)
