"""The whole way of a model: opened, planned, packed, created under a staging name, tested, and only then named."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from ollamaq import package
from ollamaq.chat.choose import hint
from ollamaq.chat.guard import protect
from ollamaq.chat.parameters import Chosen, as_parameters, chosen_parameters
from ollamaq.digests import digest_of
from ollamaq.errors import OllamaqError, UsageError
from ollamaq.gate import Gate
from ollamaq.gguf.model import Model, Value
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.contents import GGUF, PROJECTOR
from ollamaq.ollama.names import default_name, parse_name
from ollamaq.promotion import staging
from ollamaq.prompting import Prompting
from ollamaq.quantize import Imatrix, Overrides, find_mix, make_plan, read_imatrix
from ollamaq.registry.push import push as push_model
from ollamaq.registry.push import push_places
from ollamaq.release import Planned, PublishFailed, Release
from ollamaq.servers import DEFAULT_IMAGE, Progress, Target, open_targets
from ollamaq.smoke import apart, read_suite
from ollamaq.smoke.tokens import tokenizer_of
from ollamaq.source import Source, open_source
from ollamaq.team.preset import Preset, preset_for, prompted
from ollamaq.trial import Trial

log = logging.getLogger(__name__)

NO_OVERRIDES = Overrides()
NO_GATE = Gate()
CHAT_TEMPLATE = "tokenizer.chat_template"
PROJECTOR_OUTTYPE = "f16"
"""Of a projector in a package: every backend of llama.cpp has kernels for it."""


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


def plan_modelfiles(
    opened: Source, planned: Sequence[Planned], parameters: Sequence[Chosen], team: Preset | None = None
) -> dict[str, Modelfile]:
    """The Modelfile of each planned release, by its name: what the model brings, and what its team says over that.

    Raises:
        PolicyBroken: one is not as the team's policy wants it.
    """
    eyes = f"./{PROJECTOR}" if opened.projector else None
    own = Modelfile(from_=f"./{GGUF}", projector=eyes, parameters=as_parameters(parameters))
    if team is None:
        return {item.name: own for item in planned}
    licence = opened.model.metadata.get("general.license")
    return {item.name: team.applied(own, item.name, licence.value if licence else None) for item in planned}


@dataclass(frozen=True)
class Prepared:
    """A model opened, and all that is decided before anything is done: ``parameters`` are those that it brings itself,
    ``modelfiles`` are by the names of the releases.
    """

    opened: Source
    planned: list[Planned]
    parameters: list[Chosen]
    modelfiles: dict[str, Modelfile]


def prepare(
    source: str | Path,
    name: str | None = None,
    *,
    base: Path | None = None,
    adapters: Sequence[str] = (),
    chat_format: str | None = None,
    replace_template: bool = False,
    mmproj: bool = False,
    preset: str | None = None,
    env: str = "",
    quantization: str | Sequence[str] = "Q5_K_M",
    imatrix: str | None = None,
    overrides: Overrides = NO_OVERRIDES,
    output: Path | None = None,
) -> Prepared:
    """What `publish` would do with these arguments of its own; nothing is written and nobody is asked.

    Raises:
        PolicyBroken, UsageError, ModelRefused: as `publish`.
    """
    team = preset_for(Path(source), preset, env) if preset else None
    opened = open_source(
        Path(source),
        base=base,
        adapters=adapters,
        chat_format=chat_format or (team.chat_format if team else None),
        replace_template=replace_template,
        projector=PROJECTOR_OUTTYPE if mmproj else None,
    )
    planned = plan_releases(
        opened,
        name or (team.name if team else None),
        quantization=quantization,
        imatrix=read_imatrix(imatrix) if imatrix else None,
        overrides=overrides,
        output=output,
    )
    parameters = chosen_parameters(opened.checkpoint, opened.chat_format, opened.model.metadata)
    return Prepared(opened, planned, parameters, plan_modelfiles(opened, planned, parameters, team))


def publish(
    source: str | Path,
    name: str | None = None,
    *,
    base: Path | None = None,
    adapters: Sequence[str] = (),
    chat_format: str | None = None,
    replace_template: bool = False,
    mmproj: bool = False,
    preset: str | None = None,
    env: str = "",
    quantization: str | Sequence[str] = "Q5_K_M",
    imatrix: str | None = None,
    overrides: Overrides = NO_OVERRIDES,
    to: str = "auto",
    keep: int = 0,
    output: Path | None = None,
    image: str = DEFAULT_IMAGE,
    ollama: Sequence[str] = (),
    gpu: bool = False,
    cpus: float | None = None,
    port: int | None = None,
    prompts: Sequence[str] | None = None,
    expect: str | None = None,
    suite: Path | None = None,
    gate: Gate = NO_GATE,
    sign_with: Path | None = None,
    threads: int | None = None,
    push: str | None = None,
    insecure: bool = False,
    ca_file: Path | None = None,
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
        mmproj: publish the projector of a model that sees with it, in F16.
        preset: a model of the team's catalogue, or a preset, whose settings and policy hold.
        env: the environment that it is published for.
        quantization: a mix, such as ``Q5_K_M``, or several.
        imatrix: the path of an importance matrix.
        overrides: exceptions from the mix.
        to: ``auto``, a server's address, ``container``, ``store`` or ``file`` (only build the package).
        keep: how many versions before to keep, as ``NAME-prev-1`` and so on, for `promotion.rollback`.
        output: the directory of the package; of a folder for each mix where there are several.
        image: with ``container``, the image of Ollama to run.
        ollama: versions that it must work on; with ``container``, tags of that image, and it has to pass on all.
        gpu: with ``container``, hand the GPUs through.
        cpus: with ``container``, as many processors as it may use.
        port: with ``container``, the port of the loopback interface; by default a free one.
        prompts: questions of the smoke test, instead of its own.
        expect: a case-insensitive regular expression that the answer to the first question must contain.
        suite: a ``smoke.toml`` with tests of your own.
        gate: what it must show beyond passing checks; `gate.read_gate` reads one.
        sign_with: a private ed25519 key, by which the package's provenance is signed.
        threads: threads to quantize with; the bytes do not depend on it.
        push: ``host/namespace/name[:tag]`` of a registry, to which what has passed is pushed; the tag is by default
            that of the model's name.
        insecure: http instead of https for that registry.
        ca_file: a PEM file of further certificate authorities to trust there.
        progress: is told ``(label, done, total)``, in bytes.

    Raises:
        PublishFailed: a smoke test failed.
        PolicyBroken: the model is not as its team's policy wants it.
        UsageError: an unknown mix, preset or chat format, a chat format that the model contradicts, or a name that
            Ollama would refuse.
        ModelRefused: the model is damaged or of a kind that is not supported.
        ServerError: the server cannot be reached, or refuses.
        ToolchainError: Docker, the engine or disk space is missing.
    """
    cases = read_suite(suite) if suite else ()
    prepared = prepare(
        source,
        name,
        base=base,
        adapters=adapters,
        chat_format=chat_format,
        replace_template=replace_template,
        mmproj=mmproj,
        preset=preset,
        env=env,
        quantization=quantization,
        imatrix=imatrix,
        overrides=overrides,
        output=output,
    )
    opened, planned = prepared.opened, prepared.planned
    places = push_places(push, [item.name for item in planned], tested=to != "file", insecure=insecure, ca_file=ca_file)
    tokenize = tokenizer_of(opened.checkpoint.tokenizer_path) if opened.checkpoint else None
    trial = Trial(prompts, expect, tokenize, cases, gate)
    with contextlib.ExitStack() as stack:
        targets = open_targets(to, image=image, ollama=ollama, gpu=gpu, cpus=cpus, port=port, progress=progress)
        stages = [
            stack.enter_context(
                staging(stack.enter_context(target), [item.name for item in planned], keep=keep, progress=progress)
            )
            for target in targets
        ]
        stack.enter_context(_logs_kept(targets, planned[0].directory))
        prompting = Prompting(opened, targets, ollama)
        inputs = package.input_digests(opened.inputs, progress)
        if imatrix:
            inputs["imatrix"] = digest_of(Path(imatrix))
        releases = []
        for item in planned:
            started, told = time.monotonic(), _of(item.mix, progress)
            modelfile = prepared.modelfiles[item.name]
            built = package.build(
                item.directory,
                item.plan,
                prompting.applied(modelfile),
                projector=opened.projector,
                threads=threads,
                progress=told,
            )
            release = Release(
                item.name, item.mix, item.directory, opened.n_bytes, built.size, item.plan.bits_per_weight
            )
            if not stages:
                release = replace(release, checks=tuple(trial.of_package(item, built)))
            untested, undecided = release, bool(stages)
            while undecided:
                built = package.with_modelfile(built, prompting.applied(modelfile))
                trained = prompted(prompting.trained, modelfile)
                release = untested
                for stage in stages:
                    sent, checks = trial.on(stage, item, built, trained, told)
                    seen = apart(checks, stage.target) if len(stages) > 1 else checks
                    release = release.tested(stage.target, sent, seen)
                    untested = replace(untested, sent=release.sent)
                undecided = prompting.another(modelfile, release.checks)
            release = replace(release, template=prompting.facts(modelfile, release.checks))
            facts = _facts(item, inputs, _origins(modelfile, prepared.parameters, preset), release, targets)
            package.write_release(built, item.plan, **opened.told, **facts)
            if sign_with:
                package.sign_package(item.directory, sign_with)
            releases.append(replace(release, seconds=time.monotonic() - started))
        if not all(release.passed for release in releases):
            raise PublishFailed(releases)
        for digests in [stage.promote() for stage in stages]:
            releases = [replace(release, digest=digests[release.name]) for release in releases]
    for at, place in enumerate(places):
        pushed = push_model(
            str(releases[at].package),
            place,
            insecure=insecure,
            ca_file=ca_file,
            progress=_of(releases[at].mix, progress),
        )
        releases[at] = replace(releases[at], pushed=pushed.reference)
    return releases


