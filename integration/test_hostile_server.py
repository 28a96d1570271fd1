"""What answers at the address is not a friend: it never ends, it floods, it sends away, it lies about names.

No real server can be made to do this; a socket that says what it is told is enough.
"""

import itertools
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from faults import record

TOKEN = "sesame-0123456789"
MEMORY = 2 << 30
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


class Liar:
    """Says to a request for each path what ``says`` has for it, and remembers all that it was told."""

    def __init__(self, says: dict[str, Callable[[], Iterator[bytes]]]) -> None:
        self.says, self.heard = says, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                heard = client.recv(1 << 16)
                self.heard.append(heard)
                path = heard.split(b" ")[1].decode()
                for piece in self.says.get(path, lambda: answer({"version": "0.34.2"}))():
                    client.sendall(piece)
            except OSError:
                pass


def answer(body: dict, status: bytes = OK) -> Iterator[bytes]:
    data = json.dumps(body).encode()
    yield status + f"Content-Length: {len(data)}\r\n\r\n".encode() + data


def tags(*names: str) -> Callable[[], Iterator[bytes]]:
    return lambda: answer({"models": [{"name": name, "digest": "0" * 64} for name in names]})


def forever(piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([OK + b"\r\n"], itertools.repeat(piece))


EVENT = json.dumps({"message": {"role": "assistant", "content": "more " * 5000}}).encode() + b"\n"


def smoke(url: str, *, said: str, cwd, command=("smoke", "bot:prod")) -> None:
    """Run into it, in bounded memory: one sentence, exit 4, and no token."""
    environment = os.environ | {"OLLAMAQ_TOKEN": TOKEN, "OLLAMAQ_HEADERS": f"X-Key: {TOKEN}"}
    done = subprocess.run(
        [sys.executable, "-m", "ollamaq", *command, "--to", url],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    told = done.stdout + done.stderr
    assert re.search(said, told), told
    assert done.returncode in (1, 4), told
    assert TOKEN not in told
    assert "Traceback" not in told
    assert not list(cwd.iterdir())


@pytest.mark.parametrize(
    ("path", "says", "said", "fault"),
    [
        ("/api/chat", forever(EVENT), "answers with more than 64 MiB", "an answer without end"),
        ("/api/chat", forever(b"x" * (1 << 20)), "a line of more than 8 MiB", "a line of gigabytes"),
        ("/api/tags", forever(b" " * (1 << 20)), "answers with more than 64 MiB", "a list without end"),
        ("/api/version", forever(b"0" * (1 << 20)), "answers with more than 64 MiB", "a version without end"),
    ],
)
def test_what_never_ends_is_left(path, says, said, fault, tmp_path):
    liar = Liar({"/api/tags": tags("bot:prod"), path: says})
    smoke(liar.url, said=said, cwd=tmp_path)
    record(
        "server",
        f"hostile: {fault}",
        made_by="a socket that goes on and on, and 2 GiB of memory",
        outcome="left at a limit with one sentence; memory stays bounded",
    )


def test_credentials_do_not_follow_a_redirect(tmp_path):
    thief = Liar({})
    away = OK.replace(b"200 OK", b"307 Temporary Redirect") + f"Location: {thief.url}/api/chat\r\n".encode()
    liar = Liar({"/api/tags": lambda: iter([away + b"Content-Length: 0\r\n\r\n"])})
    smoke(liar.url, said="redirects are not followed", cwd=tmp_path)
    assert any(TOKEN.encode() in heard for heard in liar.heard)
    assert thief.heard == []
    record(
        "server",
        "hostile: redirect to another host",
        made_by="status 307 to a listener of ours",
        outcome="said and not followed: the listener is never asked, so that no token reaches it",
    )


def test_credentials_are_not_shown_when_the_server_repeats_them(tmp_path):
    refusal = OK.replace(b"200 OK", b"403 Forbidden")
    liar = Liar({"/api/tags": lambda: answer({"error": f"who are you, Bearer {TOKEN}?"}, refusal)})
    smoke(liar.url, said=r"who are you, Bearer \*\*\*\?", cwd=tmp_path)
    record(
        "server",
        "hostile: repeats the token in an error",
        made_by="a 403 that quotes the Authorization header",
        outcome="the token is shown as `***`",
    )


@pytest.mark.parametrize("name", ["../../../../tmp/evil:prod", "/etc/passwd", "bot:../prod", "\x1b[31mbot:prod", ""])
def test_names_that_lead_elsewhere_lead_nowhere(name, tmp_path):
    liar = Liar({"/api/tags": tags(name)})
    for command in (("smoke", "bot:prod"), ("rollback", "bot:prod")):
        smoke(liar.url, said="has no (model|version)", cwd=tmp_path, command=command)
    record(
        "server",
        "hostile: names with paths in them",
        made_by="/api/tags with ../../tmp/evil and the like",
        outcome="they are compared and nothing else; nothing is written",
    )
