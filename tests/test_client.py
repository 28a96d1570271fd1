"""The client, against servers that behave, refuse, lie, or go away."""

import hashlib
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from ollamaq.errors import ModelRefused, ServerError, UsageError
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama import client as module
from ollamaq.ollama import connection
from ollamaq.ollama.client import Client, ModelNotFound, ServerGone, ServerSilent
from ollamaq.ollama.host import parse_host
from ollamaq.registry.reference import parse_reference
from ollamaq.registry.session import Session
from ollamaq.servers import open_target
from ollamaq.servers.remote import RemoteServer
from ollamaq.servers.target import Loaded, ToolCall, Unsupported

URL = "http://ollama.test:11434"
DIGEST = "sha256:" + "ab" * 32
HELLO = [{"role": "user", "content": "Hello"}]


def serving(answer, *, status=200):
    """A client of a server that answers everything with ``answer``: bytes, JSON, or a function of the request."""

    def handle(request):
        said = answer(request) if callable(answer) else answer
        if isinstance(said, httpx.Response):
            return said
        return httpx.Response(status, content=said if isinstance(said, bytes) else json.dumps(said).encode())

    return Client(URL, transport=httpx.MockTransport(handle))


def lines(*events):
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


class Recorder:
    """Answers as Ollama does, and remembers what was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __call__(self, request):
        body = request.read()
        self.asked.append((request.method, request.url.path, json.loads(body) if body else None))
        return self.answers[request.url.path.rpartition("/")[2]]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(connection, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(connection, "MAX_PAUSE", 0.0)


def test_simple_calls_ask_what_ollamas_api_says():
    server = Recorder(
        version={"version": "0.34.2"}, tags={"models": None}, ps={"models": []}, copy=b"", delete=b"", generate={}
    )
    with serving(server) as client:
        assert client.version() == "0.34.2"
        assert client.tags() == client.ps() == []
        client.copy("a", "b")
        client.delete("a")
        client.unload("a")
    assert server.asked == [
        ("GET", "/api/version", None),
        ("GET", "/api/tags", None),
        ("GET", "/api/ps", None),
        ("POST", "/api/copy", {"source": "a", "destination": "b"}),
        ("DELETE", "/api/delete", {"model": "a"}),
        ("POST", "/api/generate", {"model": "a", "keep_alive": 0, "stream": False}),
    ]


def test_a_path_in_the_address_is_kept():
    asked = []
    transport = httpx.MockTransport(
        lambda request: asked.append(str(request.url)) or httpx.Response(200, json={"version": "1"})
    )
    Client("http://gate.test:80/ollama/", transport=transport).version()
    assert asked == ["http://gate.test/ollama/api/version"]


def test_a_server_may_think_long_but_not_about_its_version():
    patience = {}

    def handle(request):
        patience[request.url.path] = request.extensions["timeout"]["read"]
        return httpx.Response(200, json={"version": "1"})

    client = Client(URL, transport=httpx.MockTransport(handle))
    client.version()
    client.show("m")
    assert patience == {"/api/version": 10.0, "/api/show": 600.0}


def test_a_chat_is_put_together_of_its_pieces():
    server = Recorder(
        chat=lines(
            {"message": {"role": "assistant", "content": "", "thinking": "hm"}},
            {"message": {"role": "assistant", "content": "Par\u0085\u2028"}},
            {"message": {"role": "assistant", "content": "is", "tool_calls": [{"function": {"name": "f"}}]}},
            {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 3},
        )
    )
    told = []
    answer = serving(server).chat("m", HELLO, options={"seed": 1, "temperature": 0}, on_text=told.append, think=True)
    assert answer["message"] == {
        "role": "assistant",
        "content": "Par\u0085\u2028is",
        "thinking": "hm",
        "tool_calls": [{"function": {"name": "f"}}],
    }
    assert "".join(told) == "Par\u0085\u2028is"
    assert (answer["done_reason"], answer["eval_count"]) == ("stop", 3)
    options = {"seed": 1, "temperature": 0}
    request = {"model": "m", "messages": HELLO, "options": options, "think": True, "stream": True}
    assert server.asked == [("POST", "/api/chat", request)]


def test_a_completion_is_put_together_of_its_pieces():
    server = Recorder(generate=lines({"response": "a"}, {"response": "b"}, {"response": "", "done": True}))
    assert serving(server).generate("m", "x", raw=True)["response"] == "ab"
    assert server.asked[0][2]["raw"] is True


def test_a_prompt_is_rendered_without_generating():
    server = Recorder(chat={"_debug_info": {"rendered_template": "<|user|>Hello"}})
    assert serving(server).render("m", HELLO) == "<|user|>Hello"
    assert server.asked[0][2]["_debug_render_only"] is True


def test_a_server_that_cannot_render_only_is_said():
    with pytest.raises(ServerError, match="does not show the prompts"):
        serving({"message": {"content": "Hi"}, "done": True}).render("m", HELLO)


def test_creating_reports_progress_until_success():
    told = []
    events = lines(
        {"status": "parsing GGUF"}, {"status": "quantizing", "completed": 1, "total": 2}, {"status": "success"}
    )
    serving(events).create({"model": "m"}, lambda *progress: told.append(progress))
    assert told == [("parsing GGUF", 0, 0), ("quantizing", 1, 2)]


@pytest.mark.parametrize(
    ("answer", "status", "kind", "said"),
    [
        ({"error": "model 'm' not found"}, 404, ModelNotFound, "no model m: model 'm' not found"),
        (b"404 page not found", 404, ServerError, r"refuses m \(404\): 404 page not found"),
        ({"error": "template error: bad"}, 400, ServerError, r"refuses m \(400\): template error: bad"),
        ({"error": {"message": "no", "code": 1}}, 500, ServerError, r"\(500\): no"),
        ({"error": "unauthorized", "signin_url": "x"}, 401, ServerError, "asks to sign in: unauthorized"),
        (b"", 502, ServerError, r"\(502\): Bad Gateway"),
        (b"", 301, ServerError, r"\(301\): Moved"),
        (lines({"status": "parsing GGUF"}, {"error": "disk full"}), 200, ServerError, "refuses m: disk full"),
        (lines({"status": "parsing GGUF"}), 200, ServerError, "in the middle"),
        (b"", 200, ServerError, "in the middle"),
        (lines({"status": "a"}) + b"oops\n", 200, ServerError, "does not speak Ollama's API: it says 'oops'"),
        (b'{"status": "a"}\n["b"]\n', 200, ServerError, "it says '\\[\"b\"\\]'"),
        (b"<html>" + b"x" * 1000 + b"</html>", 200, ServerError, "it says '<html>x{194}'"),
        (b'{"status": "' + b"x" * (9 << 20), 200, ServerError, "a line of more than 8 MiB"),
        (b"[" * 100_000, 200, ServerError, "does not speak Ollama's API"),
        (b'{"a": "\xff"}\n', 200, ServerError, "does not speak Ollama's API"),
    ],
)
@pytest.mark.parametrize(
    "call", [lambda c: c.create({"model": "m"}), lambda c: c.chat("m", HELLO), lambda c: c.generate("m", "x")]
)
def test_every_way_to_fail_in_a_stream_is_one_sentence(call, answer, status, kind, said):
    with pytest.raises(ServerError, match=said) as failed:
        call(serving(answer, status=status))
    assert type(failed.value) is kind
    assert URL in str(failed.value)
    assert failed.value.next_step


def test_an_event_without_a_newline_at_the_end_counts():
    serving(b'\r\n{"status": "success"}').create({"model": "m"})


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"version": 3}', b"", b"x" * (65 << 20)])
def test_what_is_not_ollama_is_recognised(answer):
    with pytest.raises(ServerError, match="does not speak Ollama's API"):
        serving(answer).version()


@pytest.mark.parametrize("models", [[1], [{"name": "x"}], {"a": 1}, 3])
def test_a_list_that_is_none_is_recognised(models):
    with pytest.raises(ServerError, match="does not list models"):
        serving({"models": models}).tags()


def test_nobody_there_is_said_with_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServerGone, match=f"no Ollama server answers at {url}") as gone, Client(url) as client:
            client.version()
    assert "ollama serve" in gone.value.next_step


@pytest.mark.parametrize("error", [httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_a_broken_connection_is_a_server_gone(error):
    def break_off(request):
        raise error("x")

    with pytest.raises(ServerGone, match=URL):
        serving(break_off).version()


def test_an_address_that_is_none_is_refused():
    with pytest.raises(UsageError, match="not a server's address"):
        Client("http://[::z]:1")


def test_a_busy_server_is_asked_again_and_a_lost_question_only_where_that_is_safe():
    answers = [httpx.Response(503, json={"error": "server busy"}, headers={"Retry-After": "60"}), httpx.ReadError("x")]
    calls = {
        "show": (lambda c: c.show("m"), 3),
        "chat": (lambda c: c.chat("m", HELLO), 2),
        "copy": (lambda c: c.copy("m", "n"), 2),
    }
    for call, wanted in calls.values():
        asked, rest = [], list(answers)

        def handle(request, asked=asked, rest=rest):
            asked.append(request)
            if not rest:
                return httpx.Response(200, json={"details": {}})
            answer = rest.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        client = serving(handle)
        if wanted == 3:
            call(client)
        else:
            with pytest.raises(ServerGone, match="broke the connection"):
                call(client)
        assert len(asked) == wanted


def test_a_server_that_stays_busy_is_said():
    with pytest.raises(ServerError, match=r"\(503\): server busy"):
        serving({"error": "server busy"}, status=503).show("m")


def test_a_redirect_is_not_followed_and_said():
    asked = []

    def handle(request):
        asked.append(request.url.host)
        return httpx.Response(307, headers={"Location": "http://thief.test/api/show"})

    with pytest.raises(ServerError, match=r"sends away to http://thief\.test/api/show \(307\)"):
        serving(handle).show("m")
    assert asked == ["ollama.test"]


def test_an_endless_answer_is_left(monkeypatch):
    monkeypatch.setattr(module, "MAX_REPLY", 1 << 16)

    def endless():
        while True:
            yield lines({"message": {"content": "more "}})

    with pytest.raises(ServerError, match="answers with more than"):
        serving(lambda request: httpx.Response(200, content=endless())).chat("m", HELLO)


def test_a_server_that_drips_is_left_when_its_time_is_over():
    def drips():
        yield b'{"message": '
        while True:
            time.sleep(0.02)
            yield b" "

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=drips()))
    client = Client(URL, timeout=0.1, transport=transport)
    for call in (lambda: client.chat("m", HELLO), lambda: client.show("m")):
        with pytest.raises(ServerSilent, match="silent for too long") as silent:
            call()
    assert "OLLAMAQ_TIMEOUT" in silent.value.next_step


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "0"])
def test_a_time_to_wait_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("OLLAMAQ_TIMEOUT", text)
    with pytest.raises(UsageError, match="OLLAMAQ_TIMEOUT"):
        Client(URL)
    with pytest.raises(UsageError, match="OLLAMAQ_TIMEOUT"):
        Session(parse_reference("registry.test/team/bot:q8"), "pull")


def test_token_and_headers_of_the_environment_go_along(monkeypatch):
    asked = []
    monkeypatch.setenv("OLLAMAQ_TOKEN", "for-everybody")
    monkeypatch.setenv("OLLAMAQ_TOKEN_OLLAMA_TEST", "sesame-open")
    monkeypatch.setenv("OLLAMAQ_HEADERS", "X-Team: bots\nX-Empty:\n")
    serving(lambda request: asked.append(request.headers) or httpx.Response(200, json={"version": "1"})).version()
    (headers,) = asked
    assert (headers["authorization"], headers["x-team"], headers["x-empty"]) == ("Bearer sesame-open", "bots", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OLLAMAQ_TOKEN", "two words"), ("OLLAMAQ_HEADERS", "no colon secret"), ("OLLAMAQ_HEADERS", "X: secrét")],
)
def test_a_setting_that_cannot_be_sent_is_named_and_not_shown(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable) as refused:
        Client(URL)
    assert value not in str(refused.value)


def test_a_token_that_the_server_repeats_is_not_shown(monkeypatch):
    monkeypatch.setenv("OLLAMAQ_TOKEN", "sesame-open")
    monkeypatch.setenv("OLLAMAQ_HEADERS", "X-Key: hunter22")
    with pytest.raises(ServerError) as refused:
        serving({"error": "who is Bearer sesame-open with hunter22?"}, status=403).show("m")
    assert "who is Bearer *** with ***?" in str(refused.value)


def test_embeddings_pull_and_push(monkeypatch):
    server = Recorder(
        embed={"embeddings": [[0.5, 1], [0, 0]]},
        pull=lines({"status": "pulling", "completed": 1, "total": 2}, {"status": "success"}),
        push=lines({"status": "retrieving manifest"}, {"error": "denied"}),
    )
    told = []
    with serving(server) as client:
        assert client.embed("m", ["a", "b"], dimensions=2) == [[0.5, 1], [0, 0]]
        client.pull("m", lambda *progress: told.append(progress))
        with pytest.raises(ServerError, match="refuses m: denied"):
            client.push("m", insecure=True)
        with pytest.raises(ServerError, match="has not 1 embeddings"):
            client.embed("m", ["a"])
    assert told == [("pulling", 1, 2)]
    assert [asked[2] for asked in server.asked[:3]] == [
        {"model": "m", "input": ["a", "b"], "dimensions": 2},
        {"model": "m", "insecure": False, "stream": True},
        {"model": "m", "insecure": True, "stream": True},
    ]


def test_images_are_sent_as_base64_and_thoughts_come_back():
    server = Recorder(
        chat=lines({"message": {"content": "a cat"}, "done": True}),
        generate=lines({"response": "", "thinking": "hm"}, {"response": "a cat", "done": True}),
    )
    with serving(server) as client:
        client.chat("m", [{"role": "user", "content": "What?", "images": [b"\x89PNG", "iVBO"]}])
        assert client.generate("m", "What?", images=[b"\x89PNG"])["thinking"] == "hm"
    assert server.asked[0][2]["messages"][0]["images"] == ["iVBORw==", "iVBO"]
    assert server.asked[1][2]["images"] == ["iVBORw=="]


def test_a_certificate_is_trusted_when_its_authority_is_named(monkeypatch):
    pem = Path(__file__).parent / "data" / "localhost.pem"  # signed by itself, for localhost only
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with BlobServer() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"https://localhost:{running.server_port}"
        try:
            with Client(url) as client, pytest.raises(ServerError, match="cannot be trusted") as refused:
                client.has_blob(DIGEST)
            assert "SSL_CERT_FILE" in refused.value.next_step
            monkeypatch.setenv("SSL_CERT_FILE", str(pem))
            with Client(url) as client:
                assert not client.has_blob(DIGEST)
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.parametrize(("code", "said"), [(9, "is not valid yet"), (10, "has expired")])
def test_a_certificate_that_is_out_of_its_time_may_be_the_clocks_fault(code, said):
    why = ssl.SSLCertVerificationError("certificate verify failed")
    why.verify_code = code

    def refuse(request):
        raise httpx.ConnectError("[SSL]") from why

    transport = httpx.MockTransport(refuse)
    where = parse_reference("registry.test/team/bot:q8")
    with Session(where, "pull", transport=transport) as session, pytest.raises(ServerError) as by_registry:
        session.call("GET", session.base, doing="anything")
    with pytest.raises(ServerError) as by_server:
        Client(URL, transport=transport).version()
    for refused in (by_registry, by_server):
        assert f"its certificate {said} by this machine's clock (2" in str(refused.value)
        assert "clock" in refused.value.next_step


def test_the_server_that_is_asked_for_is_not_passed_over_because_it_refuses(monkeypatch):
    def refuse(self):
        raise ServerError("asks to sign in")

    monkeypatch.setattr(Client, "version", refuse)
    monkeypatch.setenv("OLLAMA_HOST", "gate.test")
    with pytest.raises(ServerError, match="asks to sign in"):
        open_target()
    monkeypatch.delenv("OLLAMA_HOST")
    assert open_target().label.startswith("the store")  # something else than Ollama has its port


def test_certificates_that_cannot_be_read_are_named(monkeypatch, tmp_path):
    (tmp_path / "ca.pem").write_text("not one")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(UsageError, match=r"ca\.pem"):
        Client("https://localhost:1")


def test_a_server_at_a_unix_socket_is_asked(tmp_path):
    path = str(tmp_path / "o.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"version":"1"}')

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(parse_host(f"unix://{path}")) as client:
            assert client.version() == "1"
        thread.join()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch, server):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with Client(server.url) as client:
        assert not client.has_blob(DIGEST)


class BlobServer(ThreadingHTTPServer):
    """Takes blobs as Ollama does; hangs up on the first ``breaks`` uploads after ``patience`` bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), BlobHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.blobs, self.requests, self.breaks, self.patience = {}, [], 0, 1 << 20

    def handle_error(self, request, client_address):
        pass


