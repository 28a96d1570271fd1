"""The model store is laid out as an Ollama server lays it out, down to the bytes."""

import hashlib
import json
import os

import gguf
import numpy as np
import pytest

from ollamaq.errors import ModelRefused, ServerError, ToolchainError, UsageError
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama import contents
from ollamaq.ollama import store as module
from ollamaq.ollama.store import Store, default_root

MODELFILE = Modelfile(
    "./model.gguf",
    template="{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}",
    system="Be <brief> & kind\u2028ok",
    parameters={
        "temperature": 0.6,
        "top_p": 1.0,
        "stop": ["<|im_end|>"],
        "min_p": 0.00001,
        "top_k": 40,
        "use_mmap": True,
    },
    licenses=("MIT", "Other"),
    messages=(("user", "hi <b>"), ("assistant", "yo")),
    requires="0.30.0",
)


def quiet(label, done, total):
    pass


@pytest.fixture
def model(tmp_path):
    """A GGUF of 192 values, and its SHA-256."""
    path = tmp_path / "package" / "model.gguf"
    path.parent.mkdir()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q5_K_M)
    writer.add_tensor("token_embd.weight", np.ones((2, 64), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "models")


def files(store):
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def blob(store, entry):
    return (store.root / "blobs" / entry["digest"].replace(":", "-")).read_bytes()


def test_a_model_is_written_as_go_writes_it(store, model):
    path, sha256 = model
    assert store.create("Bot:q5_K_M", path, sha256, MODELFILE, quiet)
    manifest = (store.root / "manifests/registry.ollama.ai/library/Bot/q5_K_M").read_bytes()
    content = json.loads(manifest)
    assert manifest == json.dumps(content, separators=(",", ":")).encode() + b"\n"
    assert list(content) == ["schemaVersion", "mediaType", "config", "layers"]
    assert content["layers"][0] == {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{sha256}",
        "size": path.stat().st_size,
        "from": "model.gguf",
    }
    assert blob(store, content["config"]) == (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"192","file_type":"Q5_K_M",'
        b'"requires":"0.30.0"}\n'
    )
    written = [
        (entry["mediaType"].removeprefix("application/vnd.ollama.image."), blob(store, entry).decode())
        for entry in content["layers"][1:]
    ]
    assert written == [
        ("template", MODELFILE.template),
        ("system", MODELFILE.system),
        ("license", "MIT"),
        ("license", "Other"),
        (
            "params",
            r'{"min_p":0.00001,"stop":["\u003c|im_end|\u003e"],"temperature":0.6,"top_k":40,"top_p":1,"use_mmap":true}'
            "\n",
        ),
        ("messages", r'[{"role":"user","content":"hi \u003cb\u003e"},{"role":"assistant","content":"yo"}]' + "\n"),
    ]
    for entry in (*content["layers"], content["config"]):
        data = blob(store, entry)
        assert entry["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert entry["size"] == len(data)
    assert store.digest("bot:Q5_K_M") == hashlib.sha256(manifest).hexdigest()
    assert store.layer("bot:q5_K_M", "system") == MODELFILE.system
    assert store.layer("bot:q5_K_M", "adapter") is None


def test_the_gguf_is_linked_not_copied_and_taken_once(store, model):
    path, sha256 = model
    assert store.create("a", path, sha256, Modelfile("x"), quiet)
    assert not store.create("b", path, sha256, Modelfile("x"), quiet)
    assert store.model_path("a").samefile(path)
    assert [str(name) for name in store.names()] == ["a:latest", "b:latest"]


def test_where_no_link_can_be_made_the_gguf_is_copied_with_progress(store, model, monkeypatch):
    def fail(*arguments):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "link", fail)
    path, sha256 = model
    told = []
    assert store.create("a", path, sha256, Modelfile("x"), lambda *progress: told.append(progress))
    assert store.model_path("a").read_bytes() == path.read_bytes()
    assert not store.model_path("a").samefile(path)
    size = path.stat().st_size
    assert told == [("copying model.gguf", size, size)]
    monkeypatch.setattr(module.Store, "_blob", lambda self, digest: store.root / "blobs" / "other")
    with pytest.raises(ToolchainError, match="changed while it was copied"):
        store.create("b", path, "00" * 32, Modelfile("x"), quiet)
    assert not [path for path in files(store) if path.startswith("blobs/.")]


def test_a_damaged_blob_is_replaced(store, model):
    path, sha256 = model
    store.create("a", path, sha256, Modelfile("x"), quiet)
    damaged = store.model_path("a")
    damaged.unlink()
    damaged.write_bytes(b"GG")
    assert store.create("a", path, sha256, Modelfile("x"), quiet)
    assert damaged.samefile(path)


def test_a_copy_is_the_same_model_under_another_name(store, model):
    store.create("a", *model, MODELFILE, quiet)
    store.copy("a", "team/b:1")
    assert store.digest("team/b:1") == store.digest("a")
    store.delete("a")
    assert store.digest("a") is None
    assert store.model_path("team/b:1").is_file()


def test_deleting_leaves_nothing_but_what_others_use(store, model):
    store.create("a", *model, Modelfile("x", system="one"), quiet)
    store.create("team/b", *model, Modelfile("x", system="two"), quiet)
    store.delete("A:LATEST")
    assert store.layer("team/b", "system") == "two"
    assert len(files(store)) == 4  # manifest, config, GGUF, system
    store.delete("team/b")
    assert files(store) == []
    assert list((store.root / "manifests").iterdir()) == []
    assert model[0].is_file()


def test_replacing_a_model_removes_what_only_it_used(store, model):
    store.create("a", *model, Modelfile("x", system="one"), quiet)
    store.create("A", *model, Modelfile("x", system="two"), quiet)
    assert [str(name) for name in store.names()] == ["a:latest"]
    assert len(files(store)) == 4
    assert store.layer("a", "system") == "two"


def test_a_new_tag_joins_its_model_whatever_case_it_is_asked_in(store, model):
    store.create("Team/Bot:A", *model, Modelfile("x"), quiet)
    store.create("team/BOT:b", *model, Modelfile("x"), quiet)
    assert [str(name) for name in store.names()] == ["Team/Bot:A", "Team/Bot:b"]


def test_nothing_is_pruned_while_some_model_cannot_be_read(store, model):
    store.create("a", *model, Modelfile("x", system="one"), quiet)
    store.copy("a", "b")
    (store.root / "manifests/registry.ollama.ai/library/b/latest").write_text("{")
    store.delete("a")
    assert len([path for path in files(store) if path.startswith("blobs/")]) == 3
    store.delete("b")
    assert store.names() == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"layers": [{"mediaType": 1, "digest": "x"}], "config": {}}',
        b'{"config": {"mediaType": "c", "digest": "x"},'
        b' "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}]}',
        b" " * ((16 << 20) + 1),
    ],
)
def test_a_hostile_manifest_leads_nowhere(store, model, manifest):
    store.create("a", *model, Modelfile("x"), quiet)
    (store.root / "manifests/registry.ollama.ai/library/a/latest").write_bytes(manifest)
    with pytest.raises(ServerError) as refused:
        store.model_path("a")
    assert str(store.root) in str(refused.value)
    assert store.create("a", *model, Modelfile("x"), quiet) is False
    assert store.model_path("a").is_file()


