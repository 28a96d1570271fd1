"""A real Ollama that can be killed, paused and started again, and a TCP proxy before it that goes wrong on demand."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import parts
from network import Network

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose closing sends RST."""


class Server:
    """``ollama serve`` over a directory of its own."""

    def __init__(
        self,
        directory: Path,
        port: int,
        models: Path | None = None,
        *,
        program: Path | None = None,
        network: Network | None = None,
        **environment: str,
    ) -> None:
        own = {"HOME": str(directory), "OLLAMA_MODELS": str(models or directory / "models")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA")}
        address, inside = (network.address, network.inside) if network else ("127.0.0.1", [])
        self.environment = clean | own | {"OLLAMA_HOST": f"{address}:{port}"} | environment
        self.port, self.url, self.log = port, f"http://{address}:{port}", directory / "serve.log"
        self.models = Path(self.environment["OLLAMA_MODELS"])
        self.program = [*inside, program or parts.ollama() / "bin" / "ollama"]
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program, "serve"], env=self.environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{self.url}/api/version", trust_env=False).raise_for_status()
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def signal(self, number: int) -> None:
        """To the server, and to the llama-server that it has started."""
        for pid in (self.process.pid, *_children(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(30)

    def models_by_name(self) -> dict[str, str]:
        listed = httpx.get(f"{self.url}/api/tags", trust_env=False, timeout=60).json()["models"]
        return {model["name"]: model["digest"] for model in listed}

    def ask(self, name: str) -> str:
        body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "stream": False}
        answer = httpx.post(f"{self.url}/api/chat", json=body, trust_env=False, timeout=120)
        return answer.raise_for_status().json()["message"]["content"]


@dataclass
class Fault:
    """What happens to a connection once ``after`` bytes have followed ``trigger``, on the way ``way``.

    ``act`` is called then, once for each of ``times``; after that the connection is reset where ``reset`` says so.
    ``change`` makes other bytes of what is passed on from there. ``drip`` passes on single bytes, with that pause.
    """

    trigger: bytes
    after: int = 0
    way: str = "request"
    times: int = 1
    reset: bool = False
    act: Callable[[], object] = lambda: None
    change: Callable[[bytes], bytes] = lambda data: data
    drip: float = 0.0


class Proxy:
    """Passes everything on between clients and ``upstream`` (a port of this machine), but for its fault."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.fault, self.passed = upstream, None, {"request": 0, "response": 0}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                _reset(client)
                continue
            since: dict[str, int | None] = {"request": None, "response": None}
            for way, source, sink in (("request", client, server), ("response", server, client)):
                arguments = (way, source, sink, since, (client, server))
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, way: str, source: socket.socket, sink: socket.socket, since: dict, both: tuple) -> None:
        try:
            while data := source.recv(1 << 16):
                fault = self.fault
                if fault and way == "request" and since["request"] is None and fault.trigger in data:
                    since["request"] = -(data.index(fault.trigger))
                    since["response"] = 0
                if fault and way == fault.way and since[way] is not None and since[way] + len(data) > fault.after:
                    if self._happens(fault, data, since[way], sink):
                        for end in both:
                            _reset(end)
                        return
                else:
                    sink.sendall(data)
                if since[way] is not None:
                    since[way] += len(data)
                self.passed[way] += len(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one end has broken off, of which the other one shall hear
            for end in both:
                _reset(end)

    def _happens(self, fault: Fault, data: bytes, before: int, sink: socket.socket) -> bool:
        """Pass on a chunk with the fault in it. Whether the connection is to be reset."""
        with self._lock:
            happens = fault.times > 0
            fault.times -= 1
        if not happens and not fault.drip:
            sink.sendall(data)
            return False
        cut = max(0, fault.after - before)
        sink.sendall(data[:cut])
        if happens:
            fault.act()
        if fault.reset:
            return True
        rest = fault.change(data[cut:])
        for i in range(len(rest) if fault.drip else 0):
            time.sleep(fault.drip)
            sink.sendall(rest[i : i + 1])
        if not fault.drip:
            sink.sendall(rest)
        return False


@contextlib.contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    """A small disk at a directory; needs root."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    # the other thread may be waiting in recv, which closing alone does not end
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RD)
    end.close()


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text()
            if int(text.rpartition(")")[2].split()[1]) == pid:
                found.append(int(text.split()[0]))
    return found