@contextlib.contextmanager
def _logs_kept(targets: Sequence[Target], directory: Path) -> Iterator[None]:
    """What containers have logged stays beside the package when something goes wrong."""
    try:
        yield
    except OllamaqError as error:
        with contextlib.suppress(OllamaqError):
            logs = [f"{target.label}\n{log}\n" for target in targets if (log := target.log())]
            if logs and directory.is_dir():
                error.next_step = f"{error.next_step}; the server's log is in {package.write_log(directory, logs)}"
        raise


def _protected(opened: Source) -> Model:
    """The model with the chat template of training, behind what keeps it from being replaced."""
    model = opened.model
    kept = model.metadata.get(CHAT_TEMPLATE)
    template = opened.checkpoint.chat_template if opened.checkpoint else kept.value if kept else None
    if template is None:
        return model
    guarded = Value(GGUFValueType.STRING, protect(template))
    return Model(model.metadata | {CHAT_TEMPLATE: guarded}, model.tensors)


def _origins(modelfile: Modelfile, brought: Sequence[Chosen], preset: str | None) -> list[Chosen]:
    """The parameters of a Modelfile with their origins: where the model does not bring them, the preset."""
    if preset is None:
        return list(brought)
    known = {(one.name, str(one.value)): one for one in brought}
    told = [
        (name, single)
        for name, value in modelfile.parameters.items()
        for single in (value if isinstance(value, list) else [value])
    ]
    return [known.get((name, str(value))) or Chosen(name, value, f"preset {preset}") for name, value in told]


def _facts(
    item: Planned, inputs: dict[str, str], chosen: Sequence[Chosen], release: Release, targets: Sequence[Target]
) -> dict[str, Any]:
    return {
        "name": item.name,
        "mix": item.mix,
        "inputs": inputs,
        **({"license": licence.value} if (licence := item.plan.metadata.get("general.license")) else {}),
        "parameters": as_parameters(chosen),
        "parameter_origins": [dataclasses.asdict(one) for one in chosen],
        "template": release.template,
        "tested_with": ", ".join(f"{target.engine} {target.version}" for target in targets) or None,
        **({"images": images} if (images := [target.pinned for target in targets if target.pinned]) else {}),
        "smoke": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in release.checks],
    }


def _of(mix: str, progress: Progress) -> Progress:
    return lambda label, done, total: progress(f"{mix}: {label}", done, total)
