"""Pushing to and pulling from registries that behave, forget, lie, or go away."""

import functools
import hashlib
import importlib
import itertools
import json
import os
import re
from pathlib import Path

import gguf
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.errors import ServerError, ToolchainError, UsageError
from ollamaq.ollama.store import Store
from ollamaq.registry import downloads, session, uploads
from ollamaq.registry.pull import pull
from ollamaq.registry.push import push, push_places
from ollamaq.registry.reference import parse_reference
from ollamaq.verify import differences_of_reference

REF = "registry.test/team/bot:q5"
BASE = "https://registry.test"


class FakeRegistry:
    """A registry in memory, as the specification has it. ``hook(request)`` may answer, or raise, instead of it."""

    def __init__(self):
        self.blobs, self.manifests, self.uploads, self.asked = {}, {}, {}, []
        self.hook = lambda request: None
        self.keys, self.sent = itertools.count(), 0

    @property
    def transport(self):
        return httpx.MockTransport(lambda request: streamed(self.handle(request)))

    def handle(self, request):
        self.asked.append((request.method, request.url.path))
        hooked = self.hook(request)
        if hooked is not None:
            return hooked
        data = request.read()
        path, query = request.url.path, dict(request.url.params)
        repository, kind, rest = re.fullmatch("/v2/(.+?)/(blobs/uploads|blobs|manifests)/(.*)", path).groups()
        self.sent += len(data) if kind == "blobs/uploads" else 0
        return getattr(self, {"blobs/uploads": "upload", "blobs": "blob", "manifests": "manifest"}[kind])(
            request, repository, rest, query, data
        )

    def upload(self, request, repository, key, query, data):
        if request.method == "POST":
            if query.get("mount") in self.blobs.get(query.get("from"), ()):
                self.blobs.setdefault(repository, {})[query["mount"]] = self.blobs[query["from"]][query["mount"]]
                return httpx.Response(201)
            key = str(next(self.keys))
            self.uploads[key] = b""
        elif key not in self.uploads:
            return httpx.Response(404, json={"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "unknown"}]})
        elif request.method == "DELETE":
            del self.uploads[key]
            return httpx.Response(204)
        elif request.method == "PATCH":
            start = int(request.headers["Content-Range"].partition("-")[0])
            if start != len(self.uploads[key]):
                return httpx.Response(416)
            self.uploads[key] += data
        elif request.method == "PUT":
            content = self.uploads.pop(key) + data
            if query["digest"] != sha256(content):
                return httpx.Response(400, json={"errors": [{"code": "DIGEST_INVALID", "message": "digest invalid"}]})
            self.blobs.setdefault(repository, {})[query["digest"]] = content
            return httpx.Response(201)
        there = max(len(self.uploads[key]) - 1, 0)
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{key}?state=s", "Range": f"0-{there}"}
        return httpx.Response({"GET": 204}.get(request.method, 202), headers=headers)

    def blob(self, request, repository, digest, query, data):
        content = self.blobs.get(repository, {}).get(digest)
        if content is None:
            return httpx.Response(404)
        if wanted := re.fullmatch("bytes=([0-9]+)-", request.headers.get("Range", "")):
            start = int(wanted[1])
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return httpx.Response(206, content=content[start:], headers=headers)
        return httpx.Response(200, content=content)

    def manifest(self, request, repository, tag, query, data):
        if request.method == "PUT":
            for entry in (*json.loads(data)["layers"], json.loads(data)["config"]):
                assert entry["digest"] in self.blobs[repository], "a manifest before its blobs"
            self.manifests[repository, tag] = data
            return httpx.Response(201)
        content = self.manifests.get((repository, tag))
        if content is None:
            return httpx.Response(404)
        return httpx.Response(200, content=content, headers={"Docker-Content-Digest": sha256(content)})


def streamed(response):
    """The response as it comes over a line: not read yet."""
    if not response.is_stream_consumed:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def registry(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(uploads, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(downloads, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(uploads, "SMALL", 1000)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    return FakeRegistry()


@pytest.fixture
def package(tmp_path):
    """A package with a GGUF of some 260 KB."""
    directory = tmp_path / "package"
    directory.mkdir()
    writer = gguf.GGUFWriter(directory / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.random.default_rng(1).random((64, 1024), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (directory / "Modelfile").write_text(
        'FROM ./model.gguf\nSYSTEM be brief\nPARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\n'
        "PARAMETER temperature 0.5\nLICENSE MIT\nMESSAGE user hi\nMESSAGE assistant yo\n"
    )
    return directory


@pytest.fixture
def send(registry, package):
    def run(reference=REF, **options):
        return push(str(package), reference, **{"transport": registry.transport, "chunk": 50_000} | options)

    return run


def model_size(package):
    return (package / "model.gguf").stat().st_size


def how(pushed):
    return {blob.kind: blob.how for blob in pushed.blobs}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ghcr.io/team/bot:Q5_K_M", ("ghcr.io", "team/bot", "Q5_K_M")),
        ("localhost/bot", ("localhost", "bot", "latest")),
        ("127.0.0.1:5000/a/b/c__d:1", ("127.0.0.1:5000", "a/b/c__d", "1")),
        ("[::1]:5000/a:x", ("[::1]:5000", "a", "x")),
        ("h.test/a@sha256:" + "0" * 64, ("h.test", "a", "sha256:" + "0" * 64)),
    ],
)
def test_a_reference_has_host_repository_and_tag(text, parts):
    found = parse_reference(text)
    assert (found.host, found.repository, found.tag) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bot", "names no host"),
        ("team/bot:q5", "names no host"),
        ("http://h.test/bot", "scheme"),
        ("h.test/Team/bot", "'Team/bot' is not the name"),
        ("h.test/../../etc/passwd", "is not the name"),
        ("h.test/a/../b:x", "is not the name"),
        ("h.test/a:../x", "is not the name|is not a tag"),
        ("h.test/a:-x", "is not a tag"),
        ("h.test/a@sha256:00", "is not a digest"),
        ("user:pass@h.test/a", "is not a host"),
        ("h.test/" + "a" * 300, "is not the name"),
        ("h.test/a?x=:t", "is not the name"),
    ],
)
def test_what_no_registry_would_take_is_refused(text, why):
    with pytest.raises(UsageError, match=why):
        parse_reference(text)


def test_a_push_asks_for_authority_and_then_for_blobs_and_sends_the_manifest_last(registry, send, package):
    pushed = send()
    assert set(how(pushed).values()) == {"sent"}
    assert registry.asked[0] == ("POST", "/v2/team/bot/blobs/uploads/")
    assert registry.asked[-2:] == [("PUT", "/v2/team/bot/manifests/q5"), ("GET", "/v2/team/bot/manifests/q5")]
    manifest = registry.manifests["team/bot", "q5"]
    assert pushed.digest == sha256(manifest)
    told = json.loads(manifest)
    assert manifest == json.dumps(told, separators=(",", ":")).encode()
    assert [layer["mediaType"].rpartition(".")[2] for layer in told["layers"]] == [
        "model",
        "system",
        "license",
        "params",
        "messages",
    ]
    assert registry.blobs["team/bot"][told["layers"][0]["digest"]] == (package / "model.gguf").read_bytes()
    assert (
        b'"stop":["\\u003c|im_end|\\u003e","\\u003c/s\\u003e"]'
        in registry.blobs["team/bot"][told["layers"][3]["digest"]]
    )


def test_a_second_push_sends_nothing_and_another_repository_is_mounted(registry, send):
    send()
    sent = registry.sent
    assert set(how(send()).values()) == {"there"}
    assert set(how(send("registry.test/other/bot:q5")).values()) == {"mounted"}
    assert registry.sent == sent
    assert registry.manifests["other/bot", "q5"] == registry.manifests["team/bot", "q5"]


def test_a_dry_run_tells_what_is_missing_and_sends_nothing(registry, send):
    assert set(how(send(dry_run=True)).values()) == {"missing"}
    assert not registry.blobs
    assert not registry.manifests
    assert not registry.uploads


def test_a_broken_connection_is_taken_up_where_the_registry_was(registry, send, package):
    broken = []

    def cut(request):
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("100000-") and not broken:
            broken.append(request)
            registry.uploads[request.url.path.rpartition("/")[2]] += request.read()[:7_000]
            raise httpx.WriteError("reset")

    registry.hook = cut
    pushed = send()
    assert how(pushed)["model"] == "resumed"
    starts = [asked for asked in registry.asked if asked[0] == "GET" and "uploads" in asked[1]]
    assert len(starts) == 1
    assert registry.sent == pushed.size - 7_000  # those were taken by the broken request


def test_a_push_that_was_killed_goes_on_in_the_next_process(registry, send):
    def dies(request):
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("150000-"):
            raise KeyboardInterrupt

    registry.hook = dies
    with pytest.raises(KeyboardInterrupt):
        send()
    assert not registry.manifests
    registry.hook = lambda request: None
    sent = registry.sent
    pushed = send()
    assert how(pushed)["model"] == "resumed"
    assert registry.sent - sent <= pushed.size - 150_000


@pytest.mark.parametrize("status", [400, 404, 416])
def test_an_upload_that_the_registry_has_forgotten_begins_anew(registry, send, status):
    def dies(request):
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("150000-"):
            raise KeyboardInterrupt

    registry.hook = dies
    with pytest.raises(KeyboardInterrupt):
        send()
    registry.hook = lambda request: (
        httpx.Response(status) if request.method == "GET" and "uploads" in request.url.path else None
    )
    assert how(send())["model"] == "sent"


def test_what_was_begun_of_another_file_is_found_out_and_sent_anew(registry, send):
    def dies(request):
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("150000-"):
            raise KeyboardInterrupt

    registry.hook = dies
    with pytest.raises(KeyboardInterrupt):
        send()
    registry.hook = lambda request: None
    registry.uploads = {key: b"?" * len(data) for key, data in registry.uploads.items()}
    assert how(send())["model"] == "sent"


def test_a_registry_that_takes_no_chunks_gets_the_whole(registry, send):
    registry.hook = lambda request: httpx.Response(405) if request.method == "PATCH" else None
    assert how(send())["model"] == "sent"


def test_an_answer_that_was_lost_is_no_failure(registry, send):
    lost = []

    def lose(request):
        if request.method == "PUT" and "uploads" in request.url.path and not lost:
            lost.append(request)
            registry.hook = lambda request: None
            registry.handle(request)
            raise httpx.ReadError("gone")

    registry.hook = lose
    send()
    assert ("team/bot", "q5") in registry.manifests


def test_a_registry_that_is_gone_for_good_is_one_sentence(registry, send):
    def gone(request):
        if request.method == "PATCH":
            raise httpx.ConnectError("refused")

    registry.hook = gone
    with pytest.raises(ServerError, match=r"no registry answers at https://registry\.test"):
        send()
    assert not registry.manifests


def test_a_busy_registry_is_waited_for(registry, send):
    busy = [429, 503]
    registry.hook = lambda request: httpx.Response(busy.pop()) if request.method == "HEAD" and busy else None
    send(parallel=1)
    assert not busy


def test_a_registry_that_says_the_digest_is_wrong_is_believed(registry, send):
    wrong = {"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"}]}
    registry.hook = lambda request: (
        httpx.Response(400, json=wrong) if request.method == "PUT" and "uploads" in request.url.path else None
    )
    with pytest.raises(ServerError, match=r"received another .* than sha256"):
        send()
    assert not registry.manifests


def test_a_registry_that_stores_something_else_is_found_out(registry, send):
    registry.hook = lambda request: (
        httpx.Response(201, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})
        if request.method == "PUT" and "uploads" in request.url.path
        else None
    )
    with pytest.raises(ServerError, match="received another"):
        send()


