"""Rules on what a Modelfile says about the model, and on what it must not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.modelfile.lint.rule import Context, Problem, at, at_value
from ollamaq.modelfile.parameters import OPTIONS
from ollamaq.modelfile.source import Kind
from ollamaq.modelfile.versions import SEMVER, SINCE, Version, parse_version, written

SECRETS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{36,})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,200}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,}",
    "a password": r"(?i)\b(?:password|passwd|api[_-]?key|secret)\s*[:=]\s*[^\s\"'{}<>]{8,}",
}

_SECRETS = {what: re.compile(pattern) for what, pattern in SECRETS.items()}


def missing_licence(c: Context) -> Iterator[Problem]:
    """Whoever gets the model sees its licence with ``ollama show --license``; a GGUF does not bring one along. A model
    that builds on another one by name keeps that one's licence.
    """
    if c.sources and not c.all("LICENSE") and all(source.kind is not Kind.NAME for _, source in c.sources):
        yield at(c.sources[0][0], "there is no LICENSE")


def invalid_requires(c: Context) -> Iterator[Problem]:
    """REQUIRES takes a semantic version, such as ``0.34.1``."""
    for command in c.all("REQUIRES"):
        if not SEMVER.fullmatch(command.value):
            yield at_value(command, f"{command.value!r} is not a semantic version")


def requires_not_met(c: Context) -> Iterator[Problem]:
    """REQUIRES asks for a version older than one of the instructions needs, or for a newer one than the Ollama that the
    Modelfile is for (``--ollama``). Ollama itself stores REQUIRES and enforces nothing.
    """
    requires = c.last("REQUIRES")
    if not requires or not SEMVER.fullmatch(requires.value):
        return
    wanted = parse_version(requires.value)
    if wanted > c.settings.ollama:
        yield at_value(requires, f"it requires Ollama {requires.value}, and is for {written(c.settings.ollama)}")
    for command in c.document.commands:
        if command.keyword != "REQUIRES" and (since := _since(command.keyword, command.name)) > wanted:
            what = f"{command.label} needs Ollama {written(since)}"
            yield at(command, f"{what}, and REQUIRES says {requires.value}")


def secret(c: Context) -> Iterator[Problem]:
    """Everything in a Modelfile can be read by whoever has the model, and the model repeats its system message when it
    is asked cleverly. Passwords, keys and tokens do not belong there.
    """
    for command in c.all("SYSTEM", "TEMPLATE", "MESSAGE"):
        for what, pattern in _SECRETS.items():
            for found in pattern.finditer(c.document.text, command.value_start, command.end):
                yield Problem(f"this looks like {what}", found.start(), found.end())


def _since(keyword: str, name: str) -> Version:
    if keyword == "PARAMETER" and name in OPTIONS:
        return OPTIONS[name].since
    return SINCE.get(keyword, (0,))
