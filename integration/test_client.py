"""The client's whole API against a real server."""

import json
import subprocess
import sys

import pytest
from talker import write_talker

from ollamaq.errors import ServerError
from ollamaq.ollama.client import Client, ModelNotFound

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"answer": {"enum": ["yes"]}}, "required": ["answer"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def client(ollama_server, tmp_path_factory):
    place = tmp_path_factory.mktemp("client")
    publish = ("publish", write_talker(place / "talker"), "api:1", "--q", "Q8_0", "--to", ollama_server)
    subprocess.run([sys.executable, "-m", "ollamaq", *publish], cwd=place, check=True, capture_output=True)
    with Client(ollama_server) as connected:
        yield connected


def test_a_chat_and_a_completion(client):
    told = []
    answer = client.chat("api:1", HELLO, options={"temperature": 0}, on_text=told.append)
    assert answer["message"] == {"role": "assistant", "content": "Paris."}
    assert "".join(told) == "Paris."
    assert client.generate("api:1", "Hello", options={"temperature": 0})["response"] == "Paris."
    assert client.generate("api:1", "x\n", raw=True, options={"temperature": 0})["response"] == "Paris."


def test_structured_output(client):
    options = {"temperature": 0, "num_predict": 64}
    answer = client.chat("api:1", HELLO, format=SCHEMA, options=options)
    assert json.loads(answer["message"]["content"]) == {"answer": "yes"}


def test_what_the_model_cannot_do_is_said_in_the_servers_words(client):
    for more, said in (
        ({"tools": [TOOL]}, "does not support tools"),
        ({"think": True}, "does not support thinking"),
    ):
        with pytest.raises(ServerError, match=said):
            client.chat("api:1", HELLO, **more)
    with pytest.raises(ServerError, match="refuses api:1"):
        client.chat("api:1", [{"role": "user", "content": "What is it?", "images": [b"\x89PNG"]}])
    with pytest.raises(ServerError, match="does not support embeddings"):
        client.embed("api:1", ["Hello"])


def test_names_memory_and_what_a_model_is(client):
    client.copy("api:1", "api:2")
    assert {"api:1", "api:2"} <= {model["name"] for model in client.tags()}
    shown = client.show("api:2", verbose=True)
    assert shown["details"]["quantization_level"] == "Q8_0"
    assert len(shown["model_info"]["tokenizer.ggml.tokens"]) > 256
    client.chat("api:2", HELLO)
    assert any(model["name"].startswith("api:") for model in client.ps())
    client.unload("api:2")
    client.delete("api:2")
    with pytest.raises(ModelNotFound):
        client.show("api:2")


def test_registries_that_nobody_answers_at(client, free_port):
    name = f"127.0.0.1:{free_port}/team/bot:1"
    client.copy("api:1", name)
    for call in (client.push, client.pull):
        with pytest.raises(ServerError, match=f"refuses {name}: .*refused"):
            call(name, insecure=True)
    client.delete(name)
