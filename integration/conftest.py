"""Fixtures: the real parts of `parts`, and a real Ollama that runs beside the tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import parts

LOGS = pytest.StashKey[Path]()


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface at which nobody answers."""
    return unused_port()


@pytest.fixture(scope="session")
def llama_quantize() -> Path:
    return parts.llamacpp() / "bin" / "llama-quantize"


@pytest.fixture(scope="session")
def llama_server() -> Path:
    return parts.llamacpp() / "bin" / "llama-server"


@pytest.fixture(scope="session")
def smollm2() -> Callable[..., Path]:
    """Call it with a width (576 or 768) for a model directory, which is shared: copy it before changing it."""
    return parts.smollm2


@pytest.fixture(scope="session")
def docker_image() -> str:
    """A Docker image with the real Ollama; a daemon is running."""
    parts.docker()
    return parts.image()


@pytest.fixture(scope="session")
def ollama_environment(tmp_path_factory) -> dict[str, str]:
    """Environment of an Ollama that knows nothing of this machine's own models and keys."""
    home = tmp_path_factory.mktemp("ollama")
    own = {"HOME": str(home), "OLLAMA_MODELS": str(home / "models"), "OLLAMA_HOST": f"127.0.0.1:{unused_port()}"}
    return {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")} | own


@pytest.fixture(scope="module")
def ollama_package() -> Iterator[Callable[[dict], dict]]:
    """Ollama's own package of templates, which answers the questions of `gotemplates`."""
    from gotemplates import Ollama  # needs hypothesis

    renderer = Ollama()
    yield renderer
    renderer.process.stdin.close()
    assert renderer.process.wait(10) == 0
    renderer.process.stdout.close()


@pytest.fixture(scope="session")
def ollama_command(ollama_environment) -> Callable[..., str]:
    """Run the real ``ollama ARGUMENTS…`` beside the server of `ollama_server`; gives its stdout."""
    program = parts.ollama() / "bin" / "ollama"

    def command(*arguments: object) -> str:
        line = [str(program), *map(str, arguments)]
        done = subprocess.run(line, env=ollama_environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


@pytest.fixture(scope="session")
def ollama_server(request, ollama_environment) -> Iterator[str]:
    """URL of a real ``ollama serve``; its log is shown with a test that fails."""
    program = parts.ollama() / "bin" / "ollama"
    url = f"http://{ollama_environment['OLLAMA_HOST']}"
    log = Path(ollama_environment["HOME"]) / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen([program, "serve"], env=ollama_environment, stdout=output, stderr=output)
    request.config.stash[LOGS] = log
    try:
        wait_until_it_answers(f"{url}/api/version", lambda: server.poll() is None, log.read_text)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_it_answers(url: str, alive: Callable[[], bool], log: Callable[[], str], patience: float = 60) -> None:
    """Wait for the first answer of a server, and fail with its log when none comes."""
    deadline = time.monotonic() + patience
    while alive() and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, trust_env=False).raise_for_status()
            return
        time.sleep(0.1)
    pytest.fail(f"{url} does not answer:\n{log()}")


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return wait_until_it_answers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    log = item.config.stash.get(LOGS, None)
    if report.failed and log and "ollama_server" in item.fixturenames:
        report.sections.append(("end of the log of ollama serve", "\n".join(log.read_text().splitlines()[-60:])))
    return report