class BlobHandler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(200 if self.digest in self.server.blobs else 404)

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.server.requests.append(dict(self.headers))
        if self.server.breaks:
            self.server.breaks -= 1
            self.rfile.read(min(self.server.patience, size))
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = self.rfile.read(size)
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != self.digest:
            self.answer(400, {"error": f'digest mismatch, expected "{self.digest}", got "{found}"'})
        else:
            self.server.blobs[found] = data
            self.answer(201)

    @property
    def digest(self):
        return self.path.rpartition("/")[2]

    def answer(self, status, body=None):
        data = json.dumps(body).encode() if body else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with BlobServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(range(256)) * 12000)
    return path


def digest_of(path):
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_blob_is_streamed_once_with_its_length(server, blob):
    told = []
    with Client(server.url) as client:
        assert client.push_blob(digest_of(blob), blob, lambda *progress: told.append(progress))
        assert not client.push_blob(digest_of(blob), blob)
    assert server.blobs == {digest_of(blob): blob.read_bytes()}
    (headers,) = server.requests
    size = blob.stat().st_size
    assert headers["Content-Length"] == str(size)
    assert "Transfer-Encoding" not in headers
    assert [done for _, done, _ in told] == [1 << 20, 2 << 20, size]
    assert {(label, total) for label, _, total in told} == {("uploading", size)}


