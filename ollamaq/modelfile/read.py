"""A Modelfile as data: what its instructions say, read as a server would take it."""

from __future__ import annotations

from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.modelfile.model import Modelfile, Parameter
from ollamaq.modelfile.parameters import OPTIONS, read_parameter
from ollamaq.modelfile.parser import Command, read_modelfile


def load_modelfile(path: Path) -> Modelfile:
    """The Modelfile at ``path``.

    Raises:
        UsageError: it cannot be read, names no model, or has an ADAPTER or a DRAFT.
    """
    last: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    licenses, messages, sources = [], [], []
    for command in read_modelfile(path).commands:
        match command.keyword:
            case "PARAMETER":
                _add_parameter(parameters, command, path)
            case "LICENSE":
                licenses.append(command.value)
            case "MESSAGE":
                messages.append((command.name, command.value))
            case "FROM":
                sources.append(command.value)
            case "ADAPTER" | "DRAFT":
                raise UsageError(f"{path} has {command.keyword}", next_step="merge it into the model: ollamaq publish")
            case keyword:
                last[keyword] = command.value
    if len(sources) not in (1, 2):
        raise UsageError(
            f"{path} has {len(sources)} FROM", next_step="name one GGUF, and its projector: FROM ./model.gguf"
        )
    return Modelfile(
        from_=sources[0],
        projector=sources[1] if sources[1:] else None,
        template=last.get("TEMPLATE"),
        system=last.get("SYSTEM"),
        parameters=parameters,
        licenses=tuple(licenses),
        messages=tuple(messages),
        renderer=last.get("RENDERER"),
        parser=last.get("PARSER"),
        requires=last.get("REQUIRES"),
    )


def _add_parameter(parameters: dict[str, Parameter], command: Command, path: Path) -> None:
    option = OPTIONS.get(command.name)
    value = read_parameter(option.type, command.value) if option else None
    if option is None or value is None:
        raise UsageError(
            f"{path}: Ollama would refuse PARAMETER {command.name} {command.value!r}",
            next_step=f"see `ollamaq modelfile lint {path}`",
        )
    if option.dropped:
        return
    if option.type in (int, float, bool):
        parameters[command.name] = value
        return
    stops = parameters.setdefault(command.name, [])
    assert isinstance(stops, list)
    stops.append(str(value))
