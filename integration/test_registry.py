"""``ollamaq push``, ``pull``, ``bundle`` and ``install`` against real registries and the real Ollama."""

import base64
import hashlib
import http.server
import json
import subprocess
import threading

import httpx
import parts
import pytest
from token_server import ISSUER, SERVICE, Tokens

USER, PASSWORD = "ann", "s3cret-pa55"


def serve(handler):
    """An HTTP server in a thread; close it with ``shutdown``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def log_in(directory, host, user=USER, password=PASSWORD):
    """What ``docker login`` writes."""
    directory.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@pytest.mark.parametrize("generation", [2, 3])
def test_a_model_goes_to_a_registry_and_back(registries, package, ollamaq, generation, tmp_path):
    registry = registries(generation)
    first = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    assert {blob["how"] for blob in first["blobs"]} == {"sent"}
    assert registry.tags("team/bot") == ["q8"]
    again = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    assert {blob["how"] for blob in again["blobs"]} == {"there"}
    other = ollamaq("push", package, f"{registry.host}/base/bot:q8", "--insecure")
    assert {blob["how"] for blob in other["blobs"]} == {"mounted"}
    assert first["digest"] == again["digest"] == other["digest"]
    pulled = ollamaq("pull", f"{registry.host}/team/bot:q8", "bot", "--to", "store", "--insecure")
    assert f"sha256:{pulled['digest']}" == first["digest"]
    ollamaq("pull", f"{registry.host}/base/bot@{first['digest']}", "x", "--to", "file", "-o", "out", "--insecure")
    assert (tmp_path / "out/model.gguf").read_bytes() == (package / "model.gguf").read_bytes()
    ollamaq("bundle", "bot", "bot.tar")
    ollamaq("bundle", package, "same.tar", "--name", "bot")
    assert (tmp_path / "bot.tar").read_bytes() == (tmp_path / "same.tar").read_bytes()
    carried = ollamaq("push", "bot.tar", f"{registry.host}/carried/bot:q8", "--insecure")
    assert carried["digest"] == first["digest"]


def test_a_password_is_asked_for_and_taken_from_docker_login(registries, package, ollamaq, tmp_path):
    passwords = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True, text=True).stdout
    (tmp_path / "htpasswd").write_text(passwords)
    registry = registries(2, {"auth": {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}})
    push = ("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    refused = ollamaq(*push, code=4)
    assert f"docker login {registry.host}" in refused["error"]["next_step"]
    log_in(tmp_path / "docker", registry.host, password="wrong")
    assert "wrong" not in json.dumps(ollamaq(*push, code=4))
    log_in(tmp_path / "docker", registry.host)
    assert ollamaq(*push)["sent"] > 0
    assert ollamaq("pull", f"{registry.host}/team/bot:q8", "--to", "store", "--insecure")["fetched"] > 0
    assert PASSWORD not in registry.log.read_text()


def token_settings(directory, tokens_port):
    bundle = str(directory / "tokens.pem")
    realm = f"http://127.0.0.1:{tokens_port}/token"
    return {"auth": {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}}


def test_a_token_server_gives_authority_to_push_and_to_mount(registries, package, ollamaq, tmp_path):
    tokens = Tokens(tmp_path / "tokens.pem", USER, PASSWORD)
    server = serve(tokens.handler)
    registry = registries(2, token_settings(tmp_path, server.server_port))
    push = ("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    assert "refuses a push to team/bot" in ollamaq(*push, code=4)["error"]["message"]  # anybody may pull
    log_in(tmp_path / "docker", registry.host)
    assert ollamaq(*push)["sent"] > 0
    mounted = ollamaq("push", package, f"{registry.host}/base/bot:q8", "--insecure")
    assert {blob["how"] for blob in mounted["blobs"]} == {"mounted"}
    log_in(tmp_path / "docker", registry.host, password="wrong")
    assert "gives no token" in ollamaq(*push, code=4)["error"]["message"]
    server.shutdown()


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=cwd)


def test_tls_with_a_ca_of_ones_own(registries, package, ollamaq, tmp_path):
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem", cwd=tmp_path)
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl(*new, *name, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "own.key", "-out", "own.pem", cwd=tmp_path)
    tls = {"certificate": str(tmp_path / "own.pem"), "key": str(tmp_path / "own.key")}
    registry = registries(2, {"http": {"tls": tls}})
    push = ("push", package, f"{registry.host}/team/bot:q8")
    assert "cannot be trusted" in ollamaq(*push, code=4)["error"]["message"]
    assert ollamaq(*push, "--ca-file", "ca.pem")["sent"] > 0
    pull = ("pull", f"{registry.host}/team/bot:q8", "--to", "store")
    assert ollamaq(*pull, env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})["fetched"] > 0
    assert "error" in ollamaq(*push, "--insecure", code=4)


class Redirecting(http.server.BaseHTTPRequestHandler):
    """In front of a registry: manifests are passed on, blobs are redirected to another host, as those over S3 do."""

    behind = ""

    def do_GET(self):
        if "/blobs/" in self.path:
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.behind.rpartition(':')[2]}{self.path}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        accept = {"Accept": self.headers.get("Accept", "*/*")}
        answer = httpx.request(self.command, f"http://{self.behind}{self.path}", headers=accept, trust_env=False)
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Docker-Content-Digest", "Content-Length"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)
        return None

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.fixture
def smollm2_package(tmp_path):
    directory = tmp_path / "smollm2"
    directory.mkdir()
    # with a name of its own, since the server keeps what other tests gave it
    weights = parts.smollm2_gguf().read_bytes().replace(b"Smollm2 135M 8k", b"Smollm2 carried", 1)
    (directory / "model.gguf").write_bytes(weights)
    (directory / "Modelfile").write_text(
        'FROM ./model.gguf\nPARAMETER temperature 0\nPARAMETER stop "<|im_end|>"\nSYSTEM You are a helpful assistant.\n'
    )
    return directory


def ask(url, name):
    body = {"model": name, "messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": False}
    return httpx.post(f"{url}/api/chat", json=body, timeout=300, trust_env=False).json()["message"]["content"]


def test_what_ollama_cannot_pull_is_pulled_into_its_server(registries, smollm2_package, ollamaq, ollama_server):
    """Distribution answers a GET of a blob without Location, which Ollama's client insists on."""
    registry = registries(2)
    name = f"{registry.host}/team/smollm2:q4"
    pushed = ollamaq("push", smollm2_package, name, "--insecure")
    refused = httpx.post(
        f"{ollama_server}/api/pull",
        json={"model": name, "insecure": True, "stream": False},
        timeout=60,
        trust_env=False,
    )
    assert "no Location header" in refused.text
    pulled = ollamaq("pull", name, "smollm2-pulled", "--to", ollama_server, "--insecure")
    assert pulled["fetched"] == pushed["size"]
    assert "Paris" in ask(ollama_server, "smollm2-pulled")
    again = ollamaq("pull", name, "smollm2-again", "--to", ollama_server, "--insecure")
    assert again["fetched"] < 1 << 20  # the server has the weights


