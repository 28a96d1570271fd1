"""Where an adapter's base model lies: named by the user, by the adapter as a path, or in the Hugging Face cache."""

from __future__ import annotations

import os
import re
import reprlib
from pathlib import Path
from typing import Any

from ollamaq.checkpoint.directory import CONFIG, read_json
from ollamaq.checkpoint.lora.adapter import REPOSITORY, Adapter, is_adapter
from ollamaq.errors import ModelRefused

MAX_NAME = 200
REVISION = re.compile(r"[\w.-]+(/[\w.-]+)*")
COMMIT = re.compile(r"[0-9a-f]{7,40}")
SNAPSHOT = re.compile(r"models--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})")
FETCHED = ".cache/huggingface/download/config.json.metadata"
"""Where ``hf download --local-dir`` notes the commit, in its first line."""
SHAPING = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "num_local_experts", "num_experts"),
)
"""Settings that no training changes; a vocabulary may grow."""


def base_of(adapter: Adapter, given: Path | None = None) -> Path:
    """The directory of an adapter's base: ``given``, or the one it names.

    Raises:
        ModelRefused: there is none, or it is another revision or another model than the adapter was trained on.
    """
    base = given or find_base(adapter)
    _check_revision(adapter, base)
    if (adapter.path / CONFIG).is_file():  # some trainers leave the base's there
        stated, found = (_text_settings(read_json(path, CONFIG)) for path in (adapter.path, base))
        for name in SHAPING:
            if name in stated and name in found and stated[name] != found[name]:
                raise ModelRefused(
                    f"{adapter.path / CONFIG} has {name} = {reprlib.repr(stated[name])}, and the base in {base} has"
                    f" {reprlib.repr(found[name])}",
                    next_step="give the base that the adapter was trained on: --base DIR",
                )
    return base


def _text_settings(config: dict[str, Any]) -> dict[str, Any]:
    text = config.get("text_config")
    known = config | (text if isinstance(text, dict) else {})
    return {name: value for name, value in known.items() if value is not None}


def _check_revision(adapter: Adapter, base: Path) -> None:
    """Refuse another commit of the base's repository than the adapter records, where both are known."""
    place = SNAPSHOT.search(base.resolve().as_posix())
    if place and place["name"] == (adapter.base or "").replace("/", "--"):
        commit, refs = place["commit"], base.resolve().parent.parent / "refs"
    else:
        commit, refs = _first_line(base / FETCHED), base / "refs"
    wanted = adapter.revision or ""
    if not REVISION.fullmatch(wanted) or ".." in wanted:
        return
    wanted = _first_line(refs / wanted) or wanted
    if COMMIT.fullmatch(wanted) and COMMIT.fullmatch(commit) and not commit.startswith(wanted):
        raise ModelRefused(
            f"{adapter.path} was trained on revision {wanted} of {adapter.base!r}, and {base} is {commit}",
            next_step=f"hf download {adapter.base} --revision {wanted}",
        )


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            return lines.readline(MAX_NAME).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def find_base(adapter: Adapter) -> Path:
    """The directory of the base that an adapter names; nothing is fetched.

    Raises:
        ModelRefused: it names none, or none that is on this machine.
    """
    name = adapter.base
    if name is None:
        raise ModelRefused(f"{adapter.path} does not name its base model", next_step="name it: --base DIR")
    for place in (adapter.path / name, Path(os.path.expanduser(name))):
        if os.path.isfile(place / "config.json") and not is_adapter(place):
            return place.resolve()
    cache = cache_directory()
    if found := _snapshot(cache, name, adapter.revision):
        return found
    wanted = repr(name[:200]) + (f" of revision {adapter.revision[:200]!r}" if adapter.revision else "")
    raise ModelRefused(
        f"{adapter.path} is made for the base model {wanted}, which is neither a directory nor in {cache}",
        next_step="give it: --base DIR; hf download fetches it",
    )


def cache_directory() -> Path:
    """Hugging Face's cache of repositories (huggingface_hub's ``constants.py`` has the same order)."""
    for name, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if value := os.environ.get(name):
            return Path(value).expanduser() / below
    return Path.home() / ".cache/huggingface/hub"


def _snapshot(cache: Path, name: str, revision: str | None) -> Path | None:
    """A repository's snapshot of a branch, tag or commit; of ``main``, or the only one, where none is named."""
    if (
        len(name) > MAX_NAME
        or not REPOSITORY.fullmatch(name)
        or not REVISION.fullmatch(revision or "main")
        or ".." in f"{name}/{revision}"
    ):
        return None
    repository = cache / f"models--{name.replace('/', '--')}"
    try:
        commit = (repository / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = revision or ""
    if not commit:
        snapshots = sorted((repository / "snapshots").glob("*"))
        commit = snapshots[0].name if len(snapshots) == 1 else ""
    if not commit or not REVISION.fullmatch(commit) or ".." in commit:
        return None
    snapshot = repository / "snapshots" / commit
    return snapshot if os.path.isfile(snapshot / "config.json") else None
