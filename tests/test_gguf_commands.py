"""``ollamaq gguf``: metadata read and edited with every tensor kept, models split and merged."""

import json

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from gguf import GGUFValueType as Kind
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.errors import UsageError
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.values import parse_value, type_name
from ollamaq.gguf.writer import write
from ollamaq.tensors import Tensor

TEMPLATE = "{% for m in messages %}\n\t[bold]{{ m }}[/bold]  \n{% endfor %}"
METADATA = {
    "general.architecture": Value(Kind.STRING, "llama"),
    "llama.block_count": Value(Kind.UINT32, 2),
    "tokenizer.ggml.tokens": Value(Kind.ARRAY, ["a", "é"], Kind.STRING),
    "tokenizer.ggml.add_bos_token": Value(Kind.BOOL, True),
    "tokenizer.chat_template": Value(Kind.STRING, TEMPLATE),
}


def matrix(name, type_, row_bytes):
    data = np.random.default_rng(2026).integers(0, 256, (5, row_bytes), np.uint8)
    dtype = {Type.F32: np.float32, Type.F16: np.float16}.get(type_, np.uint8)
    return Tensor(name, type_, (5, 64), lambda start, stop: data[start:stop].view(dtype))


@pytest.fixture
def model():
    return Model(METADATA, (matrix("a", Type.F16, 128), matrix("b", Type.Q8_0, 68), matrix("c", Type.F32, 256)))


@pytest.fixture
def file(model, tmp_path):
    write(tmp_path / "model.gguf", model)
    return tmp_path / "model.gguf"


@pytest.fixture
def run():
    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["gguf", *map(str, arguments)])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        assert "Traceback" not in result.output
        return result

    return run


def bytes_of(path):
    return {tensor.name: tensor.rows(0, tensor.n_rows).tobytes() for tensor in read_gguf(path).tensors}


def test_get_prints_a_string_as_it_is_and_anything_else_in_json(run, file):
    assert run("get", file, "tokenizer.chat_template").stdout == TEMPLATE + "\n"
    assert run("get", file, "llama.block_count").stdout == "2\n"
    assert run("get", file, "tokenizer.ggml.add_bos_token").stdout == "true\n"
    assert run("get", file, "tokenizer.ggml.tokens").stdout == '["a", "é"]\n'


def test_get_in_json_has_the_type(run, file):
    said = json.loads(run("get", file, "tokenizer.ggml.tokens", "--json").stdout)
    assert said["schema_version"] == 1
    assert (said["type"], said["value"]) == ("string[]", ["a", "é"])


def test_a_key_that_is_not_there_is_an_error_with_the_nearest_one(run, file):
    for arguments in (("get",), ("rm",), ("set",)):
        value = ("1",) if arguments == ("set",) else ()
        result = run(*arguments, file, "llama.blok_count", *value, code=2)
        assert "has no key 'llama.blok_count'" in result.stderr
    assert "did you mean llama.block_count?" in run("get", file, "llama.blok_count", code=2).stderr
    assert "say of which type" in run("set", file, "new.key", "1", code=2).stderr


def test_set_keeps_type_place_and_tensors(run, file, model):
    before = bytes_of(file)
    run("set", file, "llama.block_count", "7")
    again = read_gguf(file)
    assert again.metadata == METADATA | {"llama.block_count": Value(Kind.UINT32, 7)}
    assert list(again.metadata) == list(METADATA)
    assert bytes_of(file) == before
    run("set", file, "llama.block_count", "2")
    write(file.with_name("fresh.gguf"), model)
    assert file.read_bytes() == file.with_name("fresh.gguf").read_bytes()


def test_a_new_key_of_a_type_comes_last_and_gguf_py_reads_it(run, file):
    run("set", file, "my.list", "[1, -2]", "--type", "int32[]", "--quiet")
    assert list(read_gguf(file).metadata)[-1] == "my.list"
    assert GGUFReader(file).get_field("my.list").contents() == [1, -2]


def test_rm_is_the_reverse_of_set(run, file):
    before = file.read_bytes()
    run("set", file, "x", "long " * 100, "--type", "string")
    assert file.read_bytes() != before
    said = json.loads(run("rm", file, "x", "--json").stdout)
    assert said["old"] == {"type": "string", "value": "long " * 100}
    assert said["new"] is None
    assert file.read_bytes() == before


def test_output_leaves_the_file_alone(run, file, tmp_path):
    before = file.read_bytes()
    other = tmp_path / "other.gguf"
    assert run("set", file, "llama.block_count", "3", "-o", other, "--quiet").stdout == f"{other}\n"
    assert file.read_bytes() == before
    assert read_gguf(other).metadata["llama.block_count"].value == 3


def test_alignment_moves_the_tensors(run, file):
    before = bytes_of(file)
    run("set", file, "general.alignment", "4096", "--type", "uint32")
    assert bytes_of(file) == before
    assert GGUFReader(file).tensors[1].data_offset % 4096 == 0
    for value, type_ in (("33", "uint32"), ("64", "int32"), ("64", "string")):
        assert "cannot be aligned" in run("set", file, "general.alignment", value, "--type", type_, code=2).stderr


