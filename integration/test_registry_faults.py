"""Pushes and pulls while registries, lines and disks fail, and what is left then: nothing half-made, and a next run."""

import functools
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from faults import record
from registry import Line
from test_registry import PASSWORD, USER, log_in, serve, token_settings
from token_server import Tokens

from ollamaq.registry import push as push_module
from ollamaq.registry import session, uploads

MB = 1 << 20
CUT_AT = 10 * MB


def size(package):
    return (package / "model.gguf").stat().st_size


@pytest.fixture
def started(tmp_path, own_environment):
    """Start ``ollamaq …`` and go on."""
    running = []

    def start(*arguments):
        command = [sys.executable, "-m", "ollamaq", *map(str, arguments), "--json"]
        running.append(
            subprocess.Popen(command, cwd=tmp_path, env=own_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def at(line, count, act):
    """Call ``act`` once, in the line's thread, when so many bytes have been sent over it."""
    done = []

    def check(sent):
        if sent >= count and not done:
            done.append(sent)
            act()
        return False

    line.act = check


def intact(registry, ollamaq, package, tmp_path, repository="team/bot"):
    """What the registry has under the tag is the whole model."""
    assert registry.tags(repository) == ["q8"]
    output = tmp_path / "intact"
    ollamaq("pull", f"{registry.host}/{repository}:q8", "x", "--to", "file", "-o", output, "--insecure")
    assert (output / "model.gguf").read_bytes() == (package / "model.gguf").read_bytes()


@pytest.mark.parametrize("generation", [2, 3])
def test_a_registry_is_killed_in_mid_chunk_and_started_again(registries, package, ollamaq, generation, tmp_path):
    registry = registries(generation)
    line = Line(registry.host)

    def restart():
        registry.kill()
        assert registry.tags_on_disk() == []
        registry.start()

    at(line, CUT_AT, restart)
    pushed = ollamaq("push", package, f"{line.host}/team/bot:q8", "--insecure", "--chunk-size", "64M")
    line.close()
    (model,) = (blob for blob in pushed["blobs"] if blob["kind"] == "model")
    intact(registry, ollamaq, package, tmp_path)
    again = line.sent - size(package)
    made_by = f"kill -9 of distribution {generation} after 10 of 24 MB of one chunk, and a start"
    if generation == 3:
        assert model["how"] == "resumed"
        assert again < CUT_AT * 3 // 4  # what was on the line and not on the disk; anew would be more than CUT_AT
        outcome = f"the same push went on where the registry said it was; {again / MB:.1f} MB were sent twice"
    else:
        assert again > CUT_AT / 2
        outcome = "distribution 2 gives up an upload that broke off in mid-chunk: the same push sent the blob anew"
    record("registry", f"killed in mid-chunk (distribution {generation})", made_by=made_by, outcome=outcome)


def test_a_registry_is_killed_between_two_chunks(registries, package, ollamaq, own_environment, monkeypatch, tmp_path):
    """Distribution 2 goes on as well, where no chunk broke off."""
    registry = registries(2)
    real = uploads.Upload._advance

    def advance(self, answer, offset):
        real(self, answer, offset)
        if offset == 8 * MB:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        for name in ("XDG_CACHE_HOME", "DOCKER_CONFIG"):
            patched.setenv(name, own_environment[name])
        patched.setattr(uploads.Upload, "_advance", advance)
        with pytest.raises(KeyboardInterrupt):
            push_module.push(str(package), f"{registry.host}/team/bot:q8", insecure=True, chunk=4 * MB)
    registry.kill()
    registry.start()
    assert registry.tags("team/bot") == []
    pushed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    (model,) = (blob for blob in pushed["blobs"] if blob["kind"] == "model")
    assert (model["how"], model["sent"]) == ("resumed", size(package) - 8 * MB)
    intact(registry, ollamaq, package, tmp_path)
    record(
        "registry",
        "killed between two chunks (distribution 2)",
        made_by="ollamaq ended after two of six chunks, kill -9 of docker-registry, and a start",
        outcome="the next push sent the other four",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ollamaq_is_ended_in_mid_upload(registries, package, ollamaq, started, tmp_path, number):
    registry = registries(3)
    line = Line(registry.host)
    reached = threading.Event()
    at(line, CUT_AT, lambda: (reached.set(), time.sleep(0.5)))
    first = started("push", package, f"{line.host}/team/bot:q8", "--insecure")
    assert reached.wait(60)
    first.send_signal(number)
    _, err = first.communicate(timeout=30)
    assert first.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert b"Traceback" not in err
    assert registry.tags("team/bot") == []
    time.sleep(1)  # what was on the line arrives
    before, had = line.sent, registry.uploaded()
    pushed = ollamaq("push", package, f"{line.host}/team/bot:q8", "--insecure")
    line.close()
    (model,) = (blob for blob in pushed["blobs"] if blob["kind"] == "model")
    assert model["how"] == "resumed"
    assert had > CUT_AT / 2
    assert model["sent"] == size(package) - had
    assert line.sent - before < size(package) - had + MB
    intact(registry, ollamaq, package, tmp_path)
    record(
        "this machine",
        f"ollamaq ended by {number.name} in mid-upload",
        made_by="the signal after 10 of 24 MB to distribution 3, and a second push",
        outcome="nothing under the tag; the second push sent none of the bytes that the registry had",
    )


@pytest.mark.parametrize("generation", [2, 3])
def test_the_connection_is_reset_at_each_percent(registries, package, generation, tmp_path, monkeypatch):
    """One push, and a reset each time that another percent has passed (distribution 2: a push for each percent)."""
    for module in (session, uploads):
        monkeypatch.setattr(module, "RETRY_SECONDS", (0.02, 0.2, 1.0))
    monkeypatch.setattr(session, "_trust", functools.cache(session._trust))  # which takes longer than a small push
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(uploads, "SMALL", 4096)
    registry = registries(generation)
    line = Line(registry.host)
    small = tmp_path / "small"
    small.mkdir()
    with (package / "model.gguf").open("rb") as file:
        (small / "blob").write_bytes(file.read(MB))
    contents = contents_of_bytes(small / "blob")
    monkeypatch.setattr(push_module, "open_contents", lambda *arguments: contents)
    cuts, total = 0, contents.size
    if generation == 3:
        mark = total // 100

        def cut(sent):
            nonlocal cuts, mark
            if cuts < 100 and sent >= mark:
                cuts, mark = cuts + 1, mark + total // 100
                return True
            return False

        line.act = cut
        push_module.push("small", f"{line.host}/team/bot:q8", insecure=True, chunk=300_000)
        assert cuts == 100
        assert registry.tags("team/bot") == ["q8"]
        outcome = "the push ended well, each time from where the registry was"
    else:
        for percent in range(1, 101):
            repository = f"team/bot{percent}"
            cut = line.cut_after(total * percent // 100)
            # not the same blob under another name, which would be mounted
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{percent}"))
            push_module.push("small", f"{line.host}/{repository}:q8", insecure=True, chunk=300_000)
            assert cut
            assert registry.tags(repository) == ["q8"]
        outcome = "each of the 100 pushes ended well, of four chunks each"
    line.close()
    record(
        "registry",
        f"connection reset at each percent of an upload (distribution {generation})",
        made_by="a TCP proxy that resets the connection",
        outcome=outcome,
    )


def contents_of_bytes(path):
    from ollamaq.ollama.contents import CONFIG, LAYER, Contents, Part, small_part

    data = path.read_bytes()
    blob = small_part(f"{LAYER}model", data)
    return Contents(small_part(CONFIG, b"{}\n"), (Part(blob.media_type, blob.digest, blob.size, path),))


def test_a_registry_that_stops_answering_for_a_while(registries, package, ollamaq, tmp_path):
    registry = registries(2)
    line = Line(registry.host)

    def pause():
        registry.process.send_signal(signal.SIGSTOP)
        threading.Timer(2, lambda: registry.process.send_signal(signal.SIGCONT)).start()

    at(line, CUT_AT, pause)
    ollamaq("push", package, f"{line.host}/team/bot:q8", "--insecure")
    line.close()
    assert line.sent < size(package) + MB
    intact(registry, ollamaq, package, tmp_path)
    record(
        "registry",
        "paused in mid-upload",
        made_by="SIGSTOP of docker-registry for two seconds",
        outcome="the push waited and ended; nothing was sent twice",
    )


@pytest.fixture
def small_disk(tmp_path):
    """Mount a tmpfs of so many MB."""
    mounted = []

    def mount(name, megabytes):
        place = tmp_path / name
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=False)


def test_the_registrys_disk_is_full(registries, package, ollamaq, small_disk, tmp_path):
    disk = small_disk("disk", 12)
    registry = registries(2, directory=disk)
    ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure", code=4)
    assert registry.tags("team/bot") == []
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
    ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    intact(registry, ollamaq, package, tmp_path)
    registry.kill()
    record(
        "registry",
        "disk full",
        made_by="docker-registry over a tmpfs of 12 MB, and a push of 24 MB",
        outcome="exit 4, nothing under the tag; with a bigger disk the next push succeeded",
    )


def test_the_disk_of_this_machine_fills_up_while_pulling(registries, package, ollamaq, small_disk, tmp_path):
    registry = registries(2)
    ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    disk = small_disk("disk", 40)
    line = Line(registry.host)
    pull = ("pull", f"{line.host}/team/bot:q8", "bot", "--to", "store", "--insecure")
    store = {"OLLAMA_MODELS": str(disk / "models")}
    (disk / "filler").write_bytes(b"x" * (30 * MB))
    early = ollamaq(*pull, code=5, env=store)
    assert "no room" in early["error"]["message"]
    (disk / "filler").unlink()
    line.received_at(CUT_AT, lambda: (disk / "filler").write_bytes(b"x" * (25 * MB)))
    late = ollamaq(*pull, code=5, env=store)
    assert "No space left on device" in late["error"]["message"]
    assert not list(disk.glob("models/manifests/*"))
    (disk / "filler").unlink()
    line.received_at(1 << 60, lambda: None)
    before = line.received
    ollamaq(*pull, env=store)
    assert line.received - before < size(package) - CUT_AT / 2
    line.close()
    record(
        "this machine",
        "disk full while pulling",
        made_by="a tmpfs of 40 MB that something else fills after 10 of 24 MB",
        outcome="exit 5, no model in the store; with room again the next pull fetched the rest only",
    )


def test_a_registry_sends_something_else_than_the_digest(registries, package, ollamaq, tmp_path):
    registry = registries(2)
    pushed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    (digest,) = (blob["digest"] for blob in pushed["blobs"] if blob["kind"] == "model")
    (data,) = registry.directory.glob(f"storage/docker/registry/v2/blobs/sha256/*/{digest.partition(':')[2]}/data")
    whole = data.read_bytes()
    data.write_bytes(whole[: 5 * MB] + b"?" + whole[5 * MB + 1 :])
    pull = ("pull", f"{registry.host}/team/bot:q8", "bot", "--to", "store", "--insecure")
    failed = ollamaq(*pull, code=4)
    assert "sends another model" in failed["error"]["message"]
    assert not list((tmp_path / "models").glob("manifests/*"))
    assert not list((tmp_path / "models").glob("blobs/*"))
    data.write_bytes(whole)
    ollamaq(*pull)
    record(
        "registry",
        "sends something else than the digest",
        made_by="a byte changed in docker-registry's storage",
        outcome="exit 4, nothing in the store; mended, the next pull succeeded",
    )


def test_a_token_expires_during_an_upload(registries, package, ollamaq, tmp_path):
    tokens = Tokens(tmp_path / "tokens.pem", USER, PASSWORD)
    server = serve(tokens.handler)
    registry = registries(2, token_settings(tmp_path, server.server_port))
    log_in(tmp_path / "docker", registry.host)
    log_in(tmp_path / "docker", (line := Line(registry.host)).host)
    tokens.good_for = 3.0
    slow = {"next": 2 * MB}

    def wait(sent):
        if sent > slow["next"]:
            slow["next"] += 2 * MB
            time.sleep(0.7)
        return False

    line.act = wait
    ollamaq("push", package, f"{line.host}/team/bot:q8", "--insecure", "--chunk-size", "2M")
    line.close()
    server.shutdown()
    assert tokens.given >= 4
    assert line.sent < size(package) + (tokens.given + 1) * 2 * MB  # a chunk that is refused comes again
    assert PASSWORD not in registry.log.read_text()
    record(
        "registry",
        "token expired during an upload",
        made_by="tokens good for 3 s over a line that takes 8 s, with docker-registry's token authentication",
        outcome="a new token was fetched each time, and the upload went on",
    )


def test_two_publishers_push_to_one_tag(registries, package, ollamaq, started, tmp_path):
    registry = registries(2)
    other = tmp_path / "other"
    other.mkdir()
    os.link(package / "model.gguf", other / "model.gguf")
    (other / "Modelfile").write_text("FROM ./model.gguf\nSYSTEM Another one.\n")
    for _ in range(3):
        place = f"{registry.host}/team/bot:q8"
        both = [started("push", source, place, "--insecure") for source in (package, other)]
        said = [json.loads(process.communicate(timeout=120)[0]) for process in both]
        codes = [process.returncode for process in both]
        assert 0 in codes
        assert set(codes) <= {0, 4}
        for code, told in zip(codes, said, strict=True):
            assert code == 0 or "instead of" in told["error"]["message"]
        ollamaq("pull", place, "x", "--to", "file", "-o", tmp_path / "out", "--insecure")
        text = (tmp_path / "out/Modelfile").read_text()
        assert ("SYSTEM Be brief." in text) != ("SYSTEM Another one." in text)
    sent = [sum(blob["sent"] for blob in told.get("blobs", ())) for told in said]
    assert max(sent) < MB  # they waited for each other's weights in the first round, and had them in the last
    record(
        "publishing",
        "two publishers push to one tag at once",
        made_by="two processes, three times, into docker-registry",
        outcome="the tag is wholly one of both; who loses it before reading back is told so (exit 4)",
    )


class Hostile(http.server.BaseHTTPRequestHandler):
    """A registry that asks for credentials, and then does as ``lies`` says for a path's end."""

    elsewhere, mode = "", ""

    def answer(self):
        if not self.headers.get("Authorization"):
            return self.say(401, {"WWW-Authenticate": 'Basic realm="tests"'})
        self.server.seen.append(self.headers["Authorization"])
        if self.mode == "redirect":
            return self.say(307, {"Location": f"http://{self.elsewhere}{self.path}"})
        self.send_response(200)
        if self.mode == "gigabyte":
            self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        try:
            for _ in range(1024 if self.mode == "gigabyte" else 1 << 30):
                self.wfile.write(b" " * MB)
        except OSError:
            pass
        self.close_connection = True
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = lambda self: self.answer()  # noqa: N815

    def say(self, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def hostile(tmp_path, **kinds):
    server = serve(type("Lying", (Hostile,), kinds))
    server.seen = []
    host = f"127.0.0.1:{server.server_port}"
    log_in(tmp_path / "docker", host)
    return server, host


def test_a_registry_redirects_to_another_host(package, ollamaq, tmp_path):
    heard = []

    class Listening(Hostile):
        def answer(self):
            heard.append(dict(self.headers))
            return self.say(401, {"WWW-Authenticate": 'Basic realm="tests"'})

    other = serve(Listening)
    server, host = hostile(tmp_path, mode="redirect", elsewhere=f"127.0.0.1:{other.server_port}")
    said = [
        ollamaq("push", package, f"{host}/team/bot:q8", "--insecure", code=4),
        ollamaq("pull", f"{host}/team/bot:q8", "--to", "store", "--insecure", code=4),
    ]
    server.shutdown()
    other.shutdown()
    assert server.seen
    assert heard
    assert not any("authorization" in {name.lower() for name in headers} for headers in heard)
    assert PASSWORD not in json.dumps(said)
    record(
        "registry",
        "redirects to another host, which asks for credentials",
        made_by="two hostile HTTP servers",
        outcome="the other host is asked without credentials; exit 4, and no credential is printed",
    )


@pytest.mark.parametrize("mode", ["endless", "gigabyte"])
def test_a_registry_never_stops_talking(package, ollamaq, tmp_path, mode):
    server, host = hostile(tmp_path, mode=mode)
    pulled = ollamaq("pull", f"{host}/team/bot:q8", "--to", "store", "--insecure", code=4)
    pushed = ollamaq("push", package, f"{host}/team/bot:q8", "--insecure", code=4)
    server.shutdown()
    assert "answers with more than" in pulled["error"]["message"]
    assert "answers with more than" in pushed["error"]["message"]
    record(
        "registry",
        "manifest without end" if mode == "endless" else "manifest of a gigabyte",
        made_by="a hostile HTTP server",
        outcome="left after 4 MiB: exit 4",
    )


def test_paths_in_names_and_bundles_lead_nowhere(ollamaq, package, tmp_path):
    for name in ("h.test/../../etc:x", "h.test/a/../../b:x", "h.test/a:../../x", "h.test/a@sha256:../../x"):
        ollamaq("pull", name, "x", "--to", "store", code=2)
    ollamaq("bundle", package, "bot.tar", "--name", "bot")
    for evil in ("../evil", "/tmp/evil-of-ollamaq", "blobs/sha256/../../../evil"):
        with tarfile.open(tmp_path / "bot.tar") as tar:
            files = [(member, tar.extractfile(member).read()) for member in tar]
        with tarfile.open(tmp_path / "evil.tar", "w") as tar:
            for member, data in files:
                tar.addfile(member, io.BytesIO(data))
            member = tarfile.TarInfo(evil)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        assert "has an entry" in ollamaq("install", "evil.tar", "--to", "store", code=3)["error"]["message"]
    assert not list(tmp_path.parent.glob("evil*"))
    assert not Path("/tmp/evil-of-ollamaq").exists()
    assert not (tmp_path / "models").exists()
    ollamaq("install", "bot.tar", "--to", "store")
    record(
        "registry",
        "paths in names, digests and bundles",
        made_by="names with `..`, and tars with `../evil` and `/tmp/evil`",
        outcome="refused (exit 2 and 3) before anything is asked or written",
    )
