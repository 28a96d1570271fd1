"""The command line: results on stdout, one sentence and a next step on stderr, and exit codes that mean something."""

import json
import shutil
import socket
from collections import namedtuple

import pytest
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.cli.output import size
from ollamaq.sizes import parse_size


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("OLLAMA_HOST", "OLLAMAQ_TO", "OLLAMAQ_THREADS", "OLLAMAQ_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    runner = CliRunner()

    def run(*arguments, code=0):
        result = runner.invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        return result

    return run


def refused(result):
    """The sentence and the next step of a refusal."""
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "next:"))]
    assert [line.split(":")[0] for line in lines] == ["error", "next"], result.stderr
    return lines[0]


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint()


def test_version_is_printed(run):
    assert run("--version").stdout.startswith("ollamaq ")


def test_help_names_every_command(run):
    said = run("--help").stdout
    assert all(name in said for name in ("publish", "quantize", "convert", "inspect", "smoke", "doctor"))


def test_shell_completion_completes_commands(run, monkeypatch):
    monkeypatch.setenv("_OLLAMAQ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ollamaq pub")
    monkeypatch.setenv("COMP_CWORD", "1")
    result = CliRunner().invoke(app, [], prog_name="ollamaq")
    assert "publish" in result.stdout


def test_quantize_writes_the_file_and_tells_its_size(run, checkpoint, tmp_path):
    told = json.loads(run("quantize", checkpoint, "out.gguf", "--q", "q5_k_m", "--json").stdout)
    assert told["schema_version"] == 1
    assert told["mix"] == "Q5_K_M"
    assert told["bytes"] < (tmp_path / "out.gguf").stat().st_size


def test_the_size_beside_a_files_name_is_that_of_the_file(run, checkpoint, tmp_path):
    said = run("quantize", checkpoint, "out.gguf", "--q", "q5_k_m").stdout
    line = next(line for line in said.splitlines() if line.startswith("out.gguf"))
    assert line.removeprefix("out.gguf").strip() == size((tmp_path / "out.gguf").stat().st_size)


def test_a_plan_tells_every_tensor_and_writes_nothing(run, checkpoint, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    told = json.loads(run("plan", checkpoint, "--q", "Q3_K_M", "--json").stdout)
    assert sorted(tmp_path.rglob("*")) == before
    assert told["bytes"] == sum(tensor["bytes"] for tensor in told["tensors"])
    types = {tensor["name"]: tensor["type"] for tensor in told["tensors"]}
    assert types["blk.0.attn_v.weight"] == "Q5_K"
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert "blk.0.attn_v.weight" in run("plan", checkpoint, "--q", "Q3_K_M").stdout


def test_quiet_prints_the_result_alone(run, checkpoint):
    result = run("quantize", checkpoint, "out.gguf", "--quiet")
    assert (result.stdout, result.stderr) == ("out.gguf\n", "")


def test_convert_then_inspect_shows_what_was_written(run, checkpoint):
    run("convert", checkpoint, "f16.gguf", "--outtype", "f16")
    told = json.loads(run("inspect", "f16.gguf", "--tensors", "--json").stdout)
    assert told["metadata"]["general.architecture"] == "llama"
    assert {tensor["type"] for tensor in told["tensors"]} == {"F16", "F32"}


@pytest.mark.parametrize("command", ["publish", "quantize", "convert"])
def test_a_dry_run_writes_nothing(command, run, checkpoint, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    outputs = [] if command == "publish" else ["out.gguf"]
    told = json.loads(run(command, checkpoint, *outputs, "--dry-run", "--json").stdout)
    assert told["dry_run"] is True
    assert sorted(tmp_path.rglob("*")) == before


def test_publish_to_file_builds_the_package_and_says_how_to_use_it(run, checkpoint, tmp_path):
    result = run("publish", checkpoint, "bot", "--q", "Q4_K_M", "--to", "file")
    assert "ollama create bot:q4_K_M -f bot-Q4_K_M/Modelfile" in result.stdout
    assert {path.name for path in (tmp_path / "bot-Q4_K_M").iterdir()} == {
        "model.gguf",
        "Modelfile",
        "release.json",
        "provenance.json",
        "bom.cdx.json",
    }


def test_doctor_tells_what_is_missing_and_what_to_do(run, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{unused_port()}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert findings["kernels"]["ok"]
    for name in ("server", "docker"):
        assert not findings[name]["ok"]
        assert findings[name]["advice"]


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_path_to_nothing_is_refused(run):
    assert "nowhere does not exist" in refused(run("publish", "nowhere", code=3))


def test_a_directory_that_holds_no_model_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(run("publish", "empty", code=3))


def test_a_file_that_is_no_gguf_is_refused(run, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"not a model at all")
    assert "model.bin" in refused(run("quantize", "model.bin", "out.gguf", code=3))


def test_a_missing_tokenizer_is_refused(run, checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(run("publish", checkpoint, code=3))


def test_an_unknown_architecture_is_named_with_the_nearest_that_works(run, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": ["LlamoForCausalLM"]}))
    result = run("publish", checkpoint, code=3)
    assert "LlamoForCausalLM" in refused(result)
    assert "LlamaForCausalLM" in result.stderr


def test_an_unknown_mix_is_answered_with_the_one_that_was_meant(run, checkpoint):
    assert "unknown quantization 'Q5_KM': did you mean Q5_K_M?" in refused(
        run("publish", checkpoint, "--q", "Q5_KM", code=2)
    )


def test_a_full_disk_is_found_before_anything_is_written(run, checkpoint, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 10))
    assert "no room in" in refused(run("quantize", checkpoint, "out/model.gguf", code=5))
    assert not list((tmp_path / "out").iterdir())


def test_a_server_that_does_not_answer_is_named(run, checkpoint):
    address = f"127.0.0.1:{unused_port()}"
    assert address in refused(run("publish", checkpoint, "--to", address, code=4))


def test_docker_that_does_not_run_is_said(run, checkpoint, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert "Docker" in refused(run("publish", checkpoint, "--to", "container", code=5))


@pytest.mark.parametrize("name", ["bad name", "a:b:c", "../up", "x" * 400])
def test_a_name_that_ollama_would_refuse_is_refused(name, run, checkpoint):
    refused(run("publish", checkpoint, name, "--to", "file", code=2))


def test_an_unknown_target_is_refused(run, checkpoint):
    assert "unknown target 'contaner'" in refused(run("publish", checkpoint, "--to", "contaner", code=2))


def test_an_expectation_that_is_no_regular_expression_is_refused(run, checkpoint):
    assert "not a regular expression" in run("publish", checkpoint, "--expect", "(", code=2).stderr


def test_errors_are_json_for_machines(run):
    told = json.loads(run("publish", "nowhere", "--json", code=3).stdout)
    assert told["error"]["exit_code"] == 3
    assert told["error"]["next_step"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("300", 300),
        ("512M", 512 << 20),
        ("1.5 GiB", 3 << 29),
        ("2GB", 2 * 10**9),
        ("1tb", 10**12),
        ("0", 0),
        *((wrong, None) for wrong in ("", "M", "-1", "1e3", "2 GiBs", "٣GB")),
    ],
)
def test_amounts_count_in_thousands_or_in_1024(text, count):
    assert parse_size(text) == count
