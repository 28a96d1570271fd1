"""The Docker daemon, or Podman where DOCKER_HOST names its socket, and what it says when something fails.

The docker SDK stays behind this module and `container`, and is imported when it is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from ollamaq.errors import OllamaqError, ToolchainError

START_DOCKER = "start Docker (`systemctl start docker`), or give your user access to it"


def docker_version() -> str:
    """``Docker 28.3.1``, or ``Podman Engine 4.3.1``.

    Raises:
        ToolchainError: it does not run, or this user may not use it.
    """
    with daemon() as docker, said("asking Docker for its version"):
        told = docker.version()
        names = [str(part.get("Name", "")) for part in told.get("Components") or ()]
        return f"{next((name for name in names if 'Podman' in name), 'Docker')} {told['Version']}"


@contextlib.contextmanager
def daemon() -> Iterator[Any]:
    """The daemon, which answers."""
    import docker

    with said("looking for Docker", START_DOCKER):
        client = docker.from_env()
    with contextlib.closing(client):
        with said("looking for Docker", START_DOCKER):
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
def said(doing: str, step: str = "see `docker info`") -> Iterator[None]:
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


def remove_container(docker: Any, name: str) -> None:
    from docker.errors import APIError, NotFound

    def remove() -> None:
        with said(f"removing the container {name}", f"docker rm -f {name}"):
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
