"""What a Modelfile says, as data: the artefact and the ``/api/create`` request are both made from it."""

from __future__ import annotations

from dataclasses import dataclass, field

Parameter = str | int | float | bool | list[str]


@dataclass(frozen=True)
class Modelfile:
    """The instructions of a Modelfile. ``from_`` is a path or a name; empty fields are not written.

    ``projector`` is the path of a second GGUF, which makes pictures into something that the first reads.
    """

    from_: str
    template: str | None = None
    system: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None
    projector: str | None = None