def test_a_broken_upload_is_tried_again(server, blob):
    server.breaks = 2
    with Client(server.url) as client:
        assert client.push_blob(digest_of(blob), blob)
    assert len(server.requests) == 3
    assert digest_of(blob) in server.blobs


def test_a_blob_that_arrived_though_the_answer_was_lost_is_not_sent_again(blob):
    there = set()

    def handle(request):
        if request.method == "HEAD":
            return httpx.Response(200 if there else 404)
        request.read()
        there.add(1)
        raise httpx.ReadError("gone")

    assert serving(handle).push_blob(DIGEST, blob)


def test_a_server_gone_in_mid_upload_is_said_with_how_far_it_got(server, blob):
    server.breaks, server.patience = 99, 1 << 20
    said = f"{server.url} was lost after [0-3].[0-9] of 3.1 MB of model.gguf"
    with Client(server.url) as client, pytest.raises(ServerGone, match=said) as gone:
        client.push_blob(digest_of(blob), blob)
    assert len(server.requests) == 3
    assert "publish again" in gone.value.next_step


def test_a_blob_that_is_not_what_its_digest_says_is_refused_once(server, blob):
    with Client(server.url) as client, pytest.raises(ServerError, match="digest mismatch"):
        client.push_blob(DIGEST, blob)
    assert len(server.requests) == 1


