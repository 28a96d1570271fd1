"""Packages that are what was published, and those that are not; who signed them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ollamaq
from ollamaq.errors import GateFailed, ModelRefused, ToolchainError, UsageError
from ollamaq.package import sign_package
from ollamaq.signing import pae, sign, signed_payload
from ollamaq.verify import differences_of_package


@pytest.fixture
def package(tiny_checkpoint, tmp_path) -> Path:
    (release,) = ollamaq.publish(tiny_checkpoint(), to="file", output=tmp_path / "package", quantization="Q8_0")
    return release.package


@pytest.fixture
def keys(tmp_path):
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ed25519

    def make(name, *, ssh):
        private = ed25519.Ed25519PrivateKey.generate()
        kind = form.PrivateFormat.OpenSSH if ssh else form.PrivateFormat.PKCS8
        (tmp_path / name).write_bytes(private.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()))
        public = (
            (form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
            if ssh
            else (form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        )
        (tmp_path / f"{name}.pub").write_bytes(private.public_key().public_bytes(*public))
        return tmp_path / name, tmp_path / f"{name}.pub"

    return make


def test_what_was_published_verifies(package):
    assert list(differences_of_package(package)) == []


def test_the_same_model_has_the_same_provenance(package, tiny_checkpoint, tmp_path):
    ollamaq.publish(tmp_path / "tiny", to="file", output=tmp_path / "again", quantization="Q8_0")
    for name in ("provenance.json", "bom.cdx.json", "release.json"):
        assert (package / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_provenance_names_every_input_and_output(package):
    statement = json.loads((package / "provenance.json").read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [subject["name"] for subject in statement["subject"]] == ["model.gguf", "Modelfile"]
    inputs = {entry["name"] for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= inputs
    components = json.loads((package / "bom.cdx.json").read_text())["components"]
    assert {component["name"] for component in components} == inputs


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: (path / "Modelfile").write_text("FROM ./other.gguf\n"), "Modelfile is sha256:"),
        (lambda path: (path / "model.gguf").unlink(), "model.gguf is missing"),
        (lambda path: (path / "provenance.json").write_text("{}"), "provenance.json tells another story"),
    ],
)
def test_what_was_changed_is_named(package, spoil, said):
    spoil(package)
    assert said in next(differences_of_package(package))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no release"),
        ('{"name": 1}', "is no release"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_release_is_refused(tmp_path, text, message):
    (tmp_path / "release.json").write_text(text)
    with pytest.raises(ModelRefused, match=message):
        list(differences_of_package(tmp_path))


def test_a_release_cannot_point_out_of_its_package(package):
    release = json.loads((package / "release.json").read_text())
    release["gguf"]["file"] = "../secret"
    (package / "release.json").write_text(json.dumps(release))
    with pytest.raises(ModelRefused, match="outside of the package"):
        list(differences_of_package(package))


def test_pae_is_that_of_the_specification():
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize("ssh", [True, False], ids=["ssh-keygen", "openssl"])
def test_a_signed_package_verifies_with_the_key_that_signed_it_and_no_other(package, keys, ssh):
    private, public = keys("mine", ssh=ssh)
    sign_package(package, private)
    assert list(differences_of_package(package, public)) == []
    _, other = keys("other", ssh=ssh)
    with pytest.raises(GateFailed, match="is not signed by"):
        list(differences_of_package(package, other))
    with pytest.raises(UsageError, match="is no public ed25519 key"):
        list(differences_of_package(package, private))
    with pytest.raises(UsageError, match="is no private ed25519 key"):
        sign_package(package, public)


def test_a_signature_of_another_story_does_not_count(package, keys, tmp_path):
    private, public = keys("mine", ssh=True)
    (package / "provenance.dsse.json").write_text(sign(b'{"subject": []}', private))
    assert "another story" in next(differences_of_package(package, public))
    envelope = json.loads((package / "provenance.dsse.json").read_text())
    envelope["payload"] = "AAAA"
    (package / "provenance.dsse.json").write_text(json.dumps(envelope))
    with pytest.raises(GateFailed, match="is not signed by"):
        signed_payload(package / "provenance.dsse.json", public)
    (package / "provenance.dsse.json").write_text("{}")
    with pytest.raises(GateFailed, match="no signed envelope"):
        signed_payload(package / "provenance.dsse.json", public)


def test_a_registry_without_a_model_to_look_for_is_refused(package):
    run = subprocess.run([sys.executable, "-m", "ollamaq", "verify", package, "--registry"], capture_output=True)
    assert run.returncode == 2
    assert b"--registry says nothing without a model" in run.stderr


def test_verify_exits_with_1_and_names_each_difference(package):
    command = [sys.executable, "-m", "ollamaq", "verify", str(package)]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
    (package / "Modelfile").write_text("FROM ./model.gguf\n")
    run = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert run.returncode == 1
    assert len(json.loads(run.stdout)["differences"]) == 1


def test_a_signature_without_the_extra_is_said(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ToolchainError, match="signatures need cryptography"):
        signed_payload(package / "provenance.dsse.json", tmp_path / "key.pub")
