"""Real registries on free ports, to be killed and started again, and a line to them that can be cut.

`Registry` is Debian's docker-registry (distribution 2.8) or distribution 3; `Line` is a TCP proxy that counts bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

SECRET = "of the tests"


class Registry:
    """A registry over a directory of its own; ``settings`` are merged into its configuration."""

    def __init__(self, program: list[str], directory: Path, host: str, settings: dict | None = None) -> None:
        self.program, self.directory, self.host = program, directory, host
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": SECRET} | ((settings or {}).get("http") or {}),
        }
        config |= {key: value for key, value in (settings or {}).items() if key != "http"}
        self.scheme = "https" if "tls" in config["http"] else "http"
        self.config = directory / "config.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.log = directory / "log"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            line = [*self.program, "serve", str(self.config)]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
            self.process = subprocess.Popen(
                line, stdout=log, stderr=log, env=environment | {"OTEL_TRACES_EXPORTER": "none"}
            )
        host, port = self.host.split(":")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            time.sleep(0.05)
        raise AssertionError(f"the registry does not start:\n{self.log.read_text()}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, by default as a crash would."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def tags(self, repository: str) -> list[str]:
        """The tags that others can see."""
        answer = httpx.get(f"{self.url}/v2/{repository}/tags/list", trust_env=False)
        return (answer.json().get("tags") or []) if answer.status_code == 200 else []

    def tags_on_disk(self) -> list[str]:
        """The same of a registry that does not run."""
        found = self.directory.glob("storage/docker/registry/v2/repositories/**/_manifests/tags/*/current/link")
        return [path.parent.parent.name for path in found]

    def uploaded(self) -> int:
        """Bytes of uploads that have begun and not ended."""
        found = self.directory.glob("storage/docker/registry/v2/repositories/**/_uploads/*/data")
        return sum(path.stat().st_size for path in found)


class Line:
    """A TCP proxy to ``target``: it counts what clients send, and ``act(count)`` may cut, kill, or wait in between."""

    def __init__(self, target: str) -> None:
        self.target = target.split(":")[0], int(target.split(":")[1])
        self.sent = self.received = 0
        self._at, self._then = 1 << 60, lambda: None
        self.act: Callable[[int], bool] = lambda sent: False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, count: int) -> list[bool]:
        """Reset the connection once, after so many more bytes. Something is in the list then."""
        start, done = self.sent, []

        def act(sent: int) -> bool:
            if done or sent - start < count:
                return False
            done.append(True)
            return True

        self.act = act
        return done

    def received_at(self, count: int, then: Callable[[], object]) -> None:
        """Call ``then`` once, after so many more bytes have come back."""
        self._at, self._then = self.received + count, then

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target)
        except OSError:
            return _reset(client)
        back = threading.Thread(target=self._back, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 13):
                server.sendall(data)
                with self._lock:
                    self.sent += len(data)
                    cut = self.act(self.sent)
                if cut:
                    _reset(client)
                    break
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        back.join()
        client.close()
        server.close()
        return None

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self.received += len(data)
                if self.received >= self._at:
                    self._at = 1 << 60
                    self._then()
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


def _reset(end: socket.socket) -> None:
    """Close with RST, as a router that forgets a connection does."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        end.close()
