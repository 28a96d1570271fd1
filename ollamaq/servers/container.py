"""A throwaway Ollama in Docker. The docker SDK stays behind this module, and is imported when it is needed."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ollamaq.errors import OllamaqError, ServerError, ToolchainError
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama import silent
from ollamaq.ollama.client import Client
from ollamaq.servers.remote import RemoteServer
from ollamaq.servers.target import Message, Progress, Reply

PORT = "11434/tcp"
VOLUME = "ollamaq-models"
"""Keeps the models, so that a second publish finds the blobs of the first."""
MODELS = "/models"
START_SECONDS = 120.0
LOG_LINES = 20
START_DOCKER = "start Docker (`systemctl start docker`), or give your user access to it"


def docker_version() -> str:
    """``Docker 28.3.1``.

    Raises:
        ToolchainError: it does not run, or this user may not use it.
    """
    with _docker() as docker, _said("asking Docker for its version"):
        return f"Docker {docker.version()['Version']}"


class Container:
    """Ollama in a container that lives as long as the ``with`` block; its models stay in a volume."""

    engine = "Ollama"

    def __init__(self, image: str, *, gpu: bool = False, port: int | None = None, progress: Progress = silent) -> None:
        self.image, self.gpu, self.port = image, gpu, port
        self.label = f"container {image}"
        self.version = ""
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._server: RemoteServer

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            docker = stack.enter_context(_docker())
            self._pull(docker)
            name = f"ollamaq-{uuid.uuid4().hex[:12]}"
            stack.callback(_remove, docker, name)
            container = self._start(docker, name)
            url = f"http://127.0.0.1:{_published_port(container)}"
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

    def create(self, name: str, gguf: Path, sha256: str, modelfile: Modelfile, progress: Progress) -> bool:
        """Send the GGUF, unless the volume has it (then False), and make a model of it."""
        return self._server.create(name, gguf, sha256, modelfile, progress)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self._server.copy(source, destination)

    def delete(self, name: str) -> None:
        """Remove a model."""
        self._server.delete(name)

    def template(self, name: str) -> str:
        """The template in effect."""
        return self._server.template(name)

    def render(self, name: str, messages: Sequence[Message]) -> str:
        """The prompt as it will be tokenized."""
        return self._server.render(name, messages)

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any]) -> Reply:
        """Ask, and wait for the whole answer."""
        return self._server.chat(name, messages, options)

    def _pull(self, docker: Any) -> None:
        from docker.errors import ImageNotFound

        with _said(f"looking for the image {self.image}"):
            try:
                docker.images.get(self.image)
                return
            except ImageNotFound:
                pass
        step = "check the name given with --image and the network, or load it with `docker load`"
        with _said(f"pulling the image {self.image}", step):
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

        with _said(f"starting {self.image}"):
            container = docker.containers.create(
                self.image,
                "serve",
                name=name,
                labels={"ollamaq": "1"},
                environment={"OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_MODELS": MODELS},
                ports={PORT: ("127.0.0.1", self.port)},
                volumes={VOLUME: {"bind": MODELS, "mode": "rw"}},
                device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.gpu else None,
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
                    with _said(f"looking after {self.image}"):
                        container.reload()
                        stopped = container.status not in ("created", "running")
                        if stopped or time.monotonic() > deadline:
                            raise self._failed(container, stopped) from error
                time.sleep(0.2)

    def _failed(self, container: Any, stopped: bool) -> ToolchainError:
        log = container.logs(tail=LOG_LINES).decode(errors="replace").strip()
        what = "stopped at once" if stopped else f"did not answer within {START_SECONDS:.0f} s"
        told = f"; its log ends with:\n{log}" if log else ", and logged nothing"
        return ToolchainError(
            f"Ollama in a container of {self.image} {what}{told}", next_step="see whether the image is one of Ollama's"
        )


@contextlib.contextmanager
def _docker() -> Iterator[Any]:
    """The daemon, which answers."""
    import docker

    with _said("looking for Docker", START_DOCKER):
        client = docker.from_env()
    with contextlib.closing(client):
        with _said("looking for Docker", START_DOCKER):
            client.ping()
        yield client


PROBLEMS = (
    # what Docker says, what that means, what to do
    (("port is already allocated", "address already in use"), "the port is taken", "choose a free port, or none"),
    (("could not select device driver",), "Docker cannot hand GPUs through", "install the nvidia-container-toolkit"),
    (("no space left on device",), "the disk is full", "make room with `docker system prune`"),
    (("filenotfounderror", "connection refused", "connectionrefused"), "it does not run", START_DOCKER),
    (("permission denied",), "this user may not use Docker", "add it to the group `docker`, and log in again"),
)


@contextlib.contextmanager
def _said(doing: str, step: str = "see `docker info`") -> Iterator[None]:
    """Docker's errors, of which it has many kinds, as ours."""
    from docker.errors import DockerException

    try:
        yield
    except OllamaqError:
        raise
    except (DockerException, OSError) as error:  # requests' own errors are of OSError
        text = " ".join(str(getattr(error, "explanation", None) or error).split())
        for signs, meaning, advice in PROBLEMS:
            if any(sign in text.lower() for sign in signs):
                raise ToolchainError(f"{doing} failed: {meaning} ({text})", next_step=advice) from error
        raise ToolchainError(f"{doing} failed: {text}", next_step=step) from error


def _published_port(container: Any) -> int:
    with _said("asking for the container's port"):
        container.reload()
        return int(container.attrs["NetworkSettings"]["Ports"][PORT][0]["HostPort"])


def _remove(docker: Any, name: str) -> None:
    from docker.errors import APIError, NotFound

    def remove() -> None:
        with _said(f"removing the container {name}", f"docker rm -f {name}"):
            try:
                docker.api.remove_container(name, force=True, v=True)
            except NotFound:  # it was not created yet
                pass
            except APIError as error:
                if error.status_code != HTTPStatus.CONFLICT:  # it is being removed already
                    raise

    try:
        remove()
    except KeyboardInterrupt:  # pressed again, or just then
        remove()
        raise