def test_a_blob_that_cannot_be_read_is_named(server, tmp_path):
    with Client(server.url) as client, pytest.raises(ModelRefused, match=r"nothing\.gguf"):
        client.push_blob(DIGEST, tmp_path / "nothing.gguf")


def test_a_malformed_digest_is_refused_by_the_server():
    with pytest.raises(ServerError, match=r"HEAD /api/blobs/x \(400\)"):
        serving(b"", status=400).has_blob("x")


@pytest.mark.parametrize("version", ["0.30.0", "0.34.2-rc1", "0.0.0", "0.12.6", "dev"])
def test_a_server_of_any_version_is_entered(version):
    with RemoteServer(serving({"version": version})) as target:
        assert (target.label, target.engine, target.version) == (URL, "Ollama", version)


def test_a_remote_server_creates_finds_and_asks(blob):
    digest = digest_of(blob)
    final = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2, "total_duration": 5 * 10**8}
    server = Recorder(
        create=lines({"status": "success"}),
        tags={"models": [{"name": "x:120b-cloud", "digest": "0"}, {"name": "Team/Bot:Q8_0", "digest": "11"}]},
        show={"template": "{{ messages }}"},
        chat=lines({"message": {"content": "Hi"}}, final),
    )
    server.answers[digest] = httpx.Response(200)
    target = RemoteServer(serving(server))
    modelfile = Modelfile("./model.gguf", parameters={"stop": "<|im_end|>"})
    assert not target.create("team/bot:q8_0", blob, digest.removeprefix("sha256:"), modelfile, lambda *progress: None)
    assert server.asked[-1][2] == {
        "model": "team/bot:q8_0",
        "files": {"model.gguf": digest},
        "parameters": {"stop": ["<|im_end|>"]},
        "stream": True,
    }
    assert target.digest("team/bot:q8_0") == "11"
    assert target.digest("bot:q8_0") is None
    assert target.template("team/bot:q8_0") == "{{ messages }}"
    reply = target.chat("team/bot:q8_0", HELLO, {"seed": 1})
    assert (reply.text, reply.done_reason, reply.prompt_tokens, reply.answer_tokens) == ("Hi", "stop", 9, 2)
    assert reply.seconds == 0.5


