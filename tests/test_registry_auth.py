"""Who we are to a registry, and that nobody else learns it."""

import base64
import json
import stat
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_public_key

from ollamaq.errors import ServerError, ToolchainError, UsageError
from ollamaq.registry import auth, ollama_key, session
from ollamaq.registry.credentials import Credentials, find_credentials
from ollamaq.registry.reference import parse_reference
from ollamaq.registry.session import PUSH, Session

HOST = "registry.test:5000"
BASIC = "Basic " + base64.b64encode(b"ann:s3cret").decode()


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Write docker's config.json."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(session, "RETRY_SECONDS", ())

    def write(config):
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))

    return write


@pytest.fixture
def logged_in(docker):
    docker({"auths": {HOST: {"auth": base64.b64encode(b"ann:s3cret").decode()}}})


def helper(tmp_path, monkeypatch, name, script):
    program = tmp_path / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


def opened(handler, **options):
    reference = parse_reference(f"{HOST}/team/bot:q5")
    return Session(reference, PUSH, transport=httpx.MockTransport(lambda r: streamed(handler(r))), **options)


def streamed(response):
    if not response.is_stream_consumed:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def test_docker_login_is_enough(logged_in):
    assert find_credentials(HOST) == Credentials("ann", "s3cret")
    assert find_credentials("other.test") is None
    assert "s3cret" not in repr(find_credentials(HOST))


@pytest.mark.parametrize("key", [f"https://{HOST}/v1/", f"https://{HOST}", f"{HOST}/v2/"])
def test_a_host_may_be_written_as_a_url(docker, key):
    docker({"auths": {key: {"auth": base64.b64encode(b"ann:s3cret").decode()}}})
    assert find_credentials(HOST) == Credentials("ann", "s3cret")


@pytest.mark.parametrize("config", [{"credsStore": "vault"}, {"credHelpers": {HOST: "vault"}}])
def test_credential_helpers_are_asked(docker, tmp_path, monkeypatch, config):
    docker(config)
    helper(
        tmp_path, monkeypatch, "vault", 'read host; echo "{\\"Username\\": \\"bob\\", \\"Secret\\": \\"for $host\\"}"'
    )
    assert find_credentials(HOST) == Credentials("bob", f"for {HOST}")


def test_an_identity_token_is_no_password(docker, tmp_path, monkeypatch):
    docker({"credsStore": "vault"})
    helper(tmp_path, monkeypatch, "vault", 'echo \'{"Username": "<token>", "Secret": "refresh"}\'')
    assert find_credentials(HOST).identity_token == "refresh"
    docker({"auths": {HOST: {"identitytoken": "again"}}})
    assert find_credentials(HOST).identity_token == "again"


def test_a_helper_that_knows_nothing_leaves_the_rest(docker, tmp_path, monkeypatch):
    docker({"credsStore": "vault", "auths": {HOST: {"auth": base64.b64encode(b"ann:s3cret").decode()}}})
    helper(tmp_path, monkeypatch, "vault", "echo credentials not found; exit 1")
    assert find_credentials(HOST) == Credentials("ann", "s3cret")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("{", "it is not JSON"),
        ({"credsStore": "no-such-helper"}, "does not run"),
        ({"credsStore": "../../bin/sh"}, r"names a credential helper '\.\./"),
        ({"auths": {HOST: {"auth": "%%%"}}}, "damaged entry for"),
    ],
)
def test_a_damaged_configuration_is_one_sentence(docker, config, why):
    docker(config)
    with pytest.raises(ToolchainError, match=why):
        find_credentials(HOST)


def test_nobody_is_told_who_we_are_unless_asked(logged_in):
    seen = []
    with opened(lambda r: seen.append(r.headers.get("Authorization")) or httpx.Response(200)) as one:
        one.call("GET", one.repository_url, doing="x")
    assert seen == [None]