@pytest.mark.parametrize("call", [Store.model_path, Store.delete, lambda store, name: store.copy(name, "b")])
def test_a_model_that_is_not_there_is_said(store, call):
    with pytest.raises(ServerError, match="has no model nope"):
        call(store, "nope")


def test_a_name_cannot_leave_the_store(store, model):
    with pytest.raises(UsageError):
        store.create("../../../up", *model, Modelfile("x"), quiet)
    assert files(store) == []


def test_what_is_not_a_gguf_is_refused_before_anything_is_written(store, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelRefused):
        store.create("a", path, "00" * 32, Modelfile("x"), quiet)
    assert not store.root.exists()


def test_a_store_that_cannot_be_written_is_said(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match="file") as failed:
        Store(tmp_path / "file" / "models").create("a", *model, Modelfile("x"), quiet)
    assert failed.value.next_step


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999"),
        (1500, "2K"),
        (134_515_008, "134.52M"),
        (2_000_000, "2M"),
        (7_615_616_512, "7.6B"),
        (8 * 10**9, "8B"),
    ],
)
def test_sizes_are_told_as_ollama_tells_them(count, text):
    assert contents._human(count) == text


def test_the_store_is_where_ollama_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("OLLAMA_MODELS", f' "{tmp_path}" ')
    assert default_root() == tmp_path
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert default_root() == tmp_path / ".ollama" / "models"