@pytest.mark.parametrize("key", ["", "x" * 65536, "\udcff"])
def test_impossible_keys_are_refused(key, run, file):
    before = file.read_bytes()
    assert "is no key" in run("set", file, key, "1", "--type", "uint8", code=2).stderr
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("255", "uint8", Value(Kind.UINT8, 255)),
        ("-128", "int8", Value(Kind.INT8, -128)),
        ("18446744073709551615", "uint64", Value(Kind.UINT64, 2**64 - 1)),
        ("1", "float32", Value(Kind.FLOAT32, 1.0)),
        ("0.1", "float32", Value(Kind.FLOAT32, float(np.float32(0.1)))),
        ("0.1", "float64", Value(Kind.FLOAT64, 0.1)),
        ("false", "bool", Value(Kind.BOOL, False)),
        ("12", "string", Value(Kind.STRING, "12")),
        ("", "string", Value(Kind.STRING, "")),
        ("[]", "string[]", Value(Kind.ARRAY, [], Kind.STRING)),
        ('["a", ""]', "string[]", Value(Kind.ARRAY, ["a", ""], Kind.STRING)),
        ("[true]", "bool[]", Value(Kind.ARRAY, [True], Kind.BOOL)),
    ],
)
def test_a_text_becomes_a_value(text, type_, value):
    assert parse_value(text, type_) == value
    assert type_name(value) == type_


@pytest.mark.parametrize(
    ("text", "type_", "said"),
    [
        ("256", "uint8", "'256' is no uint8"),
        ("-1", "uint32", "'-1' is no uint32"),
        ("1.5", "int32", "'1.5' is no int32"),
        ("true", "int32", "'True' is no int32"),
        ("1", "bool", "'1' is no bool"),
        ("yes", "bool", "'yes' is no bool"),
        ("1e39", "float32", "'1e.39' is no float32"),
        ("NaN", "float64", "'nan' is no float64"),
        ("1" + "0" * 400, "float64", "'10+…' is no float64"),
        ("", "uint32", "'' is no uint32"),
        ("1", "uint32[]", r"'1' is no uint32\[\]"),
        ('[1, "2"]', "uint32[]", "'2' is no uint32"),
        ("[[1]]", "uint32[]", r"'\[1\]' is no uint32"),
        ("[" * 100_000, "uint32[]", "is no uint32"),
        ('["\\ud800"]', "string[]", "is no string in UTF-8"),
        ("\udcff", "string", "is no string in UTF-8"),
        ("1", "uint33", "unknown type 'uint33'"),
        ("1", "array", "unknown type 'array'"),
        ("[1]", "uint8[][]", "unknown type"),
    ],
)
def test_a_text_that_is_no_value_is_refused(text, type_, said):
    with pytest.raises(UsageError, match=said) as refused:
        parse_value(text, type_)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_split_and_merge_give_back_the_file(run, file, tmp_path):
    said = json.loads(run("split", file, tmp_path / "part", "--split-max-size", "1000", "--json").stdout)
    paths = [tmp_path / f"part-0000{i}-of-00002.gguf" for i in (1, 2)]
    assert [part["path"] for part in said["parts"]] == [str(path) for path in paths]
    assert [part["bytes"] for part in said["parts"]] == [path.stat().st_size for path in paths]
    assert [part["tensors"] for part in said["parts"]] == [2, 1]
    merged = tmp_path / "merged.gguf"
    assert run("merge", paths[1], merged, "--quiet").stdout == f"{merged}\n"
    assert merged.read_bytes() == file.read_bytes()


def test_a_dry_run_writes_no_part(run, file, tmp_path):
    said = json.loads(run("split", file, "--split-max-size", "1", "--dry-run", "--json").stdout)
    assert [part["path"] for part in said["parts"]] == [f"{tmp_path}/model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert list(tmp_path.iterdir()) == [file]


def test_parts_lie_beside_the_file_by_default(run, file, tmp_path):
    assert run("split", file, "--quiet").stdout == f"{tmp_path / 'model-00001-of-00001.gguf'}\n"
    assert (tmp_path / "model-00001-of-00001.gguf").exists()


@pytest.mark.parametrize("text", ["", "0", "-1M", "1.5G", "many", "9" * 17])
def test_sizes_are_numbers_with_a_unit(text, run, file):
    assert "is no size" in run("split", file, "--split-max-size", text, code=2).stderr


def test_merge_wants_a_split_model(run, file, tmp_path):
    assert "is not split" in run("merge", file, tmp_path / "x.gguf", code=2).stderr


@pytest.mark.parametrize("arguments", [("get", "x"), ("rm", "x"), ("set", "x", "1"), ("split",), ("merge", "out")])
def test_what_is_no_gguf_is_refused(arguments, run, tmp_path):
    name, *rest = arguments
    (tmp_path / "x.txt").write_text("no model, but text")
    assert "is not a GGUF file" in run(name, tmp_path / "x.txt", *rest, code=3).stderr
    assert "cannot read" in run(name, tmp_path / "nothing.gguf", *rest, code=3).stderr
    assert "is a directory" in run(name, tmp_path, *rest, code=3).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
