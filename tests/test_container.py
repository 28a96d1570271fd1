"""The container, when Docker does not do as it is told. (That it does is tested for real, in ``integration``.)"""

import itertools
import subprocess

import docker
import pytest
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from ollamaq.errors import ServerError, ToolchainError, UsageError
from ollamaq.ollama.client import Client
from ollamaq.servers import container as module
from ollamaq.servers import open_targets, orphans
from ollamaq.servers.container import Container
from ollamaq.servers.daemon import docker_version

IMAGE = "ollama/ollama:0.34.2"


class Docker:
    """A daemon with one image, whose containers answer after ``answers_after`` questions."""

    def __init__(self, **faults):
        self.faults, self.created, self.removed, self.closed = faults, [], [], False
        self.pulled, self.asked, self.interrupts = [], itertools.count(), []
        self.images = self.containers = self.api = self
        self.status = faults.get("status", "running")
        self.attrs = {
            "RepoDigests": ["ollama/ollama@sha256:11"],
            "NetworkSettings": {"Ports": {"11434/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40123"}]}},
        }

    def _at(self, step):
        if step in self.faults:
            raise self.faults[step]

    def __call__(self, *, all, filters):
        return self.faults.get("left", [])

    def ping(self):
        self._at("ping")

    def version(self):
        return {"Version": "28.3.1"}

    def close(self):
        self.closed = True

    def get(self, image):
        self._at("get" if not self.pulled else "got")
        return self

    def pull(self, image, *, stream, decode):
        self._at("pull")
        self.pulled.append(image)
        return iter(self.faults.get("events", ()))

    def create(self, image, command, **settings):
        self._at("create")
        self.created.append((image, command, settings))
        return self

    def start(self):
        self._at("start")

    def reload(self):
        pass

    def logs(self, tail):
        return b"loading\nError: listen tcp: no such luck\n"

    def remove_container(self, name, *, force, v):
        if not self.created:
            raise NotFound("no such container")
        if self.interrupts:
            raise self.interrupts.pop()
        self.removed.append((name, force))


@pytest.fixture
def daemon(monkeypatch):
    """Make Docker have given faults."""

    def make(answers_after=0, **faults):
        made = Docker(**faults)
        monkeypatch.setattr(docker, "from_env", lambda: made)

        def version(client):
            if next(made.asked) < answers_after:
                raise ServerError("no Ollama server answers")
            return "0.34.2"

        monkeypatch.setattr(Client, "version", version)
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
        return made

    return make


def name_of(made):
    return made.created[0][2]["name"]


def test_a_container_is_started_on_loopback_and_always_removed(daemon):
    made = daemon(answers_after=2)
    with Container(IMAGE) as target:
        assert (target.label, target.engine, target.version) == (f"container {IMAGE}", "Ollama", "0.34.2")
        assert target._server.label == "http://127.0.0.1:40123"
        assert not made.removed
    ((image, command, settings),) = made.created
    assert (image, command) == (IMAGE, "serve")
    assert settings["ports"] == {"11434/tcp": ("127.0.0.1", None)}
    assert settings["labels"] == orphans.labels()
    assert target.pinned == "ollama/ollama@sha256:11"
    assert list(settings["volumes"]) == ["ollamaq-models"]
    assert settings["device_requests"] is None
    assert made.removed == [(name_of(made), True)]
    assert made.closed


def test_containers_of_killed_processes_are_removed_at_the_next_start(daemon):
    with subprocess.Popen(["true"]) as ended:
        pass
    mine, gone = orphans.labels(), orphans.labels() | {orphans.PID: str(ended.pid)}
    another = orphans.labels() | {orphans.STARTED: "1"}  # this number, given to a process before
    found = [{"Id": "mine", "Labels": mine}, {"Id": "gone", "Labels": gone}, {"Id": "another", "Labels": another}]
    made = daemon(left=[*found, {"Id": "odd", "Labels": None}])
    removed = []
    made.remove_container = lambda name, **how: removed.append(name)
    with Container(IMAGE):
        assert removed == ["gone", "another", "odd"]


def test_versions_are_containers_of_one_image_with_volumes_of_their_own():
    targets = open_targets("container", image="mirror:5000/ollama:latest@sha256:11", ollama=("0.34.2", "0.17.4"))
    assert [(target.image, target.volume) for target in targets] == [
        ("mirror:5000/ollama:0.34.2", "ollamaq-models-0.34.2"),
        ("mirror:5000/ollama:0.17.4", "ollamaq-models-0.17.4"),
    ]
    assert open_targets("file") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "store"}, "and not for store"),
        ({"to": "container", "port": 1, "ollama": ["1", "2"]}, "one for 2 containers"),
        ({"to": "container", "ollama": ["1 2"]}, "'1 2' is not a version"),
    ],
)
def test_versions_that_cannot_be_had_are_said(options, said):
    with pytest.raises(UsageError, match=said):
        open_targets(**{"ollama": ["0.34.2"], **options})


