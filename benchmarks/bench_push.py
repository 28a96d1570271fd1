"""Times ``ollamaq push`` beside ``curl -T`` and ``ollama push``: the same model, the same registry, turn by turn.

    python benchmarks/bench_push.py [--megabytes 300] [--rounds 3]

The registry is Debian's docker-registry on this machine, emptied before each turn; needs integration/parts.py's parts.
Prints a line of JSON: MB/s of each, and ollamaq's ratio to the other two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import gguf
import httpx
import numpy as np
import parts
from registry import Registry

NAME = "team/bench:q8"


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_package(directory: Path, megabytes: int) -> Path:
    directory.mkdir()
    writer = gguf.GGUFWriter(directory / "model.gguf", "llama")
    random = np.random.default_rng(2026)
    for i in range(megabytes // 4):
        writer.add_tensor(f"blk.{i}.attn_q.weight", random.random((1024, 1024), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (directory / "Modelfile").write_text("FROM ./model.gguf\n")
    return directory


def curl(host: str, package: Path, digest: str) -> None:
    """One PUT of the whole blob, as simple as can be."""
    begun = httpx.post(f"http://{host}/v2/team/bench/blobs/uploads/", trust_env=False)
    url = f"{begun.headers['Location']}&digest=sha256:{digest}"
    header = "Content-Type: application/octet-stream"
    run("curl", "-sSf", "--noproxy", "*", "-H", header, "-T", package / "model.gguf", url)


def run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, env=env, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=300)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        package = make_package(root / "package", chosen.megabytes)
        size = (package / "model.gguf").stat().st_size
        address = f"127.0.0.1:{unused_port()}"
        own = {"HOME": scratch, "OLLAMA_MODELS": f"{root}/models", "OLLAMA_HOST": address}
        env = os.environ | own | {"XDG_CACHE_HOME": f"{root}/cache", "DOCKER_CONFIG": f"{root}/docker"}
        ollama = parts.ollama() / "bin" / "ollama"
        with (root / "log").open("wb") as log:
            server = subprocess.Popen([ollama, "serve"], env=env, stdout=log, stderr=log)
        registry = Registry([parts.docker_registry()], root / "registry", f"127.0.0.1:{unused_port()}")
        name = f"{registry.host}/{NAME}"
        try:
            while subprocess.run([ollama, "list"], env=env, capture_output=True).returncode:
                time.sleep(0.2)
            run(ollama, "create", name, "-f", package / "Modelfile", env=env)
            ollamaq = (sys.executable, "-m", "ollamaq", "push", package, name, "--insecure", "--quiet")
            registry.start()
            run(*ollamaq, "--dry-run", env=env)  # the digest is known then, as it is after `ollamaq publish`
            with (package / "model.gguf").open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            tools: dict[str, Callable[[], None]] = {
                "curl -T": lambda: curl(registry.host, package, digest),
                "ollama push": lambda: run(ollama, "push", "--insecure", name, env=env),
                "ollamaq push": lambda: run(*ollamaq, env=env),
            }
            seconds: dict[str, list[float]] = {tool: [] for tool in tools}
            for _ in range(chosen.rounds):
                for tool, push in tools.items():
                    registry.kill()
                    shutil.rmtree(registry.directory / "storage", ignore_errors=True)
                    shutil.rmtree(root / "cache" / "ollamaq" / "registry", ignore_errors=True)
                    registry.start()
                    started = time.perf_counter()
                    push()
                    seconds[tool].append(time.perf_counter() - started)
        finally:
            registry.kill()
            server.terminate()
            server.wait()
    middle = {tool: statistics.median(times) for tool, times in seconds.items()}
    speed = {tool: round(size / 1e6 / times, 1) for tool, times in middle.items()}
    ratios = {tool: round(middle[tool] / middle["ollamaq push"], 2) for tool in middle if tool != "ollamaq push"}
    print(json.dumps({"MB": round(size / 1e6), "MB/s": speed, "ollamaq push, to": ratios, "seconds": seconds}))


if __name__ == "__main__":
    main()
