"""Models that see: published to the real Ollama with their projector, and run by llama.cpp."""

import json

import families
import httpx
import pytest
import vision
from test_publish import checks, ollamaq

from ollamaq.files import Blob, sha256_of
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.store import Store
from ollamaq.smoke.picture import PICTURE

ASK = "What is the capital of France?"


@pytest.fixture
def seeing(smollm2, tmp_path):
    vision.write_seeing(smollm2(768), tmp_path / "Seeing")
    return tmp_path / "Seeing"


def in_a_store(package, root):
    """The digest of a package's model in a store that no server has."""
    model, eyes = package / "model.gguf", package / "mmproj.gguf"
    parameters = json.loads((package / "release.json").read_text())["parameters"]
    blob = Blob(eyes, sha256_of(eyes), eyes.stat().st_size)
    modelfile = Modelfile("./model.gguf", parameters=parameters)
    Store(root).create("seeing", model, sha256_of(model), modelfile, lambda *step: None, blob)
    return Store(root).digest("seeing")


def test_a_model_is_published_with_its_projector_and_sees(seeing, ollama_server, tmp_path):
    options = ("--mmproj", "--to", ollama_server, "--prompt", ASK, "--expect", "Paris")
    release = ollamaq("publish", seeing, *options, cwd=tmp_path)["releases"][0]
    assert release["passed"], release["checks"]
    assert checks(release)["picture"]["ok"]
    package = tmp_path / release["package"]
    assert (package / "Modelfile").read_text().startswith("FROM ./model.gguf\nFROM ./mmproj.gguf\n")
    assert json.loads((package / "release.json").read_text())["projector"]["file"] == "mmproj.gguf"
    shown = httpx.post(f"{ollama_server}/api/show", json={"model": release["name"]}).json()
    assert "vision" in shown["capabilities"]
    assert shown["projector_info"]["clip.projector_type"] == "pixtral"
    assert in_a_store(package, tmp_path / "store") == release["digest"]


def test_a_package_with_a_projector_is_created_by_its_modelfile(seeing, ollama_server, ollama_command, tmp_path):
    release = ollamaq("publish", seeing, "--mmproj", "--to", "file", cwd=tmp_path)["releases"][0]
    ollama_command("create", "by-hand", "-f", tmp_path / release["package"] / "Modelfile")
    shown = httpx.post(f"{ollama_server}/api/show", json={"model": "by-hand"}).json()
    assert "vision" in shown["capabilities"]


def test_the_embedded_engine_sees_too(seeing, tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    options = ("--mmproj", "--to", "store", "--prompt", ASK, "--expect", "Paris")
    release = ollamaq("publish", seeing, *options, cwd=tmp_path)["releases"][0]
    assert checks(release)["picture"]["ok"]


@pytest.mark.parametrize("name", vision.goldens.PROJECTORS)
def test_llama_cpp_takes_pictures_with_every_projector(name, llama_server, tmp_path):
    words, eyes = vision.write_tiny(name, tmp_path)
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    message = {"role": "user", "content": [picture, {"type": "text", "text": "the"}]}
    with families.running(llama_server, words, "--mmproj", eyes, "--jinja") as client:
        body = {"messages": [message], "max_tokens": 1}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert answer["usage"]["prompt_tokens"] > 4, answer
