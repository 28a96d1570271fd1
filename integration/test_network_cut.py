"""Servers in a network namespace, whose cable is pulled in the middle: nobody says goodbye, packets are lost."""

import contextlib

import conftest
import network as networks
import pytest
from faults import record
from misbehaving import Server
from test_registry_faults import CUT_AT, MB, intact, size
from test_server_faults import Scene

IMPATIENT = {"OLLAMAQ_TIMEOUT": "2"}
PULLED = "in a network namespace, whose end of a veth pair is set down"


@pytest.fixture
def network():
    with networks.network() as made:
        yield made


@contextlib.contextmanager
def cut(network, after, seconds=None):
    """Pull the cable within the block, when so many bytes have passed; for good, where no ``seconds`` are told."""
    act = network.pull if seconds is None else lambda: network.pull_for(seconds)
    watching = network.after(after, act)
    yield
    watching.join()


def model_of(pushed):
    (model,) = (blob for blob in pushed["blobs"] if blob["kind"] == "model")
    return model


def test_a_push_and_a_pull_wait_until_the_network_is_back(registries, package, ollamaq, network, tmp_path):
    registry = registries(2, network=network)
    with cut(network, CUT_AT, 3):
        pushed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    assert (model_of(pushed)["how"], model_of(pushed)["sent"]) == ("sent", size(package))
    assert registry.tags("team/bot") == ["q8"]
    before = network.passed()
    with cut(network, CUT_AT, 3):
        ollamaq("pull", f"{registry.host}/team/bot:q8", "x", "--to", "file", "-o", "out", "--insecure")
    assert network.passed() - before < size(package) + 4 * MB
    assert (tmp_path / "out/model.gguf").read_bytes() == (package / "model.gguf").read_bytes()
    record(
        "registry",
        "network cut for 3 s in mid-upload and in mid-download",
        made_by=f"docker-registry {PULLED} after 10 of 24 MB",
        outcome="push and pull waited, and ended well; nothing was sent twice",
    )


def test_a_push_goes_on_when_the_network_was_gone_for_longer_than_is_waited(
    registries, package, ollamaq, network, tmp_path
):
    registry = registries(3, network=network)
    with cut(network, CUT_AT, 6):
        pushed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure", env=IMPATIENT)
    assert model_of(pushed)["how"] == "resumed"
    assert model_of(pushed)["sent"] < size(package) + CUT_AT / 2
    intact(registry, ollamaq, package, tmp_path)
    record(
        "registry",
        "network cut for 6 s in mid-upload, OLLAMAQ_TIMEOUT=2 (distribution 3)",
        made_by=f"distribution 3 {PULLED} after 10 of 24 MB",
        outcome="the same push connected again, and went on where the registry said it was",
    )


def test_a_push_ends_when_the_network_is_gone_for_good(registries, package, ollamaq, network, tmp_path):
    registry = registries(3, network=network)
    with cut(network, CUT_AT):
        failed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure", code=4, env=IMPATIENT)
    assert "was lost in the middle of model" in failed["error"]["message"]
    assert "it goes on" in failed["error"]["next_step"]
    network.plug()
    assert registry.tags("team/bot") == []
    pushed = ollamaq("push", package, f"{registry.host}/team/bot:q8", "--insecure")
    assert model_of(pushed)["how"] == "resumed"
    assert model_of(pushed)["sent"] < size(package) - CUT_AT / 2
    intact(registry, ollamaq, package, tmp_path)
    record(
        "registry",
        "network cut for good in mid-upload, OLLAMAQ_TIMEOUT=2 (distribution 3)",
        made_by=f"distribution 3 {PULLED} after 10 of 24 MB",
        outcome="exit 4 after the last of four tries, nothing under the tag; with a network the next push went on",
    )


@pytest.fixture
def scene(network, tmp_path):
    server = Server(tmp_path, conftest.unused_port(), network=network)
    server.start()
    made = Scene(tmp_path, server, to=server.url)
    try:
        made.settle()
        yield made
    finally:
        made.proxy.close()
        server.kill()


def test_a_publish_survives_a_cut_network(scene, network):
    with cut(network, 2 * MB, 3):
        scene.publisher().start().end(0)
    scene.before = scene.server.models_by_name()
    with cut(network, 2 * MB):
        scene.publisher(seconds=2).start().end(4, "silent for too long at POST /api/blobs/|was lost after")
    network.plug()
    scene.survived(left=True)
    record(
        "server",
        "network cut for 3 s, and for good, during an upload",
        made_by=f"ollama serve {PULLED} after 2 of 4 MB; OLLAMAQ_TIMEOUT=2 for the second one",
        outcome="the upload waited, and ended well; for good, exit 4: the old model answers, the next run publishes",
    )
