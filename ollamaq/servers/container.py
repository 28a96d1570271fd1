"""A throwaway Ollama in Docker."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ollamaq.errors import ServerError, ToolchainError
from ollamaq.files import Blob
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama import silent
from ollamaq.ollama.client import Client
from ollamaq.servers.daemon import daemon, remove_container, said
from ollamaq.servers.orphans import labels, orphans
from ollamaq.servers.remote import RemoteServer
from ollamaq.servers.target import Loaded, Message, Progress, Reply

PORT = "11434/tcp"
VOLUME = "ollamaq-models"
"""Keeps the models, so that a second publish finds the blobs of the first."""
MODELS = "/models"
START_SECONDS = 120.0
LOG_LINES = 20
LONG_LOG = 400
"""Lines of the log that stay when a model has failed."""


class Container:
    """Ollama in a container that lives as long as the ``with`` block; its models stay in a volume."""

    engine = "Ollama"

    def __init__(
        self,
        image: str,
        *,
        volume: str = VOLUME,
        gpu: bool = False,
        cpus: float | None = None,
        port: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.image, self.volume, self.gpu, self.cpus, self.port = image, volume, gpu, cpus, port
        self.label = f"container {image}"
        self.version = ""
        self.pinned: str | None = None
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._server: RemoteServer
        self._container: Any = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            docker = stack.enter_context(daemon())
            for orphan in orphans(docker):
                remove_container(docker, orphan)
            self._pull(docker)
            self.pinned = _pinned(docker, self.image)
            name = f"ollamaq-{uuid.uuid4().hex[:12]}"
            stack.callback(remove_container, docker, name)
            container = self._start(docker, name)
            url = f"http://127.0.0.1:{_published_port(container)}"
            self._container = container
            self._wait(container, url)
            self._server = stack.enter_context(RemoteServer(Client(url, headers={})))
            self.version = self._server.version
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def digest(self, name: str) -> str | None:
        """The model's manifest digest (hex SHA-256), or None where there is no such model."""
        return self._server.digest(name)

    def create(
        self,
        name: str,
        gguf: Path,
        sha256: str,
        modelfile: Modelfile,
        progress: Progress,
        projector: Blob | None = None,
    ) -> bool:
        """Send the GGUF, unless the volume has it (then False), and make a model of it."""
        return self._server.create(name, gguf, sha256, modelfile, progress, projector)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._server.copy(source, destination)

    def delete(self, name: str) -> None:
        """Remove a model."""
        self._server.delete(name)

    def weights(self, name: str) -> str:
        """SHA-256 of the model's GGUF."""
        return self._server.weights(name)

    def show(self, name: str) -> Mapping[str, Any]:
        """What ``/api/show`` tells."""
        return self._server.show(name)

    def tokenize(self, name: str, text: str) -> list[int]:
        """Not here: Ollama tells no more than how many tokens there are."""
        return self._server.tokenize(name, text)

    def template(self, name: str) -> str:
        """The template in effect."""
        return self._server.template(name)

    def capabilities(self, name: str) -> Collection[str]:
        """What the server believes that the model can do."""
        return self._server.capabilities(name)

    def render(self, name: str, messages: Sequence[Message], **more: Any) -> str:
        """The prompt as it will be tokenized."""
        return self._server.render(name, messages, **more)

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any], **more: Any) -> Reply:
        """Ask, and wait for the whole answer."""
        return self._server.chat(name, messages, options, **more)

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text."""
        return self._server.embed(name, texts)

    def loaded(self, name: str) -> Loaded:
        """What ``/api/ps`` says of a model that was just asked."""
        return self._server.loaded(name)

    def log(self) -> str:
        """The end of what Ollama has logged."""
        with said(f"asking for the log of {self.image}"):
            return _log(self._container, LONG_LOG)

    def _pull(self, docker: Any) -> None:
        from docker.errors import ImageNotFound

        with said(f"looking for the image {self.image}"):
            try:
                docker.images.get(self.image)
                return
            except ImageNotFound:
                pass
        step = "check the name given with --image and the network, or load it with `docker load`"
        with said(f"pulling the image {self.image}", step):
            layers: dict[str, tuple[int, int]] = {}
            for event in docker.api.pull(self.image, stream=True, decode=True):
                if "error" in event:
                    raise ToolchainError(f"Docker cannot pull {self.image}: {event['error']}", next_step=step)
                detail = event.get("progressDetail") or {}
                if event.get("status") == "Downloading" and detail.get("total"):
                    layers[event["id"]] = detail["current"], detail["total"]
                    done, total = (sum(column) for column in zip(*layers.values(), strict=True))
                    self._progress(f"pulling {self.image}", done, total)

    def _start(self, docker: Any, name: str) -> Any:
        from docker.types import DeviceRequest

        with said(f"starting {self.image}"):
            container = docker.containers.create(
                self.image,
                "serve",
                name=name,
                labels=labels(),
                environment={"OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_MODELS": MODELS},
                ports={PORT: ("127.0.0.1", self.port)},
                volumes={self.volume: {"bind": MODELS, "mode": "rw"}},
                device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.gpu else None,
                nano_cpus=round(self.cpus * 1e9) if self.cpus else None,
            )
            container.start()
            return container

    def _wait(self, container: Any, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        with Client(url, headers={}) as client:
            while True:
                try:
                    client.version()
                    return
                except ServerError as error:
                    with said(f"looking after {self.image}"):
                        container.reload()
                        stopped = container.status not in ("created", "running")
                        if stopped or time.monotonic() > deadline:
                            raise self._failed(container, stopped) from error
                time.sleep(0.2)

    def _failed(self, container: Any, stopped: bool) -> ToolchainError:
        log = _log(container, LOG_LINES)
        what = "stopped at once" if stopped else f"did not answer within {START_SECONDS:.0f} s"
        told = f"; its log ends with:\n{log}" if log else ", and logged nothing"
        return ToolchainError(
            f"Ollama in a container of {self.image} {what}{told}", next_step="see whether the image is one of Ollama's"
        )


def _log(container: Any, lines: int) -> str:
    return str(container.logs(tail=lines).decode(errors="replace").strip())


def _pinned(docker: Any, image: str) -> str:
    """The image by its digest in its registry, or by its ID where it has never been in one."""
    with said(f"looking for the image {image}"):
        found = docker.images.get(image).attrs
    return str(next(iter(found.get("RepoDigests") or ()), found.get("Id", image)))


def _published_port(container: Any) -> int:
    with said("asking for the container's port"):
        container.reload()
        return int(container.attrs["NetworkSettings"]["Ports"][PORT][0]["HostPort"])
