"""hf://org/name is fetched by huggingface_hub, here a stand-in, and then is a directory like any other."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ollamaq.checkpoint.hub import fetched
from ollamaq.errors import ServerError, UsageError
from ollamaq.ollama.names import default_name
from ollamaq.source import open_source


@pytest.fixture
def hub(monkeypatch, tiny_checkpoint, tmp_path):
    """A Hub of one repository, team/Tiny-Model, whose weights may be renamed; ``asked`` are the calls."""
    snapshots = tmp_path / "models--team--Tiny-Model" / "snapshots"
    snapshots.mkdir(parents=True)
    place = tiny_checkpoint().rename(snapshots / "0123abcd")
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns[-2]))
        if name != "team/Tiny-Model":
            raise OSError(f"401 Client Error.\n\nRepository Not Found for {name}")
        return str(place)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    return SimpleNamespace(place=place, asked=asked)


@pytest.mark.parametrize(
    ("source", "revision"),
    [("hf://team/Tiny-Model", None), ("hf://team/Tiny-Model@v1.0", "v1.0"), ("hf:/team/Tiny-Model@a/b", "a/b")],
)
def test_a_repository_is_opened_under_its_name(source, revision, hub):
    opened = open_source(Path(source))
    assert hub.asked == [("team/Tiny-Model", revision, "model*.safetensors")]
    assert opened.path == hub.place
    assert opened.model.metadata["general.name"].value == "Tiny Model"
    assert default_name(opened.path, "Q8_0") == "tiny-model:q8_0"


def test_pickled_weights_are_fetched_only_where_there_are_no_others(hub):
    (hub.place / "model.safetensors").rename(hub.place / "pytorch_model.bin")
    assert fetched(Path("hf://team/Tiny-Model")) == hub.place
    assert [weights for *_, weights in hub.asked] == ["model*.safetensors", "pytorch_model*.bin"]


@pytest.mark.parametrize("source", ["hf://team", "hf://team/a/b", "hf://team/a@", "hf:///a", "hf://team/a b", "hf:x"])
def test_a_misspelt_address_is_refused(source, hub):
    with pytest.raises(UsageError, match="is no address of a model"):
        fetched(Path(source))
    assert hub.asked == []


def test_what_the_hub_refuses_is_one_sentence(hub):
    with pytest.raises(
        ServerError, match=r"^cannot fetch team/other of .*: 401 .* Repository Not Found for team/other$"
    ):
        fetched(Path("hf://team/other"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="needs huggingface_hub") as refused:
        fetched(Path("hf://team/model"))
    assert "ollamaq[hub]" in refused.value.next_step


def test_other_paths_stay_as_they_are(tmp_path):
    assert fetched(tmp_path) == tmp_path
    assert fetched(Path("model.gguf")) == Path("model.gguf")
