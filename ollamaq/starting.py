"""The Modelfile that a model's own files suggest, to start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ollamaq.chat.choose import CHAT_TEMPLATE
from ollamaq.chat.parameters import as_parameters, chosen_parameters
from ollamaq.modelfile.diff import Meaning, meaning
from ollamaq.modelfile.format import formatted
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.render import render
from ollamaq.source import Source, open_source


@dataclass(frozen=True)
class Start:
    """A Modelfile, and where each of its parameters is from."""

    modelfile: Modelfile
    origins: tuple[tuple[str, str], ...]

    def with_answers(self, *, system: str | None, num_ctx: int | None, license_: str | None) -> Start:
        """With what only its maker knows."""
        asked = {"num_ctx": num_ctx} if num_ctx else {}
        return replace(
            self,
            modelfile=replace(
                self.modelfile,
                system=system or None,
                parameters=self.modelfile.parameters | asked,
                licenses=(license_,) if license_ else (),
            ),
        )

    @property
    def text(self) -> str:
        """As a file.

        Raises:
            UsageError: something in it cannot be written in Ollama's grammar.
        """
        told = "".join(f"# {name}: {origin}\n" for name, origin in self.origins)
        return formatted(parse(f"{told}{render(self.modelfile)}"))


def starting_modelfile(source: Path, from_: str = "./model.gguf") -> Start:
    """Stops and sampling as a model's files have them, and its licence by name.

    Raises:
        ModelRefused: it is damaged, or of a kind that is not supported.
    """
    return _start(open_source(source), from_)


def meaning_of_model(source: Path) -> Meaning:
    """What a model says by itself, as `modelfile.diff` has it: TEMPLATE is its own chat template, and there is no FROM.

    Raises:
        ModelRefused: it is damaged, or of a kind that is not supported.
    """
    opened = open_source(source)
    found = meaning(parse(_start(opened, "itself").text))
    template = opened.model.metadata.get(CHAT_TEMPLATE)
    own = {"TEMPLATE": [template.value]} if template and isinstance(template.value, str) else {}
    return {key: values for key, values in found.items() if key != "FROM"} | own


def _start(opened: Source, from_: str) -> Start:
    chosen = chosen_parameters(opened.checkpoint, opened.chat_format, opened.model.metadata)
    licence = opened.model.metadata.get("general.license")
    modelfile = Modelfile(from_, parameters=as_parameters(chosen), licenses=(str(licence.value),) if licence else ())
    return Start(modelfile, tuple((f"{one.name} {one.value!r}", one.origin) for one in chosen))