def test_gpus_processors_and_a_port_are_handed_through(daemon):
    made = daemon()
    with Container(IMAGE, gpu=True, cpus=1.5, port=11500):
        pass
    settings = made.created[0][2]
    assert settings["nano_cpus"] == 1_500_000_000
    assert settings["ports"] == {"11434/tcp": ("127.0.0.1", 11500)}
    assert settings["device_requests"][0]["Capabilities"] == [["gpu"]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_container_goes_whatever_ends_the_work(daemon, error):
    made = daemon()
    with pytest.raises(error), Container(IMAGE):
        raise error
    assert made.removed == [(name_of(made), True)]


def test_the_container_goes_even_when_its_removal_is_interrupted(daemon):
    made = daemon()
    made.interrupts.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Container(IMAGE):
        pass
    assert made.removed == [(name_of(made), True)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), APIError("x")])
def test_the_container_goes_when_starting_is_cut_short(daemon, error):
    made = daemon(start=error)
    with pytest.raises((KeyboardInterrupt, ToolchainError)):
        Container(IMAGE).__enter__()
    assert made.removed == [(name_of(made), True)]
    assert made.closed


@pytest.mark.parametrize(
    "error",
    [
        DockerException(
            "Error while fetching server API version: ('Connection aborted.', FileNotFoundError(2, 'No…'))"
        ),
        requests.ConnectionError("connection refused"),
        APIError("500"),
    ],
)
def test_docker_not_running_is_said_with_what_to_do(daemon, error):
    daemon(ping=error)
    for use in (docker_version, Container(IMAGE).__enter__):
        with pytest.raises(ToolchainError, match="Docker") as failed:
            use()
        assert "start Docker" in failed.value.next_step


def test_a_socket_that_is_not_ours_is_said(monkeypatch):
    def connect():
        raise DockerException("Error while fetching server API version: ('Connection aborted.', Permission denied)")

    monkeypatch.setattr(docker, "from_env", connect)
    with pytest.raises(ToolchainError, match="this user may not use Docker") as failed:
        docker_version()
    assert "group `docker`" in failed.value.next_step


def test_dockers_version_is_told(daemon):
    daemon()
    assert docker_version() == "Docker 28.3.1"


@pytest.mark.parametrize(
    ("explanation", "said", "step"),
    [
        (
            "driver failed programming external connectivity: Bind for 127.0.0.1:11434 failed: "
            "port is already allocated",
            "port is taken .*127.0.0.1:11434",
            "free port",
        ),
        ("listen tcp4 127.0.0.1:11434: bind: address already in use", "port is taken", "free port"),
        ('could not select device driver "" with capabilities: [[gpu]]', "GPUs", "nvidia-container-toolkit"),
        ("write /var/lib/docker: no space left on device", "disk is full", "docker system prune"),
        ("something else", "starting .* failed: something else", "docker info"),
    ],
)
def test_what_docker_says_at_the_start_is_explained(daemon, explanation, said, step):
    made = daemon(start=APIError("500", explanation=explanation))
    with pytest.raises(ToolchainError, match=said) as failed:
        Container(IMAGE, port=11434).__enter__()
    assert step in failed.value.next_step
    assert made.removed


def test_a_missing_image_is_pulled_with_progress(daemon):
    events = [
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 10}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 5, "total": 20}},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 9, "total": 9}},
        {"status": "Pull complete", "id": "a"},
    ]
    made = daemon(get=ImageNotFound("no"), events=events)
    told = []
    with Container(IMAGE, progress=lambda *progress: told.append(progress)):
        assert made.pulled == [IMAGE]
    assert told == [(f"pulling {IMAGE}", 1, 10), (f"pulling {IMAGE}", 6, 30)]


@pytest.mark.parametrize(
    "fault",
    [{"pull": NotFound("pull access denied")}, {"events": [{"error": "pull access denied"}]}],
)
def test_an_image_that_cannot_be_had_is_named(daemon, fault):
    made = daemon(get=ImageNotFound("no"), **fault)
    with pytest.raises(ToolchainError, match=f"{IMAGE}.*pull access denied") as failed:
        Container(IMAGE).__enter__()
    assert "--image" in failed.value.next_step
    assert not made.created


def test_an_ollama_that_stops_at_once_is_said_with_its_log(daemon):
    made = daemon(answers_after=10**9, status="exited")
    with pytest.raises(
        ToolchainError, match=r"stopped at once; its log ends with:\nloading\nError: listen tcp: no such luck"
    ):
        Container(IMAGE).__enter__()
    assert made.removed == [(name_of(made), True)]


def test_an_ollama_that_never_answers_is_given_up(daemon, monkeypatch):
    made = daemon(answers_after=10**9)
    monkeypatch.setattr(module, "START_SECONDS", 0)
    with pytest.raises(ToolchainError, match="did not answer within 0 s"):
        Container(IMAGE).__enter__()
    assert made.removed == [(name_of(made), True)]
