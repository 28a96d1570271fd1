"""Names of models, by the rules of Ollama's ``types/model``: ``[[host/]namespace/]model[:tag]``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.files import own_name

MAX_PART = 80
STAGING = "staging-"

_PARTS = {
    # part: (longest, what may follow a letter, a digit or an underscore)
    "host": (350, "-._:"),
    "namespace": (MAX_PART, "-_"),
    "model": (MAX_PART, "-._"),
    "tag": (MAX_PART, "-._"),
}
_DEFAULTS = {"host": "registry.ollama.ai", "namespace": "library", "model": "", "tag": "latest"}
_RESERVED_TAG = re.compile(r"(?:.*-)?cloud|local", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A full name; ``str`` gives the short form that ``ollama list`` shows."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        above = ""
        if self.host.lower() != _DEFAULTS["host"]:
            above = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != _DEFAULTS["namespace"]:
            above = f"{self.namespace}/"
        return f"{above}{self.model}:{self.tag}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return self.host, self.namespace, self.model, self.tag

    def same(self, other: Name) -> bool:
        """Whether both name one model: Ollama ignores case."""
        return [part.lower() for part in self.parts] == [part.lower() for part in other.parts]


def parse_name(text: str) -> Name:
    """A name as Ollama understands it, with its defaults.

    Raises:
        UsageError: Ollama would refuse it, or (tags ``cloud``, ``local``) take it for something else than a model here.
    """
    rest, tag = text, ""
    if text.rfind(":") > text.rfind("/"):
        rest, _, tag = text.rpartition(":")
        _check("tag", tag, text)
    above, _, model = rest.rpartition("/")
    given = {"model": model, "tag": tag}
    if "/" in rest:
        higher, _, given["namespace"] = above.rpartition("/")
        _check("namespace", given["namespace"], text)
        if "/" in above:
            scheme, separator, host = higher.partition("://")
            given["host"] = host if separator else scheme
            if not separator or host:
                _check("host", given["host"], text)
    _check("model", model, text)
    name = Name(**(_DEFAULTS | {part: value for part, value in given.items() if value}))
    if _RESERVED_TAG.fullmatch(name.tag):
        raise UsageError(
            f"{text!r} is not a name for a model of yours: Ollama reserves the tag {name.tag!r}",
            next_step="choose another tag",
        )
    return name


def default_name(directory: Path, mix: str, name: str | None = None) -> str:
    """The full name of one mix: ``name``, or the directory's name made valid, with the mix as tag where it has none.

    The tag is written as in Ollama's library: ``finetune:q5_K_M``, ``finetune:fp16``.

    Raises:
        UsageError: Ollama would refuse the name, or nothing of the directory's name is left.
    """
    stem = name or _valid(directory)
    parsed = parse_name(stem)
    return str(parsed if stem.rfind(":") > stem.rfind("/") else parse_name(f"{stem}:{library_tag(mix)}"))


def library_tag(mix: str) -> str:
    """How Ollama's library writes a mix: ``q4_K_M``, ``q8_0``, ``fp16``."""
    return re.sub("^[A-Z]+", lambda match: match[0].lower(), re.sub("^F(?=[0-9])", "FP", mix))


def staging_name(name: str, token: str) -> str:
    """Where a model waits for its gate: beside ``name``, told apart by the name's tag and ``token``."""
    parsed = parse_name(name)
    mark = hashlib.sha256(f"{parsed}\n{token}".lower().encode()).hexdigest()[:12]
    return str(Name(parsed.host, parsed.namespace, parsed.model, STAGING + mark))


def kept_name(name: str, back: int) -> str:
    """What the version ``back`` steps before ``name`` is called: ``team/bot:prod-prev-1``.

    Raises:
        UsageError: that would be too long a tag.
    """
    parsed = parse_name(name)
    return str(parse_name(str(Name(parsed.host, parsed.namespace, parsed.model, f"{parsed.tag}-prev-{back}"))))


def _valid(directory: Path) -> str:
    name = Path(own_name(directory))
    stem = name.stem if name.suffix.lower() == ".gguf" else name.name
    valid = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:MAX_PART]
    if not valid:
        raise UsageError(
            f"no name for a model can be made of {str(directory)!r}", next_step="give a name: ollamaq publish SRC NAME"
        )
    return valid


def _check(part: str, value: str, text: str) -> None:
    longest, others = _PARTS[part]
    if not value:
        why = "is missing"
    elif len(value) > longest:
        why = f"has {len(value)} characters, of {longest} allowed"
    elif not re.match(r"[A-Za-z0-9_]", value):
        why = f"starts with {value[0]!r}, not with a letter, a digit or an underscore"
    elif wrong := re.search(rf"[^A-Za-z0-9_{re.escape(others)}]", value):
        why = f"has {wrong[0]!r} in it"
    else:
        return
    shown = text if len(text) <= 100 else text[:100] + "…"
    raise UsageError(
        f"Ollama would refuse the name {shown!r}: its {part} {why}",
        next_step="use letters, digits, '-', '_' and '.', as in team/support-bot:q5_K_M",
    )
