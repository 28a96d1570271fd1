"""Promotion, and the way back, on real servers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import conftest
import httpx
import pytest
from misbehaving import Server
from talker import write_talker


def ollamaq(*arguments: object, code: int = 0, cwd: Path, **environment: str) -> dict:
    line = [sys.executable, "-m", "ollamaq", *map(str, arguments), "--json"]
    done = subprocess.run(line, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[tuple[Server, Server]]:
    """One to test on, and one that users ask."""
    pair = [Server(tmp_path_factory.mktemp(name), conftest.unused_port()) for name in ("dev", "prod")]
    for server in pair:
        server.start()
    yield pair
    for server in pair:
        server.kill()


def test_versions_are_kept_come_back_and_come_round(servers, tmp_path):
    dev, _ = servers
    digests = []
    for i in range(3):
        talker = write_talker(tmp_path / f"v{i}", comment=f"version {i}")
        publish = ("publish", talker, "bot:prod", "--q", "Q8_0", "--to", dev.url, "--keep", "2", "-o", tmp_path / "o")
        digests.append(ollamaq(*publish, cwd=tmp_path)["releases"][0]["digest"])
    assert dev.models_by_name() == {
        "bot:prod": digests[2],
        "bot:prod-prev-1": digests[1],
        "bot:prod-prev-2": digests[0],
    }
    planned = ollamaq("rollback", "bot:prod", "--to", dev.url, "--dry-run", cwd=tmp_path)
    assert list(planned["versions"].values()) == digests[::-1]
    back = ollamaq("rollback", "bot:prod", "--to", dev.url, cwd=tmp_path)
    assert (back["before"], back["digest"]) == (digests[2], digests[1])
    assert dev.ask("bot:prod") == "Paris."
    for _ in range(2):
        ollamaq("rollback", "bot:prod", "--to", dev.url, cwd=tmp_path)
    assert dev.models_by_name()["bot:prod"] == digests[2]


def test_a_name_is_switched_on_one_server(servers, tmp_path):
    dev, _ = servers
    candidate = (
        "publish",
        write_talker(tmp_path / "next", comment="next"),
        "desk:next",
        "--q",
        "Q8_0",
        "--to",
        dev.url,
    )
    digest = ollamaq(*candidate, cwd=tmp_path)["releases"][0]["digest"]
    first = ollamaq("promote", "desk:next", "desk:prod", "--from", dev.url, cwd=tmp_path)
    assert (first["digest"], first["replaced"]) == (digest, None)
    ollamaq("promote", "desk:next", "--from", dev.url, code=2, cwd=tmp_path)
    ollamaq("promote", "desk:none", "desk:prod", "--from", dev.url, code=4, cwd=tmp_path)


def test_a_model_goes_from_one_server_to_another_and_its_bytes_once(servers, tmp_path):
    dev, prod = servers
    package = tmp_path / "package"
    talker = write_talker(tmp_path / "cross", comment="cross")
    ollamaq("publish", talker, "cross:q8", "--q", "Q8_0", "--to", dev.url, "-o", package, cwd=tmp_path)
    go = ("promote", "cross:q8", "cross:prod", "--from", dev.url, "--to", prod.url, "--package", package)
    first, second = (ollamaq(*go, "--expect", "Paris", cwd=tmp_path) for _ in range(2))
    assert (first["sent"], second["sent"]) == (True, False)
    assert prod.models_by_name() == {"cross:prod": dev.models_by_name()["cross:q8"]}
    assert prod.ask("cross:prod") == "Paris."
    failed = ollamaq(*go, "--expect", "Tokyo", code=1, cwd=tmp_path)
    assert "nothing was switched" in failed["error"]["message"]
    assert list(prod.models_by_name()) == ["cross:prod"]


def test_another_model_than_the_tested_one_is_not_sent(servers, tmp_path):
    dev, prod = servers
    for name, comment in (("mine", "mine"), ("other", "other")):
        publish = ("publish", write_talker(tmp_path / name, comment=comment), f"{name}:1", "--q", "Q8_0")
        ollamaq(*publish, "--to", dev.url, "-o", tmp_path / f"{name}-package", cwd=tmp_path)
    go = ("promote", "mine:1", "--from", dev.url, "--to", prod.url, "--package")
    refused = ollamaq(*go, tmp_path / "other-package", code=3, cwd=tmp_path)
    assert "FROM" in refused["error"]["message"]
    modelfile = tmp_path / "mine-package" / "Modelfile"
    modelfile.write_text(modelfile.read_text() + "SYSTEM You are another.\n")
    refused = ollamaq(*go, tmp_path / "mine-package", code=3, cwd=tmp_path)
    assert "SYSTEM differ" in refused["error"]["message"]
    assert "mine:1" not in prod.models_by_name()


def test_without_its_bytes_on_this_machine_that_is_said(servers, tmp_path):
    dev, prod = servers
    httpx.post(f"{dev.url}/api/copy", json={"source": "bot:prod", "destination": "lone:1"}).raise_for_status()
    environment = {"OLLAMA_MODELS": str(tmp_path / "empty"), "OLLAMA_HOST": "127.0.0.1:9"}
    go = ("promote", "lone:1", "--from", dev.url, "--to", prod.url)
    assert "lone:1" in ollamaq(*go, code=4, cwd=tmp_path, **environment)["error"]["message"]
