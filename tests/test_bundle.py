"""Bundles: the same bytes for the same model, and nothing of a stranger's bundle is trusted."""

import hashlib
import io
import json
import tarfile
import tracemalloc

import gguf
import numpy as np
import pytest

from ollamaq.errors import ModelRefused, ToolchainError, UsageError
from ollamaq.ollama.store import Store
from ollamaq.registry.bundle import REF_NAME, open_bundle
from ollamaq.registry.pull import install
from ollamaq.registry.sources import bundle


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))


@pytest.fixture
def package(tmp_path):
    directory = tmp_path / "package"
    directory.mkdir()
    writer = gguf.GGUFWriter(directory / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.ones((4, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (directory / "Modelfile").write_text("FROM ./model.gguf\nSYSTEM be brief\n")
    (directory / "release.json").write_text('{"name": "team/bot:q5"}')
    return directory


@pytest.fixture
def made(package, tmp_path):
    path = tmp_path / "bot.tar"
    bundle(str(package), path)
    return path


def entries(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def write(path, files, *more):
    """A tar of ``{name: bytes}`` and further members."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_bundle_is_an_oci_image_layout_of_the_same_bytes(package, made, tmp_path):
    bundle(str(package), tmp_path / "again.tar")
    assert made.read_bytes() == (tmp_path / "again.tar").read_bytes()
    files = entries(made)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {REF_NAME: "team/bot:q5"}
    manifest = json.loads(files["blobs/sha256/" + entry["digest"].partition(":")[2]])
    for part in (entry, manifest["config"], *manifest["layers"]):
        data = files["blobs/sha256/" + part["digest"].partition(":")[2]]
        assert (sha256(data), len(data)) == (part["digest"].partition(":")[2], part["size"])
    with tarfile.open(made) as tar:
        assert {(member.mtime, member.uid, member.mode) for member in tar} == {(0, 0, 0o644)}


def test_a_bundle_is_installed_into_a_store_under_its_name(package, made, tmp_path):
    installed = install(made, to="store")
    store = Store(tmp_path / "models")
    assert installed.name == "team/bot:q5"
    assert store.model_path("team/bot:q5").read_bytes() == (package / "model.gguf").read_bytes()
    assert store.layer("team/bot:q5", "system") == "be brief"
    assert sorted(path.name for path in store.root.iterdir()) == ["blobs", "manifests"]
    assert install(made, "other", to="store").fetched == 0


def test_a_model_of_the_store_makes_the_same_bundle_again(made, tmp_path):
    install(made, to="store")
    bundle("team/bot:q5", tmp_path / "again.tar")
    assert made.read_bytes() == (tmp_path / "again.tar").read_bytes()


def test_a_bundle_is_installed_as_a_package(package, made, tmp_path):
    install(made, to="file", output=tmp_path / "out")
    assert (tmp_path / "out/model.gguf").read_bytes() == (package / "model.gguf").read_bytes()
    assert (tmp_path / "out/Modelfile").read_text() == "FROM ./model.gguf\nSYSTEM be brief\n"


def test_a_bundle_of_a_changed_file_does_not_appear(package, tmp_path):
    bundle(str(package), tmp_path / "bot.tar")
    install(tmp_path / "bot.tar", to="store")
    path = Store(tmp_path / "models").model_path("team/bot:q5")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelRefused, match="is not what its name says"):
        bundle("team/bot:q5", tmp_path / "new.tar")
    assert sorted(found.name for found in tmp_path.glob("*.tar")) == ["bot.tar"]


def nothing_was_installed(tmp_path):
    return not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def test_a_damaged_blob_is_found_out(made, tmp_path):
    files = entries(made)
    (name,) = (name for name, data in files.items() if data.startswith(b"GGUF"))
    write(made, files | {name: files[name][:-1] + b"!"})
    with pytest.raises(ModelRefused, match="is damaged: its model is not sha256:"):
        install(made, to="store")
    assert nothing_was_installed(tmp_path)


def link(name, to):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


HOSTILE = {
    "a path above": (lambda files: files | {"../../etc/cron.d/evil": b"x"}, (), "has an entry '../../etc"),
    "an absolute path": (lambda files: files | {"/etc/cron.d/evil": b"x"}, (), "has an entry '/etc"),
    "a link": (lambda files: files, (link("blobs/sha256/link", "/etc/passwd"),), "is not a plain file"),
    "no index": (lambda files: {k: v for k, v in files.items() if k != "index.json"}, (), "has no 'index.json'"),
    "a broken index": (lambda files: files | {"index.json": b"{"}, (), "does not name one model"),
    "a deep index": (lambda files: files | {"index.json": b"[" * 99999}, (), "does not name one model"),
    "a long index": (lambda files: files | {"index.json": b" " * (5 << 20)}, (), "is too long"),
    "many entries": (lambda files: files | {f"x{i}": b"" for i in range(2100)}, (), "more than 2048 entries"),
    "a digest as a path": (
        lambda files: (
            files
            | {
                "index.json": b'{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",'
                b' "digest": "sha256:../../../etc/passwd"}]}'
            }
        ),
        (),
        "has no 'blobs/sha256/../../../etc/passwd'",
    ),
    "a missing blob": (
        lambda files: {name: data for name, data in files.items() if not data.startswith(b"GGUF")},
        (),
        r"lacks sha256:.* \(model\)",
    ),
    "another manifest": (
        lambda files: {name: data.replace(b'"size"', b'"SIZE"') for name, data in files.items()},
        (),
        "does not name|is not what the index says",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_bundle_is_refused(made, tmp_path, kind):
    change, more, why = HOSTILE[kind]
    write(made, change(entries(made)), *more)
    with pytest.raises(ModelRefused, match=why):
        install(made, to="store")
    assert nothing_was_installed(tmp_path)
    assert not (tmp_path.parent / "etc").exists()


def test_a_file_that_is_twice_in_a_bundle_is_refused(made):
    with tarfile.open(made, "a") as tar:
        tar.addfile(tarfile.TarInfo("index.json"))
    with pytest.raises(ModelRefused, match=r"has 'index\.json' twice"):
        open_bundle(made)


def test_a_header_that_claims_a_gigabyte_gets_no_memory(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    path = tmp_path / "bot.tar"
    path.write_bytes(member.tobuf())
    with path.open("r+b") as file:
        file.truncate((1 << 30) + 2048)
    tracemalloc.start()
    with pytest.raises(ModelRefused, match="cannot read"):
        open_bundle(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"GGUF", b"\0" * 10240, b"\x1f\x8b\x08" + b"\0" * 600])
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "bot.tar").write_bytes(data)
    with pytest.raises(ModelRefused, match=r"cannot read|is not a bundle"):
        open_bundle(tmp_path / "bot.tar")


def test_a_bundle_that_ends_early_is_refused(made):
    made.write_bytes(made.read_bytes()[:4096])
    with pytest.raises(ModelRefused, match=r"cannot read|ends in the middle|has no"):
        install(made, to="store")


def test_a_name_from_a_bundle_is_held_to_the_rules(made, tmp_path):
    files = entries(made)
    write(made, files | {"index.json": files["index.json"].replace(b"team/bot:q5", b"../../../evil:x")})
    with pytest.raises(UsageError, match="would refuse the name"):
        install(made, to="store")


def test_where_there_is_no_room_nothing_is_written(package, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 10}))
    with pytest.raises(ToolchainError, match="no room"):
        bundle(str(package), tmp_path / "bot.tar")
    assert not list(tmp_path.glob("*bot.tar*"))
