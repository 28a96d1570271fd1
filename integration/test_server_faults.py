"""Publishing to real Ollama servers that are killed, paused, cut off, full, busy or contested.

After each fault the old model answers, nothing half-made is there, and the next run succeeds.
"""

import hashlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from faults import record
from misbehaving import Fault, Proxy, Server, tmpfs
from talker import write_talker

from ollamaq.errors import ServerError
from ollamaq.ollama import client as client_module
from ollamaq.ollama.client import Client

VERSIONS = itertools.count(1)
TOKEN = "sesame-0123456789"
NAME = "bot:prod"
UPLOAD, CREATE, CHAT, COPY = b"POST /api/blobs/", b"POST /api/create", b"POST /api/chat", b"POST /api/copy"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


class Publisher:
    """``ollamaq publish`` in a process of its own, with locks and caches in ``home``."""

    def __init__(
        self,
        place: Path,
        to: str,
        version: str,
        *,
        name: str = NAME,
        home: str = "home",
        seconds: int = 60,
        out: Path | None = None,
    ) -> None:
        self.checkpoint = place / f"talker-{version}"
        if not self.checkpoint.exists():
            write_talker(self.checkpoint, comment=version)
        self.out = out or place / "out"
        environment = {"XDG_CACHE_HOME": str(place / home), "OLLAMAQ_TOKEN": TOKEN, "OLLAMAQ_TIMEOUT": str(seconds)}
        self.command = [sys.executable, "-m", "ollamaq", "publish", self.checkpoint, name, "--q", "Q8_0", "--to", to]
        self.command += ["--keep", "1", "--output", self.out]
        self.environment = os.environ | environment
        self.process: subprocess.Popen | None = None

    def start(self) -> "Publisher":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(self.command, env=self.environment, text=True, **pipes)
        return self

    def end(self, code: int, said: str = "") -> str:
        """What it said, which must match, and not tell the token."""
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == code, output
        assert re.search(said, output), output
        assert TOKEN not in output
        assert "Traceback" not in output
        return output


class Scene:
    """A server with a model under a name, and a proxy in front of it, unless it is published ``to`` elsewhere."""

    def __init__(self, place: Path, server: Server, to: str | None = None) -> None:
        self.place, self.server, self.proxy, self.version = place, server, Proxy(server.port), 0
        self.to = to or self.proxy.url
        self.before: dict[str, str] = {}

    def publisher(self, *, to: str | None = None, new: bool = True, **options) -> Publisher:
        self.version = next(VERSIONS) if new else self.version
        return Publisher(self.place, to or self.to, str(self.version), **options)

    def settle(self) -> None:
        if NAME not in self.server.models_by_name():
            self.publisher(to=self.server.url).start().end(0)
        self.before = self.server.models_by_name()

    def survived(self, *, left: bool = False) -> None:
        """The old model answers and nothing else is there (but what was ``left``), and the next run succeeds."""
        self.proxy.fault = None
        now = self.server.models_by_name()
        assert {name: digest for name, digest in now.items() if not (left and ":staging-" in name)} == self.before
        assert self.server.ask(NAME) == "Paris."
        self.publisher(new=False).start().end(0)
        after = self.server.models_by_name()
        assert after[NAME] not in self.before.values()
        assert after[f"{NAME}-prev-1"] == self.before[NAME]
        assert not [name for name in after if "staging" in name]
        assert self.server.ask(NAME) == "Paris."


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[tuple[Path, Server]]:
    import conftest

    place = tmp_path_factory.mktemp("faults")
    server = Server(place, conftest.unused_port())
    server.start()
    yield place, server
    server.kill()


@pytest.fixture
def scene(running, tmp_path) -> Iterator[Scene]:
    _, server = running
    made = Scene(tmp_path, server)
    made.settle()
    yield made
    made.proxy.close()


