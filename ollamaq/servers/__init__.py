"""Places to publish to, behind one protocol."""

from __future__ import annotations

import importlib.util
import os

from ollamaq.errors import OllamaqError, ToolchainError, UsageError
from ollamaq.ollama.client import Client
from ollamaq.ollama.host import parse_host
from ollamaq.servers.target import Message, Progress, Reply, Target

__all__ = ["DEFAULT_IMAGE", "Message", "Progress", "Reply", "Target", "open_target"]

DEFAULT_IMAGE = "ollama/ollama:0.34.2"


def open_target(
    to: str = "auto",
    *,
    image: str = DEFAULT_IMAGE,
    gpu: bool = False,
    port: int | None = None,
    progress: Progress = lambda label, done, total: None,
) -> Target:
    """The place that ``--to`` names; nothing is started before it is entered.

    ``auto`` is the server at OLLAMA_HOST if one answers there, else this machine's store and the embedded engine.

    Raises:
        UsageError: the word is not known and is not an address.
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

        return Container(image, gpu=gpu, port=port, progress=progress)
    if to.isidentifier() and to != "localhost":
        raise UsageError(
            f"unknown target {to!r}",
            next_step="use auto, container, store, a server's address such as host:11434, or (to publish) file",
        )
    from ollamaq.servers.remote import RemoteServer

    return RemoteServer(Client(parse_host(to)))


def _answers(url: str) -> bool:
    try:
        with Client(url) as client:
            client.version()
    except OllamaqError:
        return False
    return True
