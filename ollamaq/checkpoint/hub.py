"""``hf://org/name@revision``: a repository of the Hugging Face Hub, through its own library and cache."""

from __future__ import annotations

import re
from pathlib import Path

from ollamaq.errors import ServerError, UsageError

SCHEME = "hf:"
ADDRESS = re.compile(r"hf:/{1,2}(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
"""With one slash too, for that is what is left of two in a path."""
BESIDES = ["*.json", "*.jinja", "*.model", "README.md"]
WEIGHTS = (["model*.safetensors", "adapter_model.safetensors"], ["pytorch_model*.bin", "adapter_model.bin"])
"""The second only where the first are not."""


def fetched(source: Path) -> Path:
    """The directory of a repository's snapshot in the cache, fetched if it is not there; another path as it is.

    ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to huggingface_hub.

    Raises:
        UsageError: the address is not of this form, or the extra ``[hub]`` is not installed.
        ServerError: the repository cannot be had.
    """
    if not str(source).startswith(SCHEME) or source.exists():
        return source
    address = ADDRESS.fullmatch(str(source))
    if not address:
        raise UsageError(f"{str(source)!r} is no address of a model", next_step="write hf://org/name or …@revision")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UsageError(f"{source} needs huggingface_hub", next_step="pip install 'ollamaq[hub]'") from error
    name, revision = address["name"], address["revision"]
    try:
        for weights in WEIGHTS:
            place = Path(snapshot_download(name, revision=revision, allow_patterns=[*BESIDES, *weights]))
            if any(file for pattern in weights for file in place.glob(pattern)):
                break
    except (OSError, ValueError) as error:  # of which its errors are, in all its versions
        said = " ".join(str(error).split())[:200]
        raise ServerError(
            f"cannot fetch {name} of the Hugging Face Hub: {said}",
            next_step="check the name and the revision; a gated or private model needs hf auth login",
        ) from error
    return place
