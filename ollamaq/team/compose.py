"""What the presets of a model come to, as a Modelfile with a name and a place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined

from ollamaq.chat.known import find_format
from ollamaq.chat.sandbox import MAX_SECONDS, METER, Meter, OutOfBounds, Sandbox
from ollamaq.errors import UsageError
from ollamaq.modelfile.format import formatted
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parameters import CURRENT
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.render import render
from ollamaq.modelfile.source import LIKE_A_PATH
from ollamaq.modelfile.words import did_you_mean
from ollamaq.ollama.names import parse_name
from ollamaq.team.files import CATALOGUE, inside, read_text
from ollamaq.team.merge import Merged, Setting, merge
from ollamaq.team.places import Table, Team
from ollamaq.team.policy import PolicyBroken, broken

OUTPUT = "modelfiles/{% if env %}{{ env }}/{% endif %}{{ model }}.Modelfile"
"""Where a Modelfile goes if nobody says."""
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_UNDEFINED = re.compile(r"'(\w+)' is undefined")


@dataclass(frozen=True)
class Composed:
    """A model in an environment; ``name`` and ``output`` are None where presets alone do not say them."""

    merged: Merged
    modelfile: Modelfile
    name: str | None
    output: Path | None

    @property
    def label(self) -> str:
        return f"{self.merged.name} ({self.merged.env})" if self.merged.env else self.merged.name

    def text(self) -> str:
        """The Modelfile that is kept in the repository.

        Raises:
            UsageError: something in it cannot be written in Ollama's grammar, or Ollama would refuse it.
        """
        table = self.merged.chain[-1]
        of = f"{table.key}, {self.merged.env}" if self.merged.env else table.key
        try:
            text = f"# Rendered from {table.file.name} ({of}): change it there.\n{render(self.modelfile)}"
        except UsageError as error:
            raise UsageError(f"{table.where('')[:-2]}: {error}", next_step=error.next_step) from error
        return formatted(parse(text))


def compose(team: Team, table: Table, env: str = "") -> Composed:
    """Merge what a model builds on, fill the templates, and hold it to the policies.

    Raises:
        UsageError: a preset, a file or an environment is missing, a path leaves its directory, or a template fails.
        PolicyBroken: the model is not as a policy wants it.
    """
    composed = filled(team, merge(team, table, env))
    if LIKE_A_PATH.match(composed.modelfile.from_):
        _check_from(composed.modelfile.from_, composed.merged.settings["from"], composed.output)
    hold(composed, composed.name)
    return composed


def hold(composed: Composed, name: str | None) -> None:
    """See that a model is as the policies want it; ``name`` is what it is called on servers, if that is known.

    Raises:
        PolicyBroken: it is not.
    """
    if rules := broken(composed.merged, name):
        raise PolicyBroken(composed.label, rules)


def filled(team: Team, merged: Merged) -> Composed:
    """What the presets of a model come to, held to no policy yet.

    Raises:
        UsageError: a file is missing, a path leaves its directory, a name is none, or a template fails.
    """
    fill = _Filler(merged)
    name = fill.text("name", merged.name if merged.chain[-1].model else None)
    if name is not None:
        _checked_name(name, merged.settings.get("name"))
    chat_format = fill.plain("chat_format")
    parameters = {key: setting.value for key, setting in merged.inside("parameters").items()}
    licence = (fill.plain("license"), fill.file("license_file"))
    messages = merged.settings.get("messages")
    modelfile = Modelfile(
        from_=fill.text("from") or "",
        template=find_format(chat_format).go if chat_format else fill.file("template_file"),
        system=fill.text("system") or fill.filled("system_file", fill.file("system_file")),
        parameters={key: parameters[key] for key in CURRENT if key in parameters},
        licenses=tuple(text for text in licence if text),
        messages=tuple(
            (message["role"], fill(message["content"], messages.table.where(f"{messages.key}[{i}].content")))
            for i, message in enumerate(messages.value)
        )
        if messages
        else (),
        renderer=fill.plain("renderer"),
        parser=fill.plain("parser"),
        requires=fill.plain("requires"),
    )
    return Composed(merged, modelfile, name, _output(team, fill))


def _output(team: Team, fill: _Filler) -> Path | None:
    if not team.root:
        return None
    said = fill.merged.settings.get("output")
    written = said.value if said else team.catalogue.get("output", OUTPUT)
    where = said.origin if said else f"{team.file}: output"
    path = fill(written, where)
    inside(team.root, team.root, path, where)
    return Path(os.path.normpath(team.root / path))


def _checked_name(name: str, said: Setting | None) -> None:
    try:
        parse_name(name)
    except UsageError as error:
        raise UsageError(f"{said.origin if said else CATALOGUE}: {error}", next_step=error.next_step) from error


def _check_from(path: str, said: Setting, output: Path | None) -> None:
    """See that Ollama will not be sent a file from outside of the repository."""
    root = said.table.root
    inside(root, output.parent if output else root, path, said.origin)


class _Filler:
    """Fills templates with a model's variables."""

    def __init__(self, merged: Merged) -> None:
        self.merged = merged
        variables = merged.inside("variables")
        for name, setting in variables.items():
            if name in ("model", "env") or not _VARIABLE.fullmatch(name):
                raise UsageError(
                    f"{setting.origin} is no name for a variable",
                    next_step="use letters, digits and _; model and env have their meanings",
                )
        self.values: dict[str, Any] = {name: setting.value for name, setting in variables.items()}
        self.values |= {"model": merged.name, "env": merged.env}
        self.sandbox = Sandbox()
        self.sandbox.undefined = StrictUndefined
        del self.sandbox.globals["strftime_now"]  # a Modelfile is the same on every day

    def __call__(self, template: str, where: str) -> str:
        """A template, filled.

        Raises:
            UsageError: it is not valid, asks for a variable that nobody set, or takes too long.
        """
        try:
            return self.sandbox.template(template).render({**self.values, METER: Meter()})
        except (OutOfBounds, MemoryError) as error:
            raise UsageError(
                f"{where}: the template takes more than {MAX_SECONDS:.0f} seconds, or makes too much",
                next_step="make it smaller",
            ) from error
        except Exception as error:  # whatever a stranger's program can raise
            said = " ".join(str(error).split())[:200] or type(error).__name__
            missing = _UNDEFINED.search(said)
            near = did_you_mean(missing[1], self.values) if missing else ""
            line = getattr(error, "lineno", None)
            raise UsageError(
                f"{where}: the template fails{f' in line {line}' if line else ''}: {said}{near}",
                next_step=f"it knows {', '.join(self.values)}",
            ) from error

    def plain(self, key: str) -> str | None:
        setting = self.merged.settings.get(key)
        return setting.value if setting else None

    def text(self, key: str, default: str | None = None) -> str | None:
        setting = self.merged.settings.get(key)
        return self(setting.value, setting.origin) if setting else default

    def filled(self, key: str, template: str | None) -> str | None:
        return None if template is None else self(template, self.merged.settings[key].origin).strip()

    def file(self, key: str) -> str | None:
        """The text of the file that a setting names, without blanks at its ends."""
        setting = self.merged.settings.get(key)
        if setting is None:
            return None
        path = inside(setting.table.root, setting.table.file.parent, setting.value, setting.origin)
        return read_text(path, setting.origin).replace("\r\n", "\n").strip()