def test_a_tag_that_somebody_else_took_meanwhile_is_found_out(registry, send):
    other = b'{"schemaVersion":2}'
    registry.hook = lambda request: (
        httpx.Response(200, content=other) if request.method == "GET" and "manifests" in request.url.path else None
    )
    with pytest.raises(ServerError, match=f"has the manifest {sha256(other)} instead of"):
        send()


def test_a_push_that_is_not_allowed_hashes_and_sends_nothing(registry, send, package, monkeypatch):
    monkeypatch.setattr("ollamaq.registry.push.open_contents", lambda *arguments: pytest.fail("it was read"))
    denied = {"errors": [{"code": "DENIED", "message": "no push for you"}]}
    registry.hook = lambda request: httpx.Response(403, json=denied)
    with pytest.raises(ServerError, match=r"refuses a push to team/bot \(403\): no push for you"):
        send()


def fetch(registry, reference=REF, name=None, **options):
    return pull(reference, name, **{"to": "store", "transport": registry.transport} | options)


def test_what_was_pushed_is_pulled_into_a_store(registry, send, package):
    pushed = send()
    pulled = fetch(registry)
    store = Store(Path(os.environ["OLLAMA_MODELS"]))
    assert f"sha256:{pulled.digest}" == pushed.digest
    assert store.model_path(REF).read_bytes() == (package / "model.gguf").read_bytes()
    assert store.layer(REF, "system") == "be brief"
    assert sorted(path.name for path in store.root.iterdir()) == ["blobs", "manifests"]
    assert fetch(registry, name="bot").fetched == 0