def test_basic_authentication_is_answered_once_and_kept(logged_in):
    seen = []

    def registry(request):
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200 if seen[-1] == BASIC else 401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    with opened(registry) as one:
        one.call("GET", one.repository_url, doing="x")
        one.call("GET", one.repository_url, doing="x")
    assert seen == [None, BASIC, BASIC]


def test_wrong_credentials_are_one_sentence_without_them(logged_in):
    wrong = {"WWW-Authenticate": 'Basic realm="r"'}
    with (
        opened(lambda request: httpx.Response(401, headers=wrong)) as one,
        pytest.raises(ServerError, match=r"refuses x \(401\)") as caught,
    ):
        one.call("GET", one.repository_url, doing="x")
    assert f"docker login {HOST}" in caught.value.next_step
    assert "s3cret" not in str(caught.value)


class TokenRegistry:
    """A registry that wants a token of its token server; a token is good for ``uses`` requests."""

    def __init__(self, uses=1000, realm="https://auth.test/token", token=None):
        self.uses, self.realm, self.token = uses, realm, token
        self.given, self.left, self.asked, self.seen = 0, 0, [], []

    def __call__(self, request):
        if request.url.host == urlsplit(self.realm).hostname and request.url.path == "/token":
            self.asked.append(request)
            self.given, self.left = self.given + 1, self.uses
            return httpx.Response(200, json=self.token or {"token": f"t{self.given}", "expires_in": 300})
        self.seen.append(request.headers.get("Authorization"))
        self.left -= 1
        if self.seen[-1] == f"Bearer t{self.given}" and self.left >= 0:
            return httpx.Response(200)
        wanted = f'Bearer realm="{self.realm}",service="reg",scope="repository:team/bot:pull"'
        return httpx.Response(401, headers={"WWW-Authenticate": wanted})


def test_a_token_is_fetched_with_our_credentials_for_all_that_we_will_do(logged_in):
    registry = TokenRegistry()
    with opened(registry, others=("base/bot",)) as one:
        one.call("GET", one.repository_url, doing="x")
        one.call("GET", one.repository_url, doing="x")
    (asked,) = registry.asked
    assert registry.seen == [None, "Bearer t1", "Bearer t1"]
    assert asked.headers["Authorization"] == BASIC
    query = parse_qs(asked.url.query.decode())
    assert query["scope"] == [
        "repository:team/bot:pull,push",
        "repository:base/bot:pull",
        "repository:team/bot:pull",
    ]
    assert (query["service"], query["account"]) == (["reg"], ["ann"])


def test_a_token_that_has_expired_is_renewed_in_the_middle(logged_in):
    registry = TokenRegistry(uses=2)
    bodies = []

    def body():
        bodies.append(1)
        return iter([b"abc"])

    with opened(registry) as one:
        for _ in range(5):
            one.call("PATCH", one.repository_url, body=body, doing="x", headers={"Content-Length": "3"})
    assert registry.given == 3
    assert len(bodies) == 8  # each refused request is made again, with its whole body