@pytest.mark.parametrize(
    ("stage", "trigger", "after"),
    [("an upload", UPLOAD, 2 << 20), ("create", CREATE, 0), ("generate", CHAT, 0)],
)
def test_a_server_killed_on_the_way(scene, stage, trigger, after):
    scene.proxy.fault = Fault(trigger, after, act=scene.server.kill)
    said = "was lost after" if trigger == UPLOAD else "broke the connection"
    scene.publisher().start().end(4, said)
    scene.server.start()
    scene.survived(left=True)
    record(
        "server",
        f"killed during {stage}",
        made_by="kill -9 of ollama serve and its llama-server",
        outcome="exit 4; the old model answers after the restart; the next run removes what was staged, and publishes",
    )


def test_what_a_killed_server_keeps_goes_with_the_next_run_of_any_name(scene):
    """But not what another publisher is at work with."""
    scene.proxy.fault = Fault(CHAT, act=scene.server.kill)
    scene.publisher().start().end(4, "broke the connection")
    scene.server.start()
    (left,) = scene.server.models_by_name().keys() - scene.before.keys()
    assert left.startswith("bot:staging-")
    other, second = (scene.publisher(name=name, out=scene.place / name) for name in ("cat:prod", NAME))
    scene.proxy.fault = Fault(CHAT, act=lambda: second.start().end(0))
    other.start().end(0)
    assert scene.server.models_by_name().keys() == {NAME, f"{NAME}-prev-1", "cat:prod"}
    with Client(scene.server.url) as client:
        client.delete("cat:prod")
    record(
        "server",
        "killed during generate, and another name is published next",
        made_by="kill -9 of ollama serve and its llama-server; two publishers with other names at once",
        outcome="the first of them removes what was staged; nobody removes what the other one has staged",
    )


def test_a_paused_server(scene):
    scene.proxy.fault = Fault(CHAT, act=lambda: scene.server.signal(signal.SIGSTOP))
    try:
        scene.publisher(seconds=4).start().end(4, "silent for too long at POST /api/chat")
    finally:
        scene.server.signal(signal.SIGCONT)
    scene.survived(left=True)
    record(
        "server",
        "paused",
        made_by="SIGSTOP of ollama serve, OLLAMAQ_TIMEOUT=4",
        outcome="exit 4 when the time is over; the next run removes what was staged, and publishes",
    )


def test_a_server_that_answers_byte_by_byte(scene):
    scene.proxy.fault = Fault(CREATE, way="response", times=10**9, drip=0.05)
    scene.publisher(seconds=4).start().end(4, "silent for too long")
    scene.survived(left=True)
    record(
        "server",
        "answers byte by byte (slow loris)",
        made_by="a proxy that passes on one byte each 0.05 s, OLLAMAQ_TIMEOUT=4",
        outcome="exit 4 when no whole line has come in time; the next run publishes",
    )


