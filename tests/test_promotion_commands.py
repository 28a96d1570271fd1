"""``ollamaq rollback`` and ``promote`` on the store of this machine."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.store import Store

pytest.importorskip("xllamacpp")


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result

    return run


@pytest.fixture
def versions(run, tiny_checkpoint, tmp_path):
    """A store with a model and the version before; their digests."""
    run("quantize", tiny_checkpoint(), "model.gguf", "--q", "Q8_0", "--quiet")
    gguf, store = tmp_path / "model.gguf", Store(tmp_path / "models")
    digests = []
    for name, system in (("bot:prod", "new"), ("bot:prod-prev-1", "old")):
        sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
        store.create(name, gguf, sha256, Modelfile("./model.gguf", system=system), lambda *progress: None)
        digests.append(store.digest(name))
    return digests


def test_rollback_says_what_it_would_do_and_does_it(run, versions):
    new, old = versions
    dry = json.loads(run("rollback", "bot:prod", "--to", "store", "--dry-run", "--json").stdout)
    assert dry["versions"] == {"bot:prod": new, "bot:prod-prev-1": old}
    told = json.loads(run("rollback", "bot:prod", "--to", "store", "--json").stdout)
    assert (told["schema_version"], told["before"], told["digest"]) == (1, new, old)
    assert told["kept"] == {"bot:prod-prev-1": new}
    assert f"is {new[:12]} again (was {old[:12]})" in run("rollback", "bot:prod", "--to", "store").stdout
    assert run("rollback", "bot:prod", "--to", "store", "--quiet").stdout == "bot:prod\n"


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_without_a_version_before_rollback_says_how_to_keep_one(run, versions, more):
    result = run("rollback", "bot:prod-prev-1", "--to", "store", *more, code=4)
    assert "no version of bot:prod-prev-1 before" in result.stderr
    assert "--keep" in result.stderr


def test_a_name_is_switched_and_the_version_before_kept(run, versions, tmp_path):
    new, old = versions
    Store(tmp_path / "models").copy("bot:prod-prev-1", "bot:next")
    arguments = ("promote", "bot:next", "bot:prod", "--from", "store", "--keep", "2")
    told = json.loads(run(*arguments, "--json").stdout)
    assert (told["name"], told["digest"], told["replaced"]) == ("bot:prod", old, new)
    assert "its own name" in run("promote", "bot:prod", "--from", "store", code=2).stderr
    assert "ollamaq rollback bot:prod" in run("promote", "bot:prod-prev-1", *arguments[2:], code=2).stderr
    assert "has no model bot:none" in run("promote", "bot:none", "bot:prod", "--from", "store", code=4).stderr