def test_a_token_is_renewed_before_it_ends(logged_in, monkeypatch):
    registry, now = TokenRegistry(), [1000.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    with opened(registry) as one:
        one.call("GET", one.repository_url, doing="x")
        now[0] += 295
        one.call("GET", one.repository_url, doing="x")
    assert registry.seen == [None, "Bearer t1", "Bearer t2"]


def test_an_identity_token_is_exchanged(docker):
    docker({"auths": {HOST: {"identitytoken": "refresh"}}})
    registry = TokenRegistry(token={"access_token": "t1"})
    with opened(registry) as one:
        one.call("GET", one.repository_url, doing="x")
    form = parse_qs(registry.asked[0].read().decode())
    assert registry.asked[0].method == "POST"
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh"]


@pytest.mark.parametrize(
    ("registry", "why"),
    [
        (TokenRegistry(realm="http://auth.test/token"), "asks for a token over an open line"),
        (TokenRegistry(realm="ftp://auth.test/token"), "does not say where"),
        (TokenRegistry(token={"token": "a\r\nX-Evil: 1"}), "gives no token"),
        (TokenRegistry(token={"token": 7}), "gives no token"),
    ],
)
def test_a_hostile_token_server_is_refused(logged_in, registry, why):
    with opened(registry) as one, pytest.raises(ServerError, match=why):
        one.call("GET", one.repository_url, doing="x")
    assert not any(request.url.scheme == "http" for request in registry.asked)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_go_to_no_other_host(logged_in, status):
    seen = {}

    def registry(request):
        seen.setdefault(request.url.host, []).append(request.headers.get("Authorization"))
        if request.url.host == "cdn.test":
            return httpx.Response(200, content=b"data")
        if request.headers.get("Authorization") != BASIC:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic"})
        return httpx.Response(status, headers={"Location": "https://cdn.test/blob?signed=1"})

    with opened(registry) as one:
        assert one.call("GET", one.repository_url, doing="x").data == b"data"
    assert seen == {"registry.test": [None, BASIC], "cdn.test": [None]}


def test_another_host_that_asks_who_we_are_is_not_told(logged_in):
    def registry(request):
        if request.url.host == "evil.test":
            assert "Authorization" not in request.headers
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="registry.test"'})
        return httpx.Response(307, headers={"Location": "https://evil.test/"})

    with opened(registry) as one, pytest.raises(ServerError, match="401"):
        one.call("GET", one.repository_url, doing="x")


@pytest.mark.parametrize("place", ["http://registry.test/x", "ftp://h/x", "file:///etc/passwd"])
def test_a_redirect_to_an_open_line_is_refused(logged_in, place):
    with (
        opened(lambda request: httpx.Response(302, headers={"Location": place})) as one,
        pytest.raises(ServerError, match="redirects to an open line"),
    ):
        one.call("GET", one.repository_url, doing="x")


def test_redirects_without_end_are_left(docker):
    with (
        opened(lambda request: httpx.Response(302, headers={"Location": "/x"})) as one,
        pytest.raises(ServerError, match="redirects without end"),
    ):
        one.call("GET", one.repository_url, doing="x")


def test_secrets_in_urls_are_not_told(docker):
    def gone(request):
        raise httpx.ReadError("gone")

    with opened(gone) as one, pytest.raises(ServerError, match="broke the connection") as caught:
        one.call("GET", f"{one.repository_url}/blobs/uploads/1?_state=s3cret", doing="x")
    assert "s3cret" not in str(caught.value)


def test_a_ca_file_that_is_none_is_one_sentence(docker, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"cannot use the certificates of .*ca\.pem"):
        opened(lambda request: httpx.Response(200), ca_file=tmp_path / "ca.pem")


def test_ollamas_registry_is_asked_with_ollamas_key(docker, tmp_path, monkeypatch):
    key = Ed25519PrivateKey.generate()
    (tmp_path / ".ollama").mkdir()
    (tmp_path / ".ollama/id_ed25519").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ollama_key, "HOSTS", {HOST, "registry.test"})
    registry = TokenRegistry(realm=f"https://{HOST}/token")
    with opened(registry) as one:
        one.call("GET", one.repository_url, doing="x")
    (asked,) = registry.asked
    public, _, signature = asked.headers["Authorization"].partition(":")
    signed = f"GET,{asked.url},ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
    load_ssh_public_key(f"ssh-ed25519 {public}".encode()).verify(base64.b64decode(signature), signed.encode())


def test_without_ollamas_key_its_registry_is_not_asked(docker, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ollama_key, "HOSTS", {HOST, "registry.test"})
    with (
        opened(TokenRegistry(realm=f"https://{HOST}/token")) as one,
        pytest.raises(ToolchainError, match="cannot read Ollama's key"),
    ):
        one.call("GET", one.repository_url, doing="x")


def test_ollamas_key_signs_for_no_other_host(docker, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ollama_key, "HOSTS", {HOST})
    registry = TokenRegistry(realm="https://evil.test/token")
    with opened(registry) as one:
        one.call("GET", one.repository_url, doing="x")
    assert "Authorization" not in registry.asked[0].headers
