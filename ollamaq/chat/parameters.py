"""The PARAMETERs that a model asks for, and what says so: where answers end, how to sample, how much fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ollamaq.chat.known import KnownFormat
from ollamaq.chat.stops import stop_tokens
from ollamaq.checkpoint import Checkpoint
from ollamaq.gguf.model import Metadata
from ollamaq.modelfile.model import Parameter

SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Keys of generation_config.json and the PARAMETER each becomes."""
CONTEXT = 4096
"""Tokens: the least that Ollama gives a model of its own accord. One that was trained on less is not asked for more."""


@dataclass(frozen=True)
class Chosen:
    """One value of a PARAMETER, and where it is from."""

    name: str
    value: str | int | float
    origin: str


def chosen_parameters(checkpoint: Checkpoint | None, known: KnownFormat | None, metadata: Metadata) -> list[Chosen]:
    """Those of a model, at most one for each name but ``stop``: its authors' word goes before its format's."""
    found: dict[tuple[str, str], Chosen] = {}
    for chosen in _said(checkpoint, known, metadata):
        found.setdefault((chosen.name, str(chosen.value) if chosen.name == "stop" else ""), chosen)
    return list(found.values())


def as_parameters(chosen: Iterable[Chosen]) -> dict[str, Parameter]:
    """As a Modelfile has them."""
    parameters: dict[str, Parameter] = {}
    stops = []
    for one in chosen:
        if one.name == "stop":
            stops.append(str(one.value))
        else:
            parameters[one.name] = one.value
    return parameters | ({"stop": stops} if stops else {})


def _said(checkpoint: Checkpoint | None, known: KnownFormat | None, metadata: Metadata) -> Iterator[Chosen]:
    if checkpoint:
        for key, name in SAMPLING.items():
            value = checkpoint.generation_config.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Chosen(name, value, "generation_config.json")
        yield from (Chosen("stop", stop.text, stop.origin) for stop in stop_tokens(checkpoint))
    if known:
        origin = f"chat format {known.name}"
        yield from (Chosen(name, value, origin) for name, value in known.parameters.items())
        yield from (Chosen("stop", stop, origin) for stop in known.stops)
    architecture = metadata.get("general.architecture")
    limit = metadata.get(f"{architecture.value}.context_length") if architecture else None
    if limit and isinstance(limit.value, int) and 0 < limit.value < CONTEXT:
        yield Chosen("num_ctx", limit.value, "the longest text that it was trained on")
