"""Findings as text, JSON, SARIF 2.1, GitHub annotations and JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from ollamaq.modelfile.lint import Finding, Severity
from ollamaq.modelfile.lint.table import RULES
from ollamaq.modelfile.printable import printed

SCHEMA_VERSION = 1

Findings = Mapping[str, Sequence[Finding]]
"""By the path of the file, clean ones included."""


def text(findings: Findings) -> str:
    """A line for each finding, as compilers write them; ``[*]`` marks what ``--fix`` puts right."""
    return "".join(
        f"{path}:{finding.line}:{finding.column}: {finding.rule.id} {'[*] ' if finding.fix else ''}"
        f"{printed(finding.message)} ({finding.rule.name})\n"
        for path, finding in _flat(findings)
    )


def as_json(findings: Findings) -> str:
    """One document, with everything in it."""
    entries = [
        {
            "path": path,
            "rule": finding.rule.id,
            "name": finding.rule.name,
            "severity": finding.severity.value,
            "message": finding.message,
            "line": finding.line,
            "column": finding.column,
            "end_line": finding.end_line,
            "end_column": finding.end_column,
            "fixable": finding.fix is not None,
        }
        for path, finding in _flat(findings)
    ]
    return _dumped({"schema_version": SCHEMA_VERSION, "files": len(findings), "findings": entries})


def sarif(findings: Findings) -> str:
    """SARIF 2.1.0, as code scanning takes it."""
    results = [
        {
            "ruleId": finding.rule.id,
            "ruleIndex": RULES.index(finding.rule),
            "level": finding.severity.value,
            "message": {"text": finding.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(path)},
                        "region": {
                            "startLine": finding.line,
                            "startColumn": finding.column,
                            "endLine": finding.end_line,
                            "endColumn": finding.end_column,
                        },
                    }
                }
            ],
        }
        for path, finding in _flat(findings)
    ]
    rules = [
        {
            "id": rule.id,
            "name": rule.name,
            "shortDescription": {"text": rule.name.replace("-", " ")},
            "fullDescription": {"text": " ".join(rule.why.split())},
            "defaultConfiguration": {"level": rule.severity.value},
        }
        for rule in RULES
    ]
    run = {
        "tool": {"driver": {"name": "ollamaq", "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return _dumped({"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]})


def github(findings: Findings) -> str:
    """Workflow commands, which GitHub Actions shows beside the lines."""
    return "".join(
        command(
            finding.severity.value,
            finding.message,
            file=path,
            line=finding.line,
            col=finding.column,
            endLine=finding.end_line,
            endColumn=finding.end_column,
            title=f"{finding.rule.id} {finding.rule.name}",
        )
        for path, finding in _flat(findings)
    )


def command(kind: str, message: str, **properties: object) -> str:
    """A line that GitHub Actions makes an annotation of."""
    given = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    return f"::{kind} {given}::{_escaped(message)}\n"


def junit(findings: Findings) -> str:
    """JUnit's XML: a test case for each file, which fails with its errors and warnings."""
    suite = ElementTree.Element("testsuite", name="ollamaq modelfile lint", tests=str(len(findings)))
    suite.set("failures", str(sum(bool(found) for found in findings.values())))
    suite.set("errors", "0")
    for path, found in findings.items():
        case = ElementTree.SubElement(suite, "testcase", name=printed(path), classname="ollamaq.modelfile.lint")
        if found:
            worst = Severity.ERROR if any(one.severity is Severity.ERROR for one in found) else Severity.WARNING
            failure = ElementTree.SubElement(case, "failure", type=worst.value, message=f"{len(found)} findings")
            failure.text = text({path: found})
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


FORMATS: dict[str, Callable[[Findings], str]] = {
    "text": text,
    "json": as_json,
    "sarif": sarif,
    "github": github,
    "junit": junit,
}


def _flat(findings: Findings) -> list[tuple[str, Finding]]:
    return [(path, finding) for path, found in findings.items() for finding in found]


def _dumped(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