def test_the_memory_of_a_model_is_told_under_whichever_name_it_was_loaded():
    loaded = {"name": "bot:staging-1", "digest": "d1", "size": 300, "size_vram": 0, "context_length": 4096}
    tags = {"models": [{"name": "bot:1", "digest": "d1"}, {"name": "other:1", "digest": "d2"}]}
    target = RemoteServer(serving(Recorder(ps={"models": [loaded]}, tags=tags)))
    assert target.loaded("bot:1") == Loaded(300, 0, 4096)
    with pytest.raises(Unsupported, match="does not tell what memory other:1 takes"):
        target.loaded("other:1")


def test_a_reply_tells_tools_thoughts_and_speed_without_the_time_of_loading():
    call = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
    end = {"done": True, "done_reason": "stop", "eval_count": 10, "eval_duration": 2 * 10**9, "load_duration": 10**12}
    answer = lines({"message": {"content": "", "thinking": "Hm.", "tool_calls": [call]}}, end)
    reply = RemoteServer(serving(answer)).chat("bot", HELLO, {}, tools=[{"type": "function"}], think=True)
    assert (reply.thinking, reply.tool_calls) == ("Hm.", (ToolCall("weather", {"city": "Paris"}),))
    assert (reply.tokens_per_second, reply.first_token) == (5.0, 0.0)
