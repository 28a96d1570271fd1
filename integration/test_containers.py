"""Throwaway containers: killed owners, failed models, Podman's socket."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import parts
import pytest
from faults import record
from talker import write_talker

PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""What lets it run inside of another container, and without systemd."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ollamaq", *map(str, arguments)]


def ollamaq(*arguments: object, code: int = 0, cwd: Path, **environment: str) -> dict:
    line, env = command(*arguments, "--json"), os.environ | environment
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def ours(pid: int) -> str:
    """IDs of the containers that a process has."""
    line = ["docker", "ps", "-aq", "--filter", f"label=ollamaq.pid={pid}"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def talker(tmp_path) -> Path:
    return write_talker(tmp_path / "talker", comment=tmp_path.name)


def test_a_container_whose_ollamaq_was_killed_goes_at_the_next_start(talker, docker_image, tmp_path):
    publish = ("publish", talker, "--q", "Q8_0", "--to", "container", "--image", docker_image)
    killed = subprocess.Popen(command(*publish), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not ours(killed.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    assert killed.wait(30) == -signal.SIGKILL
    assert ours(killed.pid)
    ollamaq(*publish, cwd=tmp_path)
    assert not ours(killed.pid)
    record(
        "container",
        "kill -9 of ollamaq",
        made_by="SIGKILL while its container runs",
        outcome="the next start removes the container, known by its labels",
    )


def test_the_log_of_a_container_stays_with_a_model_that_failed(talker, docker_image, tmp_path):
    publish = ("publish", talker, "--q", "Q8_0", "--to", "container", "--image", docker_image, "--cpus", "1.5")
    failed = ollamaq(*publish, "--expect", "Tokyo", code=1, cwd=tmp_path)
    log = tmp_path / "talker-Q8_0" / "server.log"
    assert "talker-Q8_0/server.log" in failed["error"]["next_step"]
    assert "/api/chat" in log.read_text()
    release = ollamaq(*publish, cwd=tmp_path)["releases"][0]
    assert release["passed"]
    assert not log.exists()
    image = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", docker_image], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert json.loads((tmp_path / "talker-Q8_0" / "release.json").read_text())["images"] == [image]


@pytest.fixture
def podman(docker_image, tmp_path) -> Iterator[str]:
    """Podman's socket; it has the image."""
    if not shutil.which("podman") or not shutil.which("runc"):
        pytest.skip("Podman and runc are not installed")
    (tmp_path / "containers.conf").write_text(PODMAN)
    environment = os.environ | {"CONTAINERS_CONF": str(tmp_path / "containers.conf")}
    with subprocess.Popen(["docker", "save", docker_image], stdout=subprocess.PIPE) as saved:
        subprocess.run(["podman", "load", "-q"], stdin=saved.stdout, check=True, env=environment, capture_output=True)
    socket = tmp_path / "podman.sock"
    service = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{socket}"], env=environment)
    try:
        deadline = time.monotonic() + 30
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        service.terminate()
        service.wait(30)


def test_podman_is_as_good(podman, talker, docker_image, tmp_path):
    publish = ("publish", talker, "--q", "Q8_0", "--to", "container", "--image", docker_image)
    release = ollamaq(*publish, cwd=tmp_path, DOCKER_HOST=podman)["releases"][0]
    assert release["passed"]
    assert "Podman" in str(ollamaq("doctor", cwd=tmp_path, DOCKER_HOST=podman))
    left = subprocess.run(["podman", "ps", "-aq", "--filter", "label=ollamaq"], capture_output=True, text=True)
    assert not left.stdout


def test_a_model_is_tested_on_several_generations_at_once(talker, docker_image, tmp_path):
    old, new = parts.legacy_image().split(":"), docker_image.split(":")
    versions = ("--ollama", new[1], "--ollama", old[1])
    publish = ("publish", talker, "--q", "Q8_0", "--to", "container", "--image", docker_image, *versions)
    release = ollamaq(*publish, cwd=tmp_path)["releases"][0]
    seen = {check["name"]: check["ok"] for check in release["checks"]}
    assert all(seen[f"{name}@{version}"] for name in ("loads", "answer", "stops") for version in (new[1], old[1]))
    assert len(json.loads((tmp_path / "talker-Q8_0" / "release.json").read_text())["images"]) == 2