def test_ollama_pulls_what_was_pushed_and_the_other_way_round(
    registries, smollm2_package, ollamaq, ollama_server, tmp_path
):
    registry = registries(2)
    pushed = ollamaq("push", smollm2_package, f"{registry.host}/team/smollm2:q4", "--insecure")
    front = serve(type("Front", (Redirecting,), {"behind": registry.host}))
    name = f"127.0.0.1:{front.server_port}/team/smollm2:q4"
    body = {"model": name, "insecure": True, "stream": False}
    told = httpx.post(f"{ollama_server}/api/pull", json=body, timeout=120, trust_env=False)
    front.shutdown()
    assert told.json() == {"status": "success"}, told.text
    (tag,) = [tag for tag in httpx.get(f"{ollama_server}/api/tags").json()["models"] if tag["name"] == name]
    assert f"sha256:{tag['digest']}" == pushed["digest"]
    back = f"{registry.host}/back/smollm2:q4"
    httpx.post(f"{ollama_server}/api/copy", json={"source": name, "destination": back}).raise_for_status()
    told = httpx.post(f"{ollama_server}/api/push", json=body | {"model": back}, timeout=120, trust_env=False)
    assert told.json() == {"status": "success"}, told.text
    pulled = ollamaq("pull", back, "back", "--to", "store", "--insecure")
    assert f"sha256:{pulled['digest']}" == pushed["digest"]


def test_a_model_of_the_server_is_pushed_from_its_store(registries, smollm2_package, ollamaq, ollama_server):
    registry = registries(3)
    ollamaq("bundle", smollm2_package, "bot.tar", "--name", "carried:q4")
    ollamaq("install", "bot.tar", "--to", ollama_server)
    assert "Paris" in ask(ollama_server, "carried:q4")
    there = {"OLLAMA_HOST": ollama_server}
    pushed = ollamaq("push", "carried:q4", f"{registry.host}/team/carried:q4", "--insecure", env=there)
    assert registry.tags("team/carried") == ["q4"]
    with (smollm2_package / "model.gguf").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert f"sha256:{digest}" in {blob["digest"] for blob in pushed["blobs"]}


def test_what_publish_pushes_is_verified_in_the_registry(registries, smollm2, ollamaq, ollama_server, tmp_path):
    registry = registries(2)
    publish = ("publish", smollm2(768), "bot", "--to", ollama_server, "--insecure", "--push")
    (release,) = ollamaq(*publish, f"{registry.host}/team/bot", "--q", "Q8_0")["releases"]
    assert release["pushed"] == f"{registry.host}/team/bot:q8_0"
    verify = ("verify", release["package"], release["pushed"], "--registry", "--insecure")
    assert ollamaq(*verify)["differences"] == []
    ollamaq(*publish, f"{registry.host}/team/bot:q8_0", "--q", "Q4_0")
    (model, config) = ollamaq(*verify, code=1)["differences"]
    assert model.startswith(f"{release['pushed']}: its model is sha256:")
    assert config.startswith(f"{release['pushed']}: its config is sha256:")  # it tells the mix
