"""The linter: what is wrong, or probably not meant, in a Modelfile, and the fixes that are safe."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.modelfile.facts import ModelFacts
from ollamaq.modelfile.lint.rule import Context, Edit, Problem, Rule, Settings, Severity
from ollamaq.modelfile.lint.table import BY_ID, NO_REASON, RULES, SYNTAX, UNUSED
from ollamaq.modelfile.parser import Command, Comment, Document, ModelfileError, parse

__all__ = ["Finding", "ModelFacts", "Settings", "Severity", "choose", "fix", "lint"]

LONGEST = 300
"""Characters of a message, which may quote what is in the file."""
ROUNDS = 10
"""Of fixing: one fix may uncover what another one mends."""

_IGNORE = re.compile(r"#\s*ollamaq:\s*ignore\b\s*(?P<ids>\w+(?:\s*,\s*\w+)*)?\s*(?P<reason>.*)")


@dataclass(frozen=True)
class Finding:
    """A problem with its rule, from ``line``, ``column`` up to before ``end_line``, ``end_column``, all from 1."""

    rule: Rule
    message: str
    line: int
    column: int
    end_line: int
    end_column: int
    fix: Edit | None = None

    @property
    def severity(self) -> Severity:
        return self.rule.severity


def choose(select: Iterable[str] = (), ignore: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules whose ids begin with one of ``select`` (all, if empty) and with none of ``ignore``.

    Raises:
        UsageError: no rule begins like that.
    """
    select, ignore = tuple(select), tuple(ignore)
    for prefix in (*select, *ignore):
        if not any(rule.id.startswith(prefix) for rule in RULES) or not prefix:
            raise UsageError(f"no rule's id begins with {prefix!r}", next_step="see `ollamaq modelfile rule`")
    return tuple(
        rule for rule in RULES if rule.id.startswith(select or ("",)) and not (ignore and rule.id.startswith(ignore))
    )


def lint(
    text: str,
    directory: Path = Path(),
    *,
    settings: Settings = Settings(),  # noqa: B008 - it is frozen
    rules: Sequence[Rule] = RULES,
) -> list[Finding]:
    """What the rules find, in the order of the text; paths in it are relative to ``directory``."""
    try:
        document = parse(text)
    except ModelfileError as error:
        return [Finding(SYNTAX, f"{str(error).partition(': ')[2]}; {error.next_step}", *(error.line, error.column) * 2)]
    context = Context(document, directory, settings)
    found = [(rule, problem) for rule in rules for problem in rule.check(context)]
    kept = _Ignores(document, rules).applied(found)
    findings = [
        Finding(
            rule, _short(problem.message), *document.place(problem.start), *document.place(problem.end), fix=problem.fix
        )
        for rule, problem in kept
    ]
    return sorted(findings, key=lambda finding: (finding.line, finding.column, finding.rule.id))


def fix(
    text: str,
    directory: Path = Path(),
    *,
    settings: Settings = Settings(),  # noqa: B008 - it is frozen
    rules: Sequence[Rule] = RULES,
) -> tuple[str, int]:
    """The text with everything put right that safely can be, and the number of fixes."""
    done = 0
    for _ in range(ROUNDS):
        findings = lint(text, directory, settings=settings, rules=rules)
        edits = _apart([finding.fix for finding in findings if finding.fix])
        if not edits:
            break
        ends = [0, *(edit.end for edit in edits)]
        kept = [text[end : edit.start] + edit.text for end, edit in zip(ends, edits, strict=False)]
        text = "".join(kept) + text[ends[-1] :]
        done += len(edits)
    return text, done


def _short(message: str) -> str:
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}…"


def _apart(edits: Iterable[Edit]) -> list[Edit]:
    """Edits in order, without those that touch one before them."""
    chosen: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if not chosen or edit.start > chosen[-1].end:
            chosen.append(edit)
    return chosen


class _Ignores:
    """The comments that silence rules, each for the first instruction below it."""

    def __init__(self, document: Document, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.silenced: dict[tuple[int, str], Comment] = {}
        self.problems: list[tuple[Rule, Problem]] = []
        self.document = document
        for comment, command, match in _ignores(document):
            ids = re.split(r"\s*,\s*", match["ids"] or "")
            unknown = next((id_ for id_ in ids if id_ not in BY_ID), None)
            if unknown is not None:
                self.complain(comment, f"no rule has the id {unknown!r}" if unknown else "it names no rule")
            elif not match["reason"].strip():
                self.complain(comment, f"it gives no reason for ignoring {match['ids']}")
            elif command:
                self.silenced |= {(command.start, id_): comment for id_ in ids}

    def complain(self, comment: Comment, message: str) -> None:
        if NO_REASON in self.rules:
            self.problems.append((NO_REASON, Problem(message, comment.start, comment.end)))

    def applied(self, found: list[tuple[Rule, Problem]]) -> Iterator[tuple[Rule, Problem]]:
        """What is not silenced, and what is wrong with the comments."""
        starts = [command.start for command in self.document.commands]
        used: set[Comment] = set()
        for rule, problem in found:
            above = starts[max(bisect_right(starts, problem.start) - 1, 0)]
            if comment := self.silenced.get((above, rule.id)):
                used.add(comment)
            else:
                yield rule, problem
        yield from self.problems
        chosen = {rule.id for rule in self.rules}
        if UNUSED in self.rules:
            for comment in dict.fromkeys(self.silenced.values()):
                about = {id_ for (_, id_), silencing in self.silenced.items() if silencing is comment}
                if comment not in used and about <= chosen:
                    yield (
                        UNUSED,
                        Problem(
                            f"there is no {', '.join(sorted(about))} to ignore here",
                            comment.start,
                            comment.end,
                            Edit(comment.start, _next_line(self.document.text, comment.end), ""),
                        ),
                    )


def _ignores(document: Document) -> Iterator[tuple[Comment, Command | None, re.Match[str]]]:
    for i, part in enumerate(document.parts):
        if isinstance(part, Comment) and (match := _IGNORE.match(part.text)):
            yield part, next((below for below in document.parts[i:] if isinstance(below, Command)), None), match


def _next_line(text: str, at: int) -> int:
    return at + (2 if text.startswith("\r\n", at) else len(text[at : at + 1]))