def test_a_model_of_the_store_is_pushed_as_it_was_pulled(registry, send):
    pushed = send()
    fetch(registry, name="bot:1")
    again = push("bot:1", "registry.test/third/bot", transport=registry.transport)
    assert again.digest == pushed.digest


def test_a_package_is_pulled_as_it_was_pushed(registry, send, package, tmp_path):
    send()
    fetch(registry, to="file", output=tmp_path / "pulled")
    assert sorted(path.name for path in (tmp_path / "pulled").iterdir()) == ["Modelfile", "model.gguf"]
    assert (tmp_path / "pulled/model.gguf").read_bytes() == (package / "model.gguf").read_bytes()
    assert push(str(tmp_path / "pulled"), REF, transport=registry.transport).sent == 0


def test_a_reference_is_beside_its_package_what_was_pushed_and_each_part_that_is_not_is_named(registry, send, package):
    send()
    verify = functools.partial(differences_of_reference, package, transport=registry.transport)
    before = registry.sent
    assert list(verify(REF)) == []
    manifest = json.loads(registry.manifests["team/bot", "q5"])
    system = next(layer for layer in manifest["layers"] if layer["mediaType"].endswith(".system"))
    manifest["layers"].remove(system)
    manifest["config"]["digest"] = sha256(b"another")
    registry.manifests["team/bot", "q5"] = json.dumps(manifest).encode()
    said = dict(text.removeprefix("its ").split(" is ") for text in verify(REF))
    assert said.keys() == {"system", "config"}
    assert said["system"] == f"nothing, where the package has {system['digest']}"
    assert said["config"].startswith(f"{sha256(b'another')}, where the package has sha256:")
    assert registry.sent == before
    assert {method for method, path in registry.asked if "/blobs/sha256" in path} <= {"HEAD"}
    with pytest.raises(ServerError, match=r"has no model registry\.test/team/bot:none"):
        list(verify("registry.test/team/bot:none"))


