"""Places to publish to, behind one protocol."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence

from ollamaq.errors import OllamaqError, ServerGone, ToolchainError, UsageError
from ollamaq.ollama import silent
from ollamaq.ollama.client import Client
from ollamaq.ollama.host import parse_host
from ollamaq.servers.target import Message, Progress, Reply, Target

__all__ = ["DEFAULT_IMAGE", "Message", "Progress", "Reply", "Target", "open_target", "open_targets"]

DEFAULT_IMAGE = "ollama/ollama:0.34.2"


def open_target(
    to: str = "auto",
    *,
    image: str = DEFAULT_IMAGE,
    gpu: bool = False,
    cpus: float | None = None,
    port: int | None = None,
    progress: Progress = silent,
) -> Target:
    """The place that ``--to`` names; nothing is started before it is entered.

    ``auto`` is the server at OLLAMA_HOST if one answers there, else this machine's store and the embedded engine.

    Raises:
        UsageError: the word is not known and is not an address.
        ServerError: what answers at the OLLAMA_HOST that is set is not trusted, or refuses.
        ToolchainError: nothing here can run a model.
    """
    if to == "auto":
        url = parse_host(os.environ.get("OLLAMA_HOST", ""))
        if _answers(url):
            to = url
        elif importlib.util.find_spec("xllamacpp"):
            to = "store"
        else:
            raise ToolchainError(
                f"no Ollama server answers at {url}, and the embedded engine is not installed",
                next_step="start `ollama serve`, use --to container, or pip install 'ollamaq[embedded]'",
            )
    if to == "store":
        from ollamaq.servers.embedded import Embedded

        return Embedded()
    if to == "container":
        from ollamaq.servers.container import Container

        return Container(image, gpu=gpu, cpus=cpus, port=port, progress=progress)
    if to.isidentifier() and to != "localhost":
        raise UsageError(
            f"unknown target {to!r}",
            next_step="use auto, container, store, a server's address such as host:11434, or (to publish) file",
        )
    from ollamaq.servers.remote import RemoteServer

    return RemoteServer(Client(parse_host(to)))


def open_targets(
    to: str = "auto",
    *,
    image: str = DEFAULT_IMAGE,
    ollama: Sequence[str] = (),
    gpu: bool = False,
    cpus: float | None = None,
    port: int | None = None,
    progress: Progress = silent,
) -> list[Target]:
    """The places that ``--to`` names: none for ``file``, and a container for each version in ``ollama``.

    Versions are tags of ``image``; each has a volume of its own, as they may write models differently.

    Raises:
        UsageError: versions for anything but containers, or one port for several of them; and as `open_target`.
        ToolchainError: as `open_target`.
    """
    if to == "file":
        return []
    if not ollama:
        return [open_target(to, image=image, gpu=gpu, cpus=cpus, port=port, progress=progress)]
    if to != "container":
        raise UsageError(
            f"versions of Ollama are chosen for containers, and not for {to}", next_step="add --to container"
        )
    if wrong := next((version for version in ollama if not re.fullmatch(r"\w[\w.-]{0,127}", version)), None):
        raise UsageError(f"{wrong!r} is not a version of Ollama", next_step="write --ollama 0.34.2")
    if port and len(ollama) > 1:
        raise UsageError(f"port {port} is one for {len(ollama)} containers", next_step="leave --port out")
    from ollamaq.servers.container import VOLUME, Container

    repository = re.sub(r"(:[^:/@]*)?(@.*)?$", "", image)
    return [
        Container(
            f"{repository}:{version}",
            volume=f"{VOLUME}-{version}",
            gpu=gpu,
            cpus=cpus,
            port=port,
            progress=progress,
        )
        for version in dict.fromkeys(ollama)
    ]


def _answers(url: str) -> bool:
    try:
        with Client(url) as client:
            client.version()
    except ServerGone:
        return False
    except OllamaqError:
        if os.environ.get("OLLAMA_HOST"):  # a server that was asked for, and is not trusted or lets nobody in
            raise
        return False
    return True
