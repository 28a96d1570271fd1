"""Where an adapter's base model lies: named by the user, by the adapter as a path, or in the Hugging Face cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ollamaq.checkpoint.lora.adapter import REPOSITORY, Adapter, is_adapter
from ollamaq.errors import ModelRefused

MAX_NAME = 200
REVISION = re.compile(r"[\w.-]+(/[\w.-]+)*")


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
