"""Where a model is in a registry: ``host[:port]/namespace/name:tag``, in distribution's grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollamaq.errors import UsageError

_COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*)(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
MAX_REPOSITORY = 255


@dataclass(frozen=True)
class Reference:
    """``tag`` is a tag, or the digest of a manifest (``sha256:<hex>``)."""

    host: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{'@' if ':' in self.tag else ':'}{self.tag}"


def parse_reference(text: str) -> Reference:
    """A reference, with ``latest`` where it has no tag.

    Raises:
        UsageError: it has no host, or a registry would refuse it.
    """
    host, separator, rest = text.partition("/")
    if "://" in text:
        raise _refused(text, "it has a scheme", "leave the scheme out; --insecure means http")
    if not separator or not (any(mark in host for mark in ".:") or host == "localhost"):
        raise _refused(text, "it names no host", "write host[:port]/namespace/name:tag, as in ghcr.io/team/bot:q5_K_M")
    if not _HOST.fullmatch(host):
        raise _refused(text, f"{host!r} is not a host", "write host or host:port")
    repository, at, tag = rest.partition("@")
    if not at:
        repository, _, tag = rest.partition(":")
        tag = tag or "latest"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > MAX_REPOSITORY:
        step = "use lower-case letters, digits and single '.', '_' or '-' between them"
        raise _refused(text, f"{repository!r} is not the name of a repository", step)
    if not (_DIGEST if at else _TAG).fullmatch(tag):
        raise _refused(text, f"{tag!r} is not a {'digest' if at else 'tag'}", "write name:tag or name@sha256:…")
    return Reference(host, repository, tag)


def _refused(text: str, why: str, step: str) -> UsageError:
    shown = text if len(text) <= 100 else text[:100] + "…"
    return UsageError(f"{shown!r} is not a model in a registry: {why}", next_step=step)
