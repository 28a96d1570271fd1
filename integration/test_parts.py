"""The real parts are what they say they are."""

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import httpx
import parts
import pytest

MODEL = "smollm2:q4_1"
# Of this model's answers the surest: one about France is a toss-up, and falls otherwise with other kernels.
QUESTION, ANSWER = "What is the capital of Japan?", "Tokyo"


def output(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def ask(url: str) -> str:
    """Put somebody else's GGUF onto a server, and ask it."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        with parts.smollm2_gguf().open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            file.seek(0)
            client.post(f"/api/blobs/{digest}", content=file).raise_for_status()
        create = {"model": MODEL, "files": {"model.gguf": digest}, "stream": False}
        assert client.post("/api/create", json=create).json() == {"status": "success"}
        messages = [{"role": "user", "content": QUESTION}]
        request = {"model": MODEL, "messages": messages, "stream": False, "options": {"temperature": 0, "seed": 1}}
        return client.post("/api/chat", json=request).raise_for_status().json()["message"]["content"]


@pytest.fixture
def container(docker_image, free_port, wait_for) -> Iterator[str]:
    """URL of a container of the image."""
    name = output("docker", "run", "--detach", "--rm", "-p", f"127.0.0.1:{free_port}:11434", docker_image)
    url = f"http://127.0.0.1:{free_port}"
    try:
        wait_for(f"{url}/api/version", lambda: True, lambda: output("docker", "logs", name))
        yield url
    finally:
        output("docker", "rm", "--force", "--volumes", name)


def test_the_server_is_the_release_that_it_is_said_to_be(ollama_server):
    assert httpx.get(f"{ollama_server}/api/version").json() == {"version": parts.OLLAMA}


def test_the_command_talks_to_the_server(ollama_server, ollama_command):
    assert ollama_command("--version").strip() == f"ollama version is {parts.OLLAMA}"


def test_the_server_finds_llama_cpp_and_runs_a_model(ollama_server):
    assert ANSWER in ask(ollama_server)


def test_the_image_is_the_same_release_and_runs_a_model(container):
    assert httpx.get(f"{container}/api/version").json() == {"version": parts.OLLAMA}
    assert ANSWER in ask(container)


def test_llama_cpp_is_the_release_that_it_is_said_to_be(llama_server):
    assert f"build {parts.LLAMACPP.split('.')[0]}" in output(llama_server, "--version")


def test_llama_quantize_quantizes(llama_quantize, tmp_path):
    result = tmp_path / "q4_0.gguf"
    output(llama_quantize, "--allow-requantize", "--pure", parts.smollm2_gguf(), result, "Q4_0", "2")
    tensors = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(result).tensors}
    assert tensors["blk.0.attn_q.weight"] is gguf.GGMLQuantizationType.Q4_0


@pytest.mark.parametrize(("width", "heads"), [(576, (9, 3)), (768, (12, 4))])
def test_the_model_directory_has_the_shapes_of_its_configuration(width, heads, smollm2):
    directory = smollm2(width)
    config = json.loads((directory / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == heads
    with (directory / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    assert shapes["model.embed_tokens.weight"] == (config["vocab_size"], width)
    assert shapes["model.layers.29.self_attn.k_proj.weight"] == (heads[1] * config["head_dim"], width)
    assert len(shapes) == 2 + 9 * config["num_hidden_layers"]


def test_a_part_that_fails_to_be_made_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMAQ_INTEGRATION_CACHE", str(tmp_path))

    def fail(directory: Path) -> None:
        (directory / "half").write_text("done")
        raise parts.MissingPart("no compiler")

    with pytest.raises(parts.MissingPart):
        parts.kept("thing-1", fail)
    assert {path.name for path in tmp_path.iterdir()} == {".thing-1.lock"}


def test_a_part_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMAQ_INTEGRATION_CACHE", str(tmp_path))
    made = []
    places = {parts.kept("thing-1", made.append) for _ in range(2)}
    assert len(made) == len(places) == 1


def test_a_download_with_other_contents_is_refused(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    with zipfile.ZipFile(source / "nothing-1.0-py3-none-any.whl", "w") as packed:
        packed.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        packed.writestr("nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    monkeypatch.setitem(parts.SHA256, "nothing==1.0", "0" * 64)
    with pytest.raises(parts.MissingPart, match="SHA-256"):
        parts.download("nothing==1.0", tmp_path, "--no-index", "--find-links", str(source))