def test_a_pull_that_broke_off_fetches_only_the_rest(registry, send, package):
    send()
    ranges = []

    def breaking(start, data):
        yield data[start : start + 100_000]
        raise httpx.ReadError("reset")

    def cut(request):
        if request.method == "GET" and "blobs" in request.url.path:
            data = registry.blobs["team/bot"][request.url.path.rpartition("/")[2]]
            if len(data) > 1000:
                start = int(re.sub("[^0-9]", "", request.headers.get("Range", "0")))
                ranges.append(start)
                headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
                return httpx.Response(206 if start else 200, headers=headers, content=breaking(start, data))
        return None

    registry.hook = cut
    fetch(registry)
    assert ranges == [0, 100_000, 200_000]
    store = Store(Path(os.environ["OLLAMA_MODELS"]))
    assert store.model_path(REF).read_bytes() == (package / "model.gguf").read_bytes()


def test_a_server_without_ranges_is_asked_for_the_whole_again(registry, send, package):
    send()
    registry.hook = lambda request: (
        pytest.fail("stopped too late") if registry.asked.count(registry.asked[-1]) > 3 else None
    )
    original, first = registry.blob, []

    def whole(request, repository, digest, query, data):
        content = registry.blobs[repository][digest]
        if len(content) > 1000 and not first:
            first.append(digest)
            return httpx.Response(200, content=iter([content[:5_000]]))
        request.headers.pop("Range", None)
        return original(request, repository, digest, query, data)

    registry.blob = whole
    fetch(registry)
    assert Store(Path(os.environ["OLLAMA_MODELS"])).model_path(REF).stat().st_size == model_size(package)


