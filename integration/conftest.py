"""Fixtures: the real parts of `parts`, and a real Ollama that runs beside the tests."""

import contextlib
import json
import os
import signal
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
from network import Network
from registry import Registry

LOGS = pytest.StashKey[Path]()
# jobs in the background are told to ignore it, and so would be what they start: tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)


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

    with Ollama() as renderer:
        yield renderer


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


@pytest.fixture
def registries(tmp_path) -> Iterator[Callable[..., Registry]]:
    """Call it with 2 (Debian's docker-registry) or 3, and settings, for a registry that runs until the test ends."""
    started: list[Registry] = []

    def start(
        generation: int, settings: dict | None = None, directory: Path | None = None, network: Network | None = None
    ) -> Registry:
        program = parts.docker_registry() if generation == 2 else parts.distribution()
        place = directory or tmp_path / f"registry-{len(started)}"
        address, inside = (network.address, network.inside) if network else ("127.0.0.1", [])
        registry = Registry([*inside, program], place, f"{address}:{unused_port()}", settings)
        started.append(registry)
        registry.start()
        return registry

    yield start
    for registry in started:
        registry.kill()


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Path:
    """A package of 24 MB that no engine could run; registries do not mind."""
    import gguf
    import numpy as np

    directory = tmp_path_factory.mktemp("package")
    writer = gguf.GGUFWriter(directory / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.random.default_rng(2026).random((6, 1 << 20), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (directory / "Modelfile").write_text("FROM ./model.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0.5\n")
    return directory


@pytest.fixture
def own_environment(tmp_path) -> dict[str, str]:
    """Environment of an ollamaq that knows nothing of this machine's models, caches and logins."""
    own = {"XDG_CACHE_HOME": "cache", "DOCKER_CONFIG": "docker", "OLLAMA_MODELS": "models"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA", "SSL_CERT"))}
    return kept | {name: str(tmp_path / place) for name, place in own.items()}


@pytest.fixture
def ollamaq(tmp_path, own_environment) -> Callable[..., dict]:
    """Run ``ollamaq … --json`` in the test's directory; gives what it prints."""

    def run(*arguments: object, code: int = 0, env: dict[str, str] | None = None) -> dict:
        command = [sys.executable, "-m", "ollamaq", *map(str, arguments), "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=own_environment | (env or {}), capture_output=True, text=True)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    return run
