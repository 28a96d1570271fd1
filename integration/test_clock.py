"""A wrong clock on the machine of ollamaq, by decades, and right ones everywhere else."""

import os
import shutil
import signal

import conftest
import families
import parts
import pytest
from faults import record
from misbehaving import Fault, Server
from talker import write_talker
from test_registry import PASSWORD, USER, log_in, openssl, serve, token_settings
from test_registry_faults import MB
from test_server_faults import CHAT, NAME, Scene
from token_server import Tokens

YEARS = {"behind": -25, "ahead": 25}
MOVED = "a preloaded library that moves the wall clock of ollamaq alone"
OUT_OF_TIME = [("behind", "is not valid yet", "200"), ("ahead", "has expired", "205")]


def clock(way):
    """The environment of a program whose clock is off."""
    return {"LD_PRELOAD": str(parts.clock()), "CLOCK_OFFSET": str(YEARS[way] * 365 * 24 * 3600)}


@pytest.mark.parametrize("way", YEARS)
def test_a_registry_with_tokens_when_the_clock_is_off(registries, package, ollamaq, tmp_path, way):
    tokens = Tokens(tmp_path / "tokens.pem", USER, PASSWORD)
    server = serve(tokens.handler)
    registry = registries(2, token_settings(tmp_path, server.server_port))
    log_in(tmp_path / "docker", registry.host)
    name = f"{registry.host}/team/bot:q8"
    pushed = ollamaq("push", package, name, "--insecure", "--chunk-size", "2M", env=clock(way))
    assert {blob["how"] for blob in pushed["blobs"]} == {"sent"}
    given = tokens.given
    assert given < len(pushed["blobs"])  # and not one for each request
    ollamaq("pull", name, "x", "--to", "file", "-o", "out", "--insecure", env=clock(way))
    assert tokens.given == given + 1
    server.shutdown()
    assert (tmp_path / "out/model.gguf").read_bytes() == (package / "model.gguf").read_bytes()
    record(
        "this machine",
        f"clock 25 years {way}: push and pull with tokens",
        made_by=f"{MOVED}; docker-registry with token authentication",
        outcome="pushed and pulled; a token that is issued 25 years away is used for the seconds that it tells",
    )


@pytest.mark.parametrize(("way", "said", "year"), OUT_OF_TIME)
def test_a_certificate_when_the_clock_is_off(registries, package, ollamaq, tmp_path, way, said, year):
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1")
    openssl(*new, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "own.key", "-out", "own.pem", cwd=tmp_path)
    tls = {"certificate": str(tmp_path / "own.pem"), "key": str(tmp_path / "own.key")}
    registry = registries(2, {"http": {"tls": tls}})
    push = ("push", package, f"{registry.host}/team/bot:q8", "--ca-file", "own.pem")
    ollama = {"OLLAMA_HOST": registry.url, "SSL_CERT_FILE": str(tmp_path / "own.pem")}
    for refused in (
        ollamaq(*push, code=4, env=clock(way)),
        ollamaq("smoke", "bot", code=4, env=clock(way) | ollama),
        ollamaq("smoke", "bot", "--to", registry.url, code=4, env=clock(way) | ollama),
    ):
        assert f"its certificate {said} by this machine's clock ({year}" in refused["error"]["message"]
        assert "set this machine's clock if it is wrong" in refused["error"]["next_step"]
    ollamaq(*push)
    record(
        "this machine",
        f"clock 25 years {way}: TLS",
        made_by=f"{MOVED}; a certificate for two days, of a registry and of what is taken for an Ollama server",
        outcome=f"exit 4: the certificate {said} by this machine's clock, and which time that is; set right, pushed",
    )


@pytest.fixture
def scene(tmp_path):
    server = Server(tmp_path, conftest.unused_port())
    server.start()
    made = Scene(tmp_path, server)
    try:
        made.settle()
        yield made
    finally:
        made.proxy.close()
        server.kill()


def test_publishing_when_the_clock_is_off(scene):
    def publisher(way, **options):
        made = scene.publisher(**options)
        made.environment |= clock(way)
        return made

    killed = publisher("behind")
    scene.proxy.fault = Fault(CHAT, act=lambda: killed.process.kill())
    killed.start().end(-signal.SIGKILL)
    scene.proxy.fault = None
    both = publisher("behind").start(), publisher("ahead", out=scene.place / "other").start()
    for each in both:
        each.end(0)
    now = scene.server.models_by_name()
    assert now.keys() == {NAME, f"{NAME}-prev-1"}
    assert len({*now.values(), scene.before[NAME]}) == 3
    assert scene.server.ask(NAME) == "Paris."
    known = {entry: entry.stat().st_ino for entry in scene.place.glob("home/ollamaq/digests/*")}
    assert known
    for way in YEARS:
        publisher(way, new=False, out=scene.place / way).start().end(0)
    assert {entry: entry.stat().st_ino for entry in known} == known
    record(
        "this machine",
        "clock 25 years behind, or ahead: publishing",
        made_by=f"{MOVED}; on the real Ollama one killed in its smoke test, two at once, and one again",
        outcome="they wait for each other, what was staged is removed, and no file is hashed twice",
    )


def test_a_prompt_with_the_date_when_the_clock_is_off(scene):
    dated = "{{- '<|im_start|>system\\nToday is ' + strftime_now('%Y-%m-%d') + '.<|im_end|>\\n' -}}"
    publisher = scene.publisher()
    shutil.rmtree(publisher.checkpoint)
    write_talker(publisher.checkpoint, template=dated + families.tiny.CHATML)
    right = publisher.environment
    publisher.environment = right | clock("behind")
    publisher.start().end(1, r"(?s)see that\s+this\s+machine's\s+clock\s+is\s+right")
    assert scene.server.models_by_name() == scene.before
    publisher.environment = right
    publisher.start().end(0)
    record(
        "this machine",
        "clock 25 years behind: a chat template that tells the date",
        made_by=f"{MOVED}; the real Ollama, which renders by its own clock",
        outcome="the prompt check fails and names the clock, exit 1: the old model stays; set right, published",
    )


def test_files_of_the_future(registries, package, ollamaq, tmp_path, own_environment):
    future = 4102444800  # 2100
    bot = tmp_path / "bot"
    shutil.copytree(package, bot)
    for file in bot.iterdir():
        os.utime(file, (future, future))
    registry = registries(2)
    name = f"{registry.host}/team/bot:q8"
    first = ollamaq("push", bot, name, "--insecure")
    assert {blob["how"] for blob in ollamaq("push", bot, name, "--insecure")["blobs"]} == {"there"}
    with (bot / "model.gguf").open("r+b") as file:
        file.seek(20 * MB)
        file.write(b"other weights")
    os.utime(bot / "model.gguf", (future, future + 1))
    assert ollamaq("push", bot, name, "--insecure")["digest"] != first["digest"]
    ollamaq("pull", name, "x", "--to", "file", "-o", "out", "--insecure")
    assert (tmp_path / "out/model.gguf").read_bytes() == (bot / "model.gguf").read_bytes()
    record(
        "this machine",
        "files of the year 2100",
        made_by="a package whose files' times are set; docker-registry",
        outcome="hashed once, and again when they change",
    )