def test_a_connection_reset_at_each_hundredth_of_an_upload(scene, monkeypatch):
    monkeypatch.setattr(client_module, "RETRY_SECONDS", (0.0,) * 3)
    blob = scene.place / "blob"
    blob.write_bytes(os.urandom(4 << 20))
    digest = f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    size = blob.stat().st_size
    arrived = scene.server.models / "blobs" / digest.replace(":", "-")
    for percent in range(100):
        scene.proxy.fault = Fault(UPLOAD, size * percent // 100, reset=True)
        with Client(scene.proxy.url) as client:
            assert client.push_blob(digest, blob)
        assert scene.proxy.fault.times <= 0, percent
        assert hashlib.sha256(arrived.read_bytes()).hexdigest() == digest.removeprefix("sha256:")
        arrived.unlink()
    assert not [path for path in arrived.parent.iterdir() if "partial" in path.name or path.name.startswith("sha256-t")]
    scene.publisher()
    scene.survived()
    record(
        "server",
        "connection reset at each 1 % of an upload",
        made_by="a proxy that sends RST after 0, 1, … 99 % of a blob",
        outcome="each upload is made again and arrives whole, 100 of 100",
    )


def test_a_connection_reset_during_a_publish_is_not_noticed(scene):
    scene.proxy.fault = Fault(UPLOAD, 1 << 20, reset=True)
    scene.publisher().start().end(0)
    assert scene.server.ask(NAME) == "Paris."


def test_bytes_changed_on_the_way(scene):
    scene.proxy.fault = Fault(UPLOAD, 1 << 20, change=lambda data: bytes([data[0] ^ 1]) + data[1:])
    scene.publisher().start().end(4, "digest mismatch")
    scene.survived()
    record(
        "server",
        "digest mismatch",
        made_by="a proxy that changes one bit of an upload",
        outcome="the server refuses the blob: exit 4; nothing is made of it",
    )


def test_lines_cut_in_the_middle(scene):
    scene.proxy.fault = Fault(CREATE, 200, way="response", reset=True)
    scene.publisher().start().end(4, "broke the connection|in the middle|does not speak")
    deadline = time.monotonic() + 10
    while scene.server.models_by_name() != scene.before and time.monotonic() < deadline:
        time.sleep(0.2)  # the server goes on making what it was asked for
    scene.survived(left=True)
    record(
        "server",
        "NDJSON cut in mid-line",
        made_by="a proxy that sends RST after 200 bytes of create's answer",
        outcome="exit 4; the next run removes what the server made all the same, and publishes",
    )


def test_an_error_after_status_200(scene):
    """A GGUF cut short is refused by the real server after it has begun to report progress."""
    checkpoint = scene.publisher().checkpoint
    whole = scene.place / "whole.gguf"
    subprocess.run(
        [sys.executable, "-m", "ollamaq", "quantize", checkpoint, whole, "--q", "Q8_0"], check=True, capture_output=True
    )
    cut = scene.place / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    digest = f"sha256:{hashlib.sha256(cut.read_bytes()).hexdigest()}"
    with Client(scene.server.url) as client:
        client.push_blob(digest, cut)
        with pytest.raises(ServerError, match="refuses cut:1"):
            client.create({"model": "cut:1", "files": {"model.gguf": digest}})
    scene.survived()
    record(
        "server",
        "error line after HTTP 200",
        made_by="create of a GGUF that ends in the middle",
        outcome="the server's own words, exit 4; no model is made",
    )


@needs_root
def test_a_full_disk_on_the_server(tmp_path, free_port):
    with tmpfs(tmp_path / "disk", "6m") as disk:
        server = Server(tmp_path, free_port, models=disk / "models")
        server.start()
        try:
            scene = Scene(tmp_path, server)
            scene.settle()
            filler = disk / "filler"
            filler.write_bytes(bytes(1 << 20))
            scene.publisher().start().end(4, "no space left on device|room on its disk")
            assert not list((disk / "models" / "blobs").glob("*partial*"))
            filler.unlink()
            subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
            scene.survived()
        finally:
            server.kill()
    record(
        "server",
        "disk full",
        made_by="OLLAMA_MODELS on a tmpfs of 6 MB",
        outcome="exit 4 with the server's words; the old model answers; with room the next run publishes",
    )


@needs_root
def test_a_full_disk_on_this_machine(scene, tmp_path):
    with tmpfs(tmp_path / "disk", "2m") as disk:
        scene.publisher(out=disk / "out").start().end(5, "no room in")
        assert not [path for path in disk.rglob("*") if path.is_file()]
        scene.survived()
    record(
        "this machine",
        "disk full",
        made_by="a package of 4 MB on a tmpfs of 2 MB",
        outcome="exit 5 before anything is written",
    )


def test_a_full_queue(scene):
    """OLLAMA_MAX_QUEUE=1: while a model is loaded for one request, others get 503."""
    import conftest

    place = scene.place / "busy"
    place.mkdir()
    busy = Server(place, conftest.unused_port(), models=scene.server.models, OLLAMA_MAX_QUEUE="1")
    busy.start()
    try:
        refused, answers, message = [], [], [{"role": "user", "content": "Hello"}]

        def crowd(i: int) -> None:
            body = {"model": NAME, "messages": message, "options": {"num_ctx": 512 + 64 * i}, "stream": False}
            refused.append(httpx.post(f"{busy.url}/api/chat", json=body, timeout=120, trust_env=False).status_code)

        def ask() -> None:
            with Client(busy.url) as client:
                answers.append(client.chat(NAME, message)["message"]["content"])

        threads = [threading.Thread(target=crowd, args=(i,)) for i in range(6)]
        threads += [threading.Thread(target=ask)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 503 in refused
        assert answers == ["Paris."]
    finally:
        busy.kill()
    record(
        "server",
        "503, the queue is full",
        made_by="OLLAMA_MAX_QUEUE=1 and seven requests at once",
        outcome="the request is made again after a pause, and answered",
    )


def test_two_publishers_at_once_on_one_machine(scene):
    first, second = scene.publisher().start(), scene.publisher(out=scene.place / "other").start()
    first.end(0)
    second.end(0)
    now = scene.server.models_by_name()
    assert len({now[NAME], now[f"{NAME}-prev-1"], scene.before[NAME]}) == 3
    assert not [name for name in now if "staging" in name]
    record(
        "publishing",
        "two publishers of one name on one machine",
        made_by="two processes at once",
        outcome="one waits for the other; both are published, the earlier is kept as prev-1",
    )


def test_two_publishers_at_once_on_two_machines(scene):
    """The second publishes while the first is being tested; they share no lock, as on two machines."""
    second = scene.publisher(to=scene.server.url, home="elsewhere", out=scene.place / "other")
    scene.proxy.fault = Fault(CHAT, act=lambda: second.start().end(0))
    scene.publisher().start().end(4, "somebody else has published bot:prod")
    scene.before = scene.server.models_by_name()
    assert scene.before[NAME] != scene.before[f"{NAME}-prev-1"]
    scene.survived()
    record(
        "publishing",
        "two publishers of one name on two machines",
        made_by="one publishes while another is being tested, without a lock in common",
        outcome="the later one finds another digest than when it began: exit 4, nothing is switched",
    )


STAGES: dict[str, Callable[[Callable[[], None]], Fault]] = {
    "upload": lambda act: Fault(UPLOAD, 1 << 20, act=act),
    "create": lambda act: Fault(CREATE, act=act),
    "smoke test": lambda act: Fault(CHAT, act=act),
    "switch": lambda act: Fault(COPY, act=act),
}


@pytest.mark.parametrize("stage", [*STAGES, "quantizing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_each_stage(scene, stage, number):
    publisher = scene.publisher()
    if stage == "quantizing":
        publisher.start()
        for line in publisher.process.stdout:
            if "quantizing" in line:
                break
        publisher.process.send_signal(number)
    else:
        scene.proxy.fault = STAGES[stage](lambda: publisher.process.send_signal(number))
        publisher.start()
    publisher.end(130, "interrupted: nothing was left behind")
    assert not list(publisher.out.glob(".*"))
    if stage == "switch":
        now = scene.server.models_by_name()
        assert not [name for name in now if "staging" in name]
        assert scene.server.ask(NAME) == "Paris."
        publisher.start().end(0)
    else:
        scene.survived()
    record(
        "publishing",
        f"{number.name} during {stage}",
        made_by="a signal at that request" if stage in STAGES else "a signal when it is told",
        outcome="exit 130; nothing staged, no hidden file; the next run publishes",
    )


def test_killed_itself(scene):
    publisher = scene.publisher()
    scene.proxy.fault = Fault(CHAT, act=lambda: publisher.process.kill())
    publisher.start().end(-signal.SIGKILL)
    assert [name for name in scene.server.models_by_name() if "staging" in name]
    scene.survived(left=True)
    record(
        "publishing",
        "kill -9 of ollamaq",
        made_by="SIGKILL in the smoke test",
        outcome="its staged model stays until the next run, which removes it and publishes",
    )
