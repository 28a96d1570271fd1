"""The whole way of a model: opened, planned, packed, created under a staging name, tested, and only then named."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from ollamaq import package
from ollamaq.chat.choose import hint
from ollamaq.chat.guard import protect
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.stops import stop_tokens
from ollamaq.digests import digest_of
from ollamaq.errors import GateFailed, ServerError, UsageError
from ollamaq.gguf.model import Model, Value
from ollamaq.modelfile.model import Modelfile, Parameter
from ollamaq.ollama.names import default_name, parse_name, staging_name
from ollamaq.quantize import Imatrix, Overrides, Plan, find_mix, make_plan, read_imatrix
from ollamaq.servers import DEFAULT_IMAGE, Progress, Target, open_target
from ollamaq.smoke import CheckResult, run_smoke
from ollamaq.smoke.tokens import token_counter
from ollamaq.source import Source, open_source

log = logging.getLogger(__name__)

NO_OVERRIDES = Overrides()
CHAT_TEMPLATE = "tokenizer.chat_template"

SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Keys of generation_config.json and the PARAMETER each becomes."""


@dataclass(frozen=True)
class Release:
    """What publishing one mix came to; ``target`` is None where the package was only built.

    ``sent`` tells whether the GGUF had to be sent or was there already; ``digest`` is that of the published manifest.
    """

    name: str
    mix: str
    package: Path
    source_bytes: int
    bytes: int
    bits_per_weight: float
    target: str | None = None
    sent: bool | None = None
    digest: str | None = None
    checks: tuple[CheckResult, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return all(check.ok is not False for check in self.checks)


class PublishFailed(GateFailed):
    """A smoke test failed; ``releases`` tell which, and where the packages lie. Nothing was published."""

    def __init__(self, releases: Sequence[Release]) -> None:
        self.releases = tuple(releases)
        broken = [
            f"{check.name} ({release.mix})" for release in releases for check in release.checks if check.ok is False
        ]
        super().__init__(
            f"the smoke test failed: {', '.join(broken)}; nothing was published",
            next_step=f"see {self.releases[-1].package / package.RELEASE}, mend the model, and publish again",
        )


@dataclass(frozen=True)
class Planned:
    """One mix of a model, before anything is done: the name it will have, its plan, and where its package goes."""

    name: str
    mix: str
    plan: Plan
    directory: Path


def plan_releases(
    opened: Source,
    name: str | None = None,
    *,
    quantization: str | Sequence[str] = "Q5_K_M",
    imatrix: Imatrix | None = None,
    overrides: Overrides = NO_OVERRIDES,
    output: Path | None = None,
) -> list[Planned]:
    """Decide names, types and places for each mix; nothing is written and nobody is asked.

    Raises:
        UsageError: an unknown mix, a name that Ollama would refuse, or one full name for several mixes.
        ModelRefused: the model cannot be quantized.
    """
    wanted = [quantization] if isinstance(quantization, str) else list(quantization)
    mixes = dict(find_mix(text) for text in wanted)
    if len(mixes) > 1 and name and ":" in name.rpartition("/")[2]:
        raise UsageError(
            f"{name!r} is one name for {len(mixes)} mixes", next_step="leave the tag out: each mix gets one of its own"
        )
    model = _protected(opened)
    if said := hint(model.metadata, str(opened.path)):
        log.warning("%s", said)
    planned = []
    for mix_name, mix in mixes.items():
        full = default_name(opened.path, mix_name, name)
        directory = output or Path(f"{parse_name(full).model}-{mix_name}")
        if output and len(mixes) > 1:
            directory = output / mix_name
        plan = make_plan(model, mix, imatrix=imatrix, overrides=overrides)
        planned.append(Planned(full, mix_name, plan, directory))
    return planned


def publish(
    source: str | Path,
    name: str | None = None,
    *,
    base: Path | None = None,
    adapters: Sequence[str] = (),
    chat_format: str | None = None,
    replace_template: bool = False,
    quantization: str | Sequence[str] = "Q5_K_M",
    imatrix: str | None = None,
    overrides: Overrides = NO_OVERRIDES,
    to: str = "auto",
    output: Path | None = None,
    image: str = DEFAULT_IMAGE,
    gpu: bool = False,
    port: int | None = None,
    prompts: Sequence[str] | None = None,
    expect: str | None = None,
    threads: int | None = None,
    progress: Progress = lambda label, done, total: None,
) -> list[Release]:
    """Publish a model directory (or a GGUF of floats) to Ollama, in one mix or several.

    Each mix becomes a package in ``output`` (default: ``./<name>-<MIX>``), is created on the target under a staging
    name and smoke-tested there; when all pass, each gets its final name. Otherwise the target is left as it was.

    Args:
        source: a Hugging Face model directory, a LoRA adapter's directory, or a GGUF file.
        name: ``[namespace/]model[:tag]``; by default the directory's name, and the mix as tag.
        base: the model that an adapter was trained on; by default the one that it names, if that is on this machine.
        adapters: directories of LoRA adapters to merge as well, each with ``=WEIGHT`` where that is not 1.
        chat_format: the known chat format that a model without chat template was trained with.
        replace_template: use ``chat_format`` even where the model has a chat template with other prompts.
        quantization: a mix, such as ``Q5_K_M``, or several.
        imatrix: the path of an importance matrix.
        overrides: exceptions from the mix.
        to: ``auto``, a server's address, ``container``, ``store`` or ``file`` (only build the package).
        output: the directory of the package; of a folder for each mix where there are several.
        image: with ``container``, the image of Ollama to run.
        gpu: with ``container``, hand the GPUs through.
        port: with ``container``, the port of the loopback interface; by default a free one.
        prompts: questions of the smoke test, instead of its own.
        expect: a case-insensitive regular expression that the answer to the first question must contain.
        threads: threads to quantize with; the bytes do not depend on it.
        progress: is told ``(label, done, total)``, in bytes.

    Raises:
        PublishFailed: a smoke test failed.
        UsageError: an unknown mix or chat format, a chat format that the model contradicts, or a name that Ollama
            would refuse.
        ModelRefused: the model is damaged or of a kind that is not supported.
        ServerError: the server cannot be reached, or refuses.
        ToolchainError: Docker, the engine or disk space is missing.
    """
    opened = open_source(
        Path(source), base=base, adapters=adapters, chat_format=chat_format, replace_template=replace_template
    )
    weights = read_imatrix(imatrix) if imatrix else None
    planned = plan_releases(
        opened, name, quantization=quantization, imatrix=weights, overrides=overrides, output=output
    )
    trained = _chat_format(opened)
    counter = token_counter(opened.checkpoint.tokenizer_path) if opened.checkpoint else None
    parameters = _parameters(opened)
    with contextlib.ExitStack() as stack:
        target = None
        if to != "file":
            target = stack.enter_context(open_target(to, image=image, gpu=gpu, port=port, progress=progress))
        inputs = package.input_digests(opened.inputs, progress)
        if imatrix:
            inputs["imatrix"] = digest_of(Path(imatrix))
        releases, staged = [], {}
        for item in planned:
            started = time.monotonic()
            modelfile = Modelfile(from_=f"./{package.GGUF}", parameters=parameters)
            built = package.build(
                item.directory, item.plan, modelfile, threads=threads, progress=_of(item.mix, progress)
            )
            release = Release(
                item.name, item.mix, item.directory, opened.n_bytes, built.size, item.plan.bits_per_weight
            )
            if target:
                staging = staging_name(item.name, built.sha256)
                stack.callback(_discard, target, staging)
                sent = target.create(staging, built.gguf, built.sha256, modelfile, _of(item.mix, progress))
                progress(f"{item.mix}: smoke test", 0, 0)
                checks = run_smoke(target, staging, trained, prompts=prompts, expect=expect, count_tokens=counter)
                release = dataclasses.replace(release, target=target.label, sent=sent, checks=tuple(checks))
                staged[staging] = item.name
            package.write_release(built, item.plan, **opened.told, **_facts(item, inputs, modelfile, release, target))
            releases.append(dataclasses.replace(release, seconds=time.monotonic() - started))
        if not all(release.passed for release in releases):
            raise PublishFailed(releases)
        if target:
            digests = [_promote(target, staging, final) for staging, final in staged.items()]
            releases = [dataclasses.replace(r, digest=d) for r, d in zip(releases, digests, strict=True)]
    return releases


def _promote(target: Target, staging: str, final: str) -> str:
    target.copy(staging, final)
    digest = target.digest(final)
    if digest is None or digest != target.digest(staging):
        raise ServerError(
            f"{target.label} has another model as {final} than the one that was tested",
            next_step="see whether somebody else publishes under that name, then publish again",
        )
    return digest


def _discard(target: Target, staging: str) -> None:
    with contextlib.suppress(ServerError):  # a server that is gone must not hide why it is
        if target.digest(staging):
            target.delete(staging)


def _protected(opened: Source) -> Model:
    """The model with the chat template of training, behind what keeps it from being replaced."""
    model = opened.model
    kept = model.metadata.get(CHAT_TEMPLATE)
    template = opened.checkpoint.chat_template if opened.checkpoint else kept.value if kept else None
    if template is None:
        return model
    guarded = Value(GGUFValueType.STRING, protect(template))
    return Model(model.metadata | {CHAT_TEMPLATE: guarded}, model.tensors)


def _chat_format(opened: Source) -> ChatFormat | None:
    if opened.checkpoint:
        return ChatFormat.of(opened.checkpoint)
    metadata = opened.model.metadata
    if CHAT_TEMPLATE not in metadata:
        return None
    vocabulary = metadata["tokenizer.ggml.tokens"].value

    def token(role: str) -> str | None:
        at = metadata.get(f"tokenizer.ggml.{role}_token_id")
        return vocabulary[at.value] if at and at.value < len(vocabulary) else None

    tokens = {f"{role}_token": text for role in ("bos", "eos") if (text := token(role))}
    return ChatFormat(metadata[CHAT_TEMPLATE].value, tokens)


def _parameters(opened: Source) -> dict[str, Parameter]:
    """Stop tokens, and the sampling that the model's authors chose, or else those of its chat format."""
    checkpoint, known = opened.checkpoint, opened.chat_format
    parameters: dict[str, Parameter] = dict(known.parameters) if known else {}
    stops = [stop.text for stop in stop_tokens(checkpoint)] if checkpoint else []
    stops += known.stops if known else ()
    chosen = checkpoint.generation_config if checkpoint else {}
    parameters |= {
        parameter: chosen[key] for key, parameter in SAMPLING.items() if isinstance(chosen.get(key), int | float)
    }
    return parameters | ({"stop": list(dict.fromkeys(stops))} if stops else {})


def _facts(
    item: Planned, inputs: dict[str, str], modelfile: Modelfile, release: Release, target: Target | None
) -> dict[str, Any]:
    template = item.plan.metadata.get(CHAT_TEMPLATE)
    prompt = next((check for check in release.checks if check.name == "prompt"), None)
    return {
        "name": item.name,
        "mix": item.mix,
        "inputs": inputs,
        "parameters": modelfile.parameters,
        "template": {
            "strategy": "the GGUF's own chat template (Jinja)" if template else "none",
            "equal_to_training": prompt.ok if prompt else None,
            "verdict": prompt.detail if prompt else "not tested",
        },
        "tested_with": f"{target.engine} {target.version}" if target else None,
        "smoke": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in release.checks],
    }


def _of(mix: str, progress: Progress) -> Progress:
    return lambda label, done, total: progress(f"{mix}: {label}", done, total)