def nothing_is_left(*, partial=False):
    root = Path(os.environ["OLLAMA_MODELS"])
    left = [path for path in root.rglob("*") if path.is_file()]
    assert not [path for path in left if "manifests" in path.parts]
    assert partial or not [path for path in left if path.stat().st_size > 1000]


def test_a_registry_that_sends_something_else_is_found_out(registry, send):
    send()
    lies = {digest: data[:-1] + b"!" for digest, data in registry.blobs["team/bot"].items() if len(data) > 1000}
    registry.blobs["team/bot"] |= lies
    with pytest.raises(ServerError, match=r"sends another model of .* than sha256"):
        fetch(registry)
    nothing_is_left()


def endless():
    while True:
        yield b"?" * 65536


def test_a_stream_without_end_is_left(registry, send):
    send()
    registry.hook = lambda request: (
        httpx.Response(200, content=endless()) if request.method == "GET" and "/blobs/" in request.url.path else None
    )
    with pytest.raises(ServerError, match="sends more than"):
        fetch(registry)
    nothing_is_left(partial=True)


@pytest.mark.parametrize("path", ["manifests", "blobs/uploads"])
def test_an_answer_without_end_is_left(registry, send, path):
    registry.hook = lambda request: httpx.Response(200, content=endless()) if path in request.url.path else None
    with pytest.raises(ServerError, match="answers with more than"):
        fetch(registry) if path == "manifests" else send()


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"{", "is not the manifest of a model"),
        (b"[" * 100_000, "is not the manifest of a model"),
        (b'{"manifests": []}', "is not the manifest of a model"),
        (
            b'{"config": {"mediaType": "c", "digest": "sha256:../../../etc/passwd", "size": 1}, "layers": []}',
            "is not the manifest of a model",
        ),
        (
            b'{"config": {"mediaType": "c", "digest": "sha256:%s", "size": -1}, "layers": []}' % (b"0" * 64),
            "is not the manifest of a model",
        ),
        (
            b'{"config": {"mediaType": "c", "digest": "sha256:%s", "size": 1}, "layers": []}' % (b"0" * 64),
            "is not a model of Ollama: it holds c",
        ),
    ],
)
def test_a_hostile_manifest_is_refused(registry, manifest, why):
    registry.manifests["team/bot", "q5"] = manifest
    with pytest.raises(ServerError, match=why):
        fetch(registry)
    nothing_is_left()


def test_a_manifest_that_is_not_what_was_asked_for_is_refused(registry, send):
    send()
    reference = "registry.test/team/bot@sha256:" + "0" * 64
    registry.manifests["team/bot", "sha256:" + "0" * 64] = registry.manifests["team/bot", "q5"]
    with pytest.raises(ServerError, match=r"sends a manifest of .* with the digest"):
        fetch(registry, reference, name="bot")
    with pytest.raises(UsageError, match="has no tag to be called by"):
        fetch(registry, reference)


def test_a_full_disk_is_one_sentence_and_the_next_pull_goes_on(registry, send, package, monkeypatch):
    send()
    real, room = os.write, [120_000]

    def write(file, data):
        if len(data) < 1000:
            return real(file, data)
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        n_bytes = real(file, data[: room[0]])
        room[0] -= n_bytes
        return n_bytes

    monkeypatch.setattr(downloads.os, "write", write)
    with pytest.raises(ToolchainError, match="No space left on device") as caught:
        fetch(registry)
    assert "free some space" in caught.value.next_step
    nothing_is_left(partial=True)
    monkeypatch.undo()
    monkeypatch.setenv("OLLAMA_MODELS", str(package.parent / "models"))
    ranges = []
    registry.hook = lambda request: ranges.append(request.headers.get("Range"))
    fetch(registry)
    assert "bytes=120000-" in ranges


