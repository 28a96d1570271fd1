"""What a rule is about, in Markdown: one of them, or the page with all."""

from __future__ import annotations

from collections.abc import Sequence

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
    """A rule's section."""
    fixable = ", fixed by `--fix`" if rule.fixable else ""
    return (
        f"### {rule.id} {rule.name}\n{rule.severity.value.capitalize()}{fixable}.\n\n{rule.why}\n\n"
        f"Found:\n```\n{_visible(rule.bad)}\n```\nInstead:\n```\n{rule.good}\n```\n"
    )


def page(rules: Sequence[Rule] = RULES) -> str:
    """All rules, in groups."""
    head = (
        "# Rules of `ollamaq modelfile lint`\n"
        "This page is made by `ollamaq modelfile rule --all`. To silence a rule for one instruction, write above it\n"
        "`# ollamaq: ignore OQ105 the reason`; for a whole run, use `--ignore OQ105`.\n"
    )
    parts = [head]
    for prefix, title in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [explained(rule) for rule in rules if rule.id.startswith(prefix)]
    return "\n".join(parts)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"<U+{ord(c):04X}>" for c in text)