def test_nothing_is_fetched_where_there_is_no_room(registry, send, monkeypatch):
    send()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(ToolchainError, match="no room in"):
        fetch(registry)
    nothing_is_left()


def test_a_model_that_is_not_there_is_one_sentence(registry):
    with pytest.raises(ServerError, match=r"has no model registry\.test/team/bot:q5"):
        fetch(registry)


@pytest.fixture
def command(registry, monkeypatch):
    """Run ``ollamaq …`` against the registry; gives the exit code, stdout and stderr."""
    for name in ("push", "pull"):
        module = importlib.import_module(f"ollamaq.cli.{name}")
        original = getattr(module, f"run_{name}")
        monkeypatch.setattr(module, f"run_{name}", functools.partial(original, transport=registry.transport))

    def run(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, done.stdout, done.stderr

    return run


def test_commands_speak_json(command, registry, package, tmp_path):
    code, out, _ = command("push", package, REF, "--json")
    pushed = json.loads(out)
    assert (code, pushed["schema_version"], pushed["reference"]) == (0, 1, REF)
    assert pushed["digest"] == sha256(registry.manifests["team/bot", "q5"])
    code, out, _ = command("push", package, REF, "--dry-run", "--json")
    assert (code, json.loads(out)["dry_run"], json.loads(out)["sent"]) == (0, True, 0)
    code, out, _ = command("pull", REF, "bot", "--to", "store", "--json")
    assert (code, json.loads(out)["name"]) == (0, "bot:latest")
    code, out, _ = command("bundle", "bot", tmp_path / "bot.tar", "--json")
    assert (code, json.loads(out)["digest"]) == (0, pushed["digest"])
    code, out, _ = command("install", tmp_path / "bot.tar", "other:1", "--to", "store", "--json")
    assert (code, json.loads(out)["name"]) == (0, "other:1")


def test_commands_tell_people_what_went_where(command, package):
    _, out, _ = command("push", package, REF)
    assert re.search(r"model\s+262\.\d KB|model\s+262 KB\s+sent", out)
    assert f"pushed {REF} (sha256:" in out
    _, out, _ = command("push", package, REF, "--quiet")
    assert out == f"{REF}\n"
    _, out, _ = command("pull", REF, "--to", "store")
    assert out.startswith(f"put {REF} into the store")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("push", "{package}", "bot"), 2, "names no host"),
        (("push", "./nowhere", REF), 2, "does not exist"),
        (("push", "{package}/..", REF), 2, "has no model.gguf"),
        (("push", "{package}/Modelfile", REF), 3, "cannot read"),
        (("push", "unknown-model", REF), 4, "no model unknown-model:latest in"),
        (("pull", REF), 4, "has no model"),
        (("pull", REF, "--to", "store", "-o", "x"), 2, "--output is for --to file"),
        (("install", "{package}/model.gguf", "--to", "store"), 3, "cannot read"),
        (("bundle", "{package}", "/proc/no/bot.tar"), 5, "cannot write"),
    ],
)
def test_bad_input_is_one_sentence(command, package, monkeypatch, arguments, code, why):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    found, _, err = command(*(str(argument).format(package=package) for argument in arguments))
    assert found == code, err
    assert why in err
    assert "next:" in err


def test_each_mix_is_pushed_under_its_own_tag_and_authority_is_asked_first(monkeypatch):
    asked = []
    monkeypatch.setattr("ollamaq.registry.push.check_authority", lambda session: asked.append(session.repository_url))
    names = ["bot:q4_K_M", "bot:q8_0"]
    places = push_places("registry.test/team/bot", names, tested=True)
    assert [str(place) for place in places] == [f"registry.test/team/{name}" for name in names]
    assert asked == ["https://registry.test/v2/team/bot"]
    assert [str(place) for place in push_places(REF, names[:1], tested=True)] == [REF]
    assert push_places(None, names, tested=False) == []
    with pytest.raises(UsageError, match="is one place for 2 models"):
        push_places(REF, names, tested=True)
    with pytest.raises(UsageError, match="--to file tests nothing"):
        push_places(REF, names[:1], tested=False)
